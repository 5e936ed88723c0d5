"""Slots: the old release or the new one, whatever happens."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgekit_device import slots
from edgekit_device.bundle import open_bundle
from edgekit_device.contract.errors import (
    BadSignatureError,
    DanglingSlotError,
    NoPreviousSlotError,
    SlotBusyError,
    SlotConflictError,
    SlotDiskError,
    SlotFullError,
    UnknownSlotError,
    UnsignedBundleError,
    UntrustedKeyError,
)
from edgekit_device.releases import releases_to_drop
from tests.worlds.bundles import Signer
from tests.worlds.disks import BAD_DISK, NO_SPACE, FailingDisk, FullDisk, PowerCut


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    return Signer.make(tmp_path / "keys")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "opt" / "edgekit"


class Shop:
    """Makes and installs versions."""

    def __init__(self, root: Path, signer: Signer, folder: Path) -> None:
        self.root, self.signer, self.folder = root, signer, folder

    def bundle(self, version: str, model: bytes = b"model") -> Path:
        # Signed once: a signature holds the time, so signing again gives other bytes.
        path = self.folder / model.decode() / f"toy-{version}.edgekit"
        return path if path.exists() else self.signer.bundle(path.parent, version=version, model=model)

    def install(self, version: str, **more: object) -> slots.Slot:
        return slots.install(self.root, self.bundle(version), [self.signer.public], **more)  # type: ignore[arg-type]


@pytest.fixture
def shop(root: Path, signer: Signer, tmp_path: Path) -> Shop:
    return Shop(root, signer, tmp_path)


def snapshot(root: Path) -> dict[str, bytes | str]:
    """Every name below root with its content; links with their target."""
    found: dict[str, bytes | str] = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if name == ".lock":
            continue
        found[name] = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else "folder"
    return found


def whole(root: Path, signer: Signer) -> set[str]:
    """Names of all releases, after checking each one's signature and digests."""
    names = set()
    for slot in slots.list_slots(root):
        bundle, _ = open_bundle(slot.bundle_path, [signer.public])
        assert bundle.manifest.bundle_id == slot.bundle_id
        names.add(slot.bundle_id)
    return names


def leftovers(root: Path) -> list[str]:
    return [str(path) for path in root.rglob(".new-*")]


def test_an_installed_bundle_is_current_as_it_was_signed(shop: Shop, root: Path, signer: Signer) -> None:
    slot = shop.install("1.0.0")
    assert slots.current(root) == slot
    assert slot.bundle_path.read_bytes() == shop.bundle("1.0.0").read_bytes()
    assert (root / "current" / "bundle.edgekit.minisig").is_file()
    assert os.readlink(root / "current") == "releases/toy-1.0.0"
    assert whole(root, signer) == {"toy-1.0.0"}
    assert slots.previous(root) is None


def test_at_most_three_releases_stay_and_never_without_current_and_previous(shop: Shop, root: Path) -> None:
    for number in range(6):
        shop.install(f"1.0.{number}")
        names = {slot.bundle_id for slot in slots.list_slots(root)}
        assert len(names) <= 3
        assert f"toy-1.0.{number}" in names
    assert names == {"toy-1.0.3", "toy-1.0.4", "toy-1.0.5"}
    assert slots.rollback(root).bundle_id == "toy-1.0.4"
    shop.install("2.0.0")
    assert {slot.bundle_id for slot in slots.list_slots(root)} == {"toy-1.0.4", "toy-1.0.5", "toy-2.0.0"}


def test_what_goes_is_what_was_entered_longest_ago() -> None:
    entered = {"a-1.0.0": 5, "b-1.0.0": 1, "c-1.0.0": 3, "d-1.0.0": 4, "e-1.0.0": 2}
    assert releases_to_drop(entered, "b-1.0.0", "e-1.0.0") == ["c-1.0.0", "d-1.0.0"]
    assert releases_to_drop(entered, None, None, keep=5) == []


def test_rollback_goes_back_and_forth(shop: Shop, root: Path) -> None:
    shop.install("1.0.0")
    with pytest.raises(NoPreviousSlotError):
        slots.rollback(root)
    shop.install("1.0.1")
    assert slots.rollback(root).bundle_id == "toy-1.0.0"
    assert slots.current(root) == slots.list_slots(root)[0]
    assert slots.rollback(root).bundle_id == "toy-1.0.1"


def test_a_held_release_may_be_entered_again_and_an_unknown_one_is_named(shop: Shop, root: Path) -> None:
    for version in ("1.0.0", "1.0.1", "1.0.2"):
        shop.install(version)
    assert slots.switch(root, "toy-1.0.0").bundle_id == "toy-1.0.0"
    before = slots.previous(root)
    assert before is not None
    assert before.bundle_id == "toy-1.0.2"
    with pytest.raises(UnknownSlotError, match=r"holds: toy-1\.0\.0"):
        slots.switch(root, "toy-9.9.9")
    with pytest.raises(UnknownSlotError):
        slots.switch(root, "../../etc")


def test_the_same_bytes_again_change_nothing(shop: Shop, root: Path) -> None:
    shop.install("1.0.0")
    shop.install("1.0.1")
    before = snapshot(root)
    disk = FailingDisk()
    shop.install("1.0.1", disk=disk)
    assert snapshot(root) == before
    assert disk.made == []


def test_other_bytes_under_the_same_version_are_refused(shop: Shop, root: Path, signer: Signer) -> None:
    shop.install("1.0.0")
    before = snapshot(root)
    with pytest.raises(SlotConflictError, match=r"toy-1\.0\.0 is installed with other bytes"):
        slots.install(root, shop.bundle("1.0.0", b"other"), [signer.public])
    assert snapshot(root) == before


def test_a_release_damaged_on_the_card_is_mended_by_installing_it_again(shop: Shop, root: Path, signer: Signer) -> None:
    slot = shop.install("1.0.0")
    data = bytearray(slot.bundle_path.read_bytes())
    data[100] ^= 1
    slot.bundle_path.write_bytes(data)
    shop.install("1.0.0")
    assert whole(root, signer) == {"toy-1.0.0"}


def test_a_new_signature_over_the_same_bytes_takes_the_place_of_the_old(shop: Shop, root: Path, tmp_path: Path) -> None:
    shop.install("1.0.0")
    newer = Signer.make(tmp_path / "keys", "newer")
    path = shop.bundle("1.0.0")
    newer.sign(path)
    slots.install(root, path, [newer.public])
    assert whole(root, newer) == {"toy-1.0.0"}


def test_unsigned_foreign_and_changed_bundles_leave_no_trace(
    shop: Shop, root: Path, signer: Signer, tmp_path: Path
) -> None:
    shop.install("1.0.0")
    before = snapshot(root)
    unsigned, foreign, changed = shop.bundle("2.0.0"), shop.bundle("2.0.1"), shop.bundle("2.0.2")
    unsigned.with_name(unsigned.name + ".minisig").unlink()
    Signer.make(tmp_path / "keys", "foreign").sign(foreign)
    changed.write_bytes(changed.read_bytes()[:-1] + b"x")
    for path, error in ((unsigned, UnsignedBundleError), (foreign, UntrustedKeyError), (changed, BadSignatureError)):
        with pytest.raises(error):
            slots.install(root, path, [signer.public])
    assert snapshot(root) == before


def test_two_installers_at_once_are_refused_by_name(shop: Shop, root: Path) -> None:
    shop.install("1.0.0")
    script = (
        "import sys; from pathlib import Path; from edgekit_device import slots\n"
        "class Slow(slots.Disk):\n"
        "    def rename(self, *paths): print('inside', flush=True); sys.stdin.read(); super().rename(*paths)\n"
        "slots.install(Path(sys.argv[1]), Path(sys.argv[2]), [Path(sys.argv[3])], disk=Slow())\n"
    )
    arguments = [str(root), str(shop.bundle("1.0.1")), str(shop.signer.public)]
    command = [sys.executable, "-c", script, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "inside\n"
        for attempt in (lambda: shop.install("1.0.2"), lambda: slots.rollback(root), lambda: slots.recover(root)):
            with pytest.raises(SlotBusyError, match="another install or rollback is running"):
                attempt()
        other.communicate("")
    assert slots.current(root) == slots.list_slots(root)[0]
    assert shop.install("1.0.2").bundle_id == "toy-1.0.2"


def test_a_dangling_current_is_named_and_mended(shop: Shop, root: Path) -> None:
    for version in ("1.0.0", "1.0.1", "1.0.2"):
        shop.install(version)
    slots.switch(root, "toy-1.0.0")
    slots.switch(root, "toy-1.0.2")
    remove(root / "releases" / "toy-1.0.2")
    with pytest.raises(DanglingSlotError, match=r"names toy-1\.0\.2"):
        slots.current(root)
    mended = slots.recover(root)
    assert mended is not None
    assert mended.bundle_id == "toy-1.0.0"  # The one that served last.
    for version in ("1.0.0", "1.0.1"):
        remove(root / "releases" / f"toy-{version}")
    assert slots.recover(root) is None
    assert not (root / "current").is_symlink()


def remove(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


def test_no_room_is_known_beforehand(shop: Shop, root: Path) -> None:
    shop.install("1.0.0")
    before = snapshot(root)
    with pytest.raises(SlotFullError, match="bytes needed") as caught:
        shop.install("1.0.1", disk=FullDisk(1000))
    assert caught.value.free_bytes == 1000
    assert snapshot(root) == before


def test_a_folder_that_may_not_be_written_is_a_named_error(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "opt").write_text("a file where the folder should be")
    with pytest.raises(SlotDiskError, match=r"Not a directory|File exists"):
        shop.install("1.0.0")


STATES = {
    "an empty board": ([], "toy-2.0.0", []),
    "a board with one release": (["1.0.0"], "toy-2.0.0", ["toy-1.0.0"]),
    "a board that is full": (["1.0.0", "1.0.1", "1.0.2"], "toy-2.0.0", ["toy-1.0.1", "toy-1.0.2"]),
    "a board that holds it already": (["2.0.0", "1.0.1"], "toy-2.0.0", ["toy-1.0.1"]),
}


def calls_of_install(shop: Shop) -> list[str]:
    disk = FailingDisk()
    shop.install("2.0.0", disk=disk)
    return disk.made


def fresh(shop: Shop, root: Path, number: int, versions: list[str]) -> Shop:
    template = Shop(root / "template", shop.signer, shop.folder)
    if not template.root.exists():
        template.root.mkdir(parents=True)
        for version in versions:
            template.install(version)
    board = Shop(root / str(number), shop.signer, shop.folder)
    shutil.copytree(template.root, board.root, symlinks=True)
    return board


@pytest.mark.parametrize("state", STATES)
def test_power_cut_at_every_call_leaves_old_or_new_and_the_next_install_converges(
    state: str, shop: Shop, root: Path, signer: Signer
) -> None:
    versions, new, kept = STATES[state]
    calls = calls_of_install(fresh(shop, root, 0, versions))
    old = f"toy-{versions[-1]}" if versions else None
    for at in range(len(calls)):
        board = fresh(shop, root, at + 1, versions)
        with pytest.raises(PowerCut):
            board.install("2.0.0", disk=FailingDisk(at))
        serving = slots.current(board.root)
        name = serving.bundle_id if serving else None
        assert name in (old, new), f"cut at call {at} ({calls[at]})"
        before = slots.previous(board.root)
        if name == new and old:
            assert before is not None
            assert before.bundle_id == old
        names = whole(board.root, signer)
        assert name is None or name in names
        recovered = slots.recover(board.root)
        assert (recovered.bundle_id if recovered else None) == name
        assert leftovers(board.root) == []
        assert len(slots.list_slots(board.root)) <= 3
        assert board.install("2.0.0").bundle_id == new
        assert slots.current(board.root) == slots.list_slots(board.root)[0]
        assert whole(board.root, signer) >= {new, *kept}
        assert leftovers(board.root) == []


@pytest.mark.parametrize("state", STATES)
def test_power_cut_at_every_call_of_a_rollback_leaves_either_release(
    state: str, shop: Shop, root: Path, signer: Signer
) -> None:
    versions = STATES[state][0]
    if len(versions) < 2:
        return
    probe = FailingDisk()
    slots.rollback(fresh(shop, root, 0, versions).root, disk=probe)
    for at in range(len(probe.made)):
        board = fresh(shop, root, at + 1, versions)
        with pytest.raises(PowerCut):
            slots.rollback(board.root, disk=FailingDisk(at))
        serving, before = slots.current(board.root), slots.previous(board.root)
        assert serving is not None
        assert before is not None
        assert {serving.bundle_id, before.bundle_id} == {f"toy-{version}" for version in versions[-2:]}
        whole(board.root, signer)


@pytest.mark.parametrize("error", [NO_SPACE, BAD_DISK], ids=["no space", "input/output error"])
@pytest.mark.parametrize("state", STATES)
def test_an_error_at_every_call_is_named_and_leaves_everything_as_it_was(
    state: str, error: int, shop: Shop, root: Path, signer: Signer
) -> None:
    versions, new, _ = STATES[state]
    calls = calls_of_install(fresh(shop, root, 0, versions))
    # After this rename the new release serves: what fails later is reported, and the next install finishes it.
    commit = max(i for i, name in enumerate(calls) if name == "symlink") + 1
    for at in range(len(calls)):
        board = fresh(shop, root, at + 1, versions)
        before, serving = visible(board.root), slots.current(board.root)
        with pytest.raises(SlotFullError if error == NO_SPACE else SlotDiskError):
            board.install("2.0.0", disk=FailingDisk(at, error))
        if at <= commit:
            assert slots.current(board.root) == serving, f"failed at call {at} ({calls[at]})"
            assert visible(board.root) == before, f"failed at call {at} ({calls[at]})"
        whole(board.root, signer)
        board.install("2.0.0")
        now = slots.current(board.root)
        assert now is not None
        assert now.bundle_id == new
        assert leftovers(board.root) == []


def visible(root: Path) -> dict[str, bytes | str]:
    """What a reader can tell: the mark inside a release that does not serve says nothing yet."""
    found = snapshot(root)
    return {name: what for name, what in found.items() if not name.endswith("/previous") and name != "releases"}


def test_every_content_is_synced_before_its_rename_and_every_name_after_it(shop: Shop, root: Path) -> None:
    shop.install("1.0.0")
    calls = [name for name in calls_of_install(shop) if name in ("write", "fsync", "rename")]
    renames = [i for i, name in enumerate(calls) if name == "rename"]
    assert len(renames) == 3  # The release, the mark of what was before, current.
    for i, name in enumerate(calls):
        if name in ("write", "rename"):
            assert calls[i + 1] == "fsync", f"nothing is synced after call {i} of {calls}"
    first = calls[: renames[0]]
    assert first.count("fsync") == 3  # Bundle, signature, and the folder that holds their names.


KILLED = """
import sys
from pathlib import Path
from edgekit_device import slots
slots.install(Path(sys.argv[1]), Path(sys.argv[2]), [Path(sys.argv[3])])
"""


@pytest.mark.parametrize("call", ["fsync", "/^rename", "/^symlink"])
def test_a_process_killed_inside_a_real_system_call_leaves_old_or_new(
    call: str, shop: Shop, root: Path, signer: Signer
) -> None:
    if shutil.which("strace") is None:
        message = "needs strace; install it with: apt install strace"
        pytest.fail(message) if os.environ.get("EDGEKIT_REQUIRE") == "all" else pytest.skip(message)
    shop.install("1.0.0")
    for number in range(1, 12):
        board = fresh(shop, root, number, ["1.0.0"])
        arguments = [str(board.root), str(board.bundle("2.0.0")), str(signer.public)]
        inject = f"inject={call}:signal=KILL:when={number}"
        command = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", inject]
        done = subprocess.run([*command, sys.executable, "-c", KILLED, *arguments], capture_output=True, text=True)
        serving = slots.current(board.root)
        assert serving is not None
        assert serving.bundle_id in ("toy-1.0.0", "toy-2.0.0")
        whole(board.root, signer)
        assert board.install("2.0.0").bundle_id == "toy-2.0.0"
        assert leftovers(board.root) == []
        if done.returncode == 0:
            break
    else:
        pytest.fail("the install never got through")
    assert number > 1, done.stderr

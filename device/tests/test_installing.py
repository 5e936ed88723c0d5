"""`edgekit-device install` and `rollback`: proved before it is entered, and never below a floor that was reached."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import minisign
import pytest

from edgekit_device import slots
from edgekit_device.bundle import Bundle, open_bundle, trusted_keys
from edgekit_device.cli import main
from edgekit_device.contract.archive import write_archive
from edgekit_device.contract.errors import (
    FieldError,
    RuntimeTooOldError,
    SchemaError,
    SecurityEpochError,
    SelfTestError,
    SlotConflictError,
    UntrustedKeyError,
)
from edgekit_device.epoch import floor
from edgekit_device.requirements import check_requirements
from edgekit_device.selftest import self_test
from tests.worlds.bundles import Signer, bundle_bytes
from tests.worlds.disks import FailingDisk, PowerCut


@pytest.fixture
def board(workshop, tmp_path) -> Path:
    """A board's root with the workshop's public key."""
    keys = tmp_path / "board" / "etc" / "edgekit" / "keys"
    keys.mkdir(parents=True)
    (keys / "a.pub").write_bytes(workshop.public.read_bytes())
    return tmp_path / "board"


@pytest.fixture
def made(workshop, tmp_path) -> Callable[..., Path]:
    """Write a signed bundle: `files` replace entries, other words change the manifest."""

    def make(version: str = "1.0.0", files: dict[str, bytes] | None = None, **changes: object) -> Path:
        data = write_archive(workshop.entries({**workshop.files, **(files or {})}, version=version, **changes))
        return workshop.write(tmp_path / f"toy-{version}.edgekit", data)

    return make


def serving(board: Path) -> str | None:
    slot = slots.current(board / "opt" / "edgekit")
    return slot.bundle_id if slot else None


def run(*words: object) -> int:
    return main([str(word) for word in words])


def test_install_proves_and_enters_rollback_goes_back_and_status_says_so(board, made, capsys) -> None:
    assert run("install", made("1.0.0"), "--root", board) == 0
    assert "4 golden images reproduced on xnnpack" in capsys.readouterr().out
    assert run("install", made("1.0.1"), "--root", board, "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["bundle"], answer["previous"], answer["self_test"]["rung"]) == ("toy-1.0.1", "toy-1.0.0", "xnnpack")
    assert run("status", "--root", board, "--json") == 1
    held = json.loads(capsys.readouterr().out)["slots"]
    assert held == {
        "current": "toy-1.0.1",
        "previous": "toy-1.0.0",
        "held": ["toy-1.0.1", "toy-1.0.0"],
        "security_epoch": 0,
        "problem": None,
        "verdicts": {},
    }
    assert run("rollback", "--root", board) == 0
    assert serving(board) == "toy-1.0.0"
    run("status", "--root", board)
    assert "releases: toy-1.0.0 (current, on trial), toy-1.0.1 (previous, on trial)" in capsys.readouterr().out
    assert run("install", made("1.0.0"), "--root", board) == 0
    assert "current already" in capsys.readouterr().out


def test_a_model_that_fails_on_every_rung_is_refused_and_the_old_one_stays(board, made, workshop, capsys) -> None:
    run("install", made("1.0.0"), "--root", board)
    golden = json.loads(workshop.files["golden/expected.json"])
    golden["scores"]["00.png"] = golden["scores"]["01.png"]
    forged = json.dumps(golden).encode()
    for version, files in {
        "2.0.0": {"golden/expected.json": forged},
        "2.0.1": {"model.tflite": workshop.files["model.tflite"][:2000]},
    }.items():
        assert run("install", made(version, files), "--root", board) == 3
        said = capsys.readouterr().err
        assert "failed its self-test on every rung" in said and "xnnpack: " in said and "builtin: " in said
        assert serving(board) == "toy-1.0.0"
        assert [slot.bundle_id for slot in slots.list_slots(board / "opt" / "edgekit")] == ["toy-1.0.0"]
    assert run("install", made("2.0.2"), "--root", board) == 0


def test_a_self_test_that_hangs_or_eats_the_memory_is_named(made, workshop, monkeypatch) -> None:
    bundle, data = open_bundle(made(), [workshop.public])
    with pytest.raises(SelfTestError, match="xnnpack: hung: no answer within 0 s; builtin: hung"):
        self_test(bundle, data, deadline_s=0.01)
    monkeypatch.setattr("edgekit_device.selftest.MEMORY_BYTES", 1 << 20)
    with pytest.raises(SelfTestError) as caught:
        self_test(bundle, data)
    assert set(caught.value.reasons) == {"xnnpack", "builtin"}


def test_a_rollback_to_a_damaged_release_or_a_dropped_key_is_refused(board, made, workshop) -> None:
    place = board / "opt" / "edgekit"
    run("install", made("1.0.0"), "--root", board)
    run("install", made("1.0.1"), "--root", board)
    other = minisign.KeyPair.generate()
    (board / "etc" / "edgekit" / "keys" / "a.pub").write_bytes(bytes(other.public_key))
    assert run("rollback", "--root", board) == 1
    assert serving(board) == "toy-1.0.1"
    (board / "etc" / "edgekit" / "keys" / "a.pub").write_bytes(workshop.public.read_bytes())
    old = place / "releases" / "toy-1.0.0" / "bundle.edgekit"
    old.write_bytes(old.read_bytes()[:-1])
    assert run("rollback", "--root", board) == 1
    assert serving(board) == "toy-1.0.1"


def test_a_bundle_for_a_newer_runtime_is_refused_with_the_command_that_brings_it(board, made, workshop, capsys) -> None:
    path = made(requires={"runtime": "99.1.0", "schema": 1})
    assert run("install", path, "--root", board) == 1
    assert "pip install --upgrade 'edgekit-device>=99.1.0'" in capsys.readouterr().err
    assert serving(board) is None
    with pytest.raises(RuntimeTooOldError):
        open_bundle(path, [workshop.public])
    with pytest.raises(SchemaError, match="schema 2"):
        open_bundle(made("1.0.1", requires={"schema": 2}), [workshop.public])
    for wrong in ({"runtime": "soon"}, {"runtime": 1}, {"schema": "1"}):
        with pytest.raises(FieldError, match="requires"):
            open_bundle(made("1.0.2", requires=wrong), [workshop.public])


@pytest.mark.parametrize(
    ("runtime", "fits"), [("1.9.9", False), ("1.10.0", True), ("1.10.0.dev3", True), ("2.0", True)]
)
def test_versions_are_compared_as_numbers(made, workshop, runtime: str, fits: bool) -> None:
    manifest = open_bundle(made(), [workshop.public])[0].manifest
    needy = type(manifest)(**{**vars(manifest), "requires": {"runtime": "1.10.0"}})
    if fits:
        check_requirements(needy, runtime=runtime)
        return
    with pytest.raises(RuntimeTooOldError):
        check_requirements(needy, runtime=runtime)


def test_a_release_for_a_newer_runtime_is_not_overwritten(tmp_path, made, workshop, monkeypatch) -> None:
    """The runtime was taken back: the release is whole, and not ours to replace by other bytes."""
    root = tmp_path / "slots"
    with monkeypatch.context() as newer:
        newer.setattr("edgekit_device.slots.check_requirements", lambda _: None)
        slots.install(root, made(requires={"runtime": "99.0.0"}), [workshop.public])
    with pytest.raises(SlotConflictError):
        slots.install(root, made(), [workshop.public])


# -- the security epoch


class Line:
    """Installs versions of given epochs."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.signer, self.root = folder, Signer.make(folder / "keys"), folder / "slots"

    def bundle(self, version: str, epoch: int) -> Path:
        path = self.folder / f"toy-{version}.edgekit"
        if not path.exists():
            path.write_bytes(bundle_bytes("toy", version, b"model" * 50, epoch))
            self.signer.sign(path)
        return path

    def install(self, version: str, epoch: int, **more: object) -> str:
        return slots.install(self.root, self.bundle(version, epoch), [self.signer.public], **more).bundle_id  # type: ignore[arg-type]


@pytest.fixture
def line(tmp_path: Path) -> Line:
    return Line(tmp_path)


def test_a_lower_epoch_is_not_installed_and_what_is_held_may_be_entered(line: Line) -> None:
    line.install("1.0.0", 1)
    line.install("2.0.0", 3)
    with pytest.raises(SecurityEpochError, match="security epoch 2, and this board has entered 3"):
        line.install("2.0.1", 2)
    assert slots.rollback(line.root).bundle_id == "toy-1.0.0"
    assert floor(line.root) == 3
    with pytest.raises(SecurityEpochError):
        line.install("2.0.1", 2)
    # The same bytes that the board holds: entered again, not installed.
    assert slots.switch(line.root, "toy-2.0.0").bundle_id == "toy-2.0.0"
    assert line.install("1.0.0", 1) == "toy-1.0.0"
    assert line.install("2.0.2", 3) == "toy-2.0.2"


def test_the_floor_outlives_the_release_that_raised_it(line: Line) -> None:
    line.install("1.0.0", 7)
    for number in range(1, 5):
        line.install(f"1.0.{number}", 7)
    assert "toy-1.0.0" not in {slot.bundle_id for slot in slots.list_slots(line.root)}
    with pytest.raises(SecurityEpochError):
        line.install("9.0.0", 6)
    (line.root / "security_epoch").write_bytes(b"\xff\0 damaged")
    with pytest.raises(SecurityEpochError):
        line.install("9.0.0", 6)
    line.install("9.0.1", 8)
    assert floor(line.root) == 8


def test_a_refused_or_unfinished_install_raises_no_floor_and_an_entered_one_always_does(line: Line) -> None:
    def refuse(_: Bundle, __: bytes) -> None:
        raise SelfTestError("toy-5.0.0", {})

    line.install("1.0.0", 1)
    with pytest.raises(SelfTestError):
        line.install("5.0.0", 5, trial=refuse)
    assert floor(line.root) == 1
    at, entered = 0, False
    while True:
        board = Line(line.folder / f"cut-{at}")
        board.install("1.0.0", 1)
        try:
            board.install("5.0.0", 5, disk=FailingDisk(at))
        except PowerCut:
            slots.recover(board.root)
            now = slots.current(board.root)
            assert now is not None
            assert floor(board.root) == (5 if now.bundle_id == "toy-5.0.0" else 1), f"cut at call {at}"
            entered, at = entered or now.bundle_id == "toy-5.0.0", at + 1
            continue
        break
    assert entered and at > 20


# -- keys


def test_two_keys_count_a_third_does_not_and_a_dropped_one_no_more(board, tmp_path) -> None:
    """A rotation: the new key is added beside the old one, then the old one goes."""
    keys, place = board / "etc" / "edgekit" / "keys", board / "opt" / "edgekit"
    (keys / "a.pub").unlink()
    signers = {name: Signer.make(tmp_path / "signers", name) for name in ("old", "new", "third")}
    paths = {name: s.bundle(tmp_path / name, version=f"1.0.{i}") for i, (name, s) in enumerate(signers.items())}

    def install(name: str) -> str:
        return slots.install(place, paths[name], trusted_keys(board_keys=keys)).bundle_id

    for name in ("old", "new"):
        (keys / f"{name}.pub").write_bytes(signers[name].public.read_bytes())
    assert install("old") == "toy-1.0.0"
    assert install("new") == "toy-1.0.1"
    with pytest.raises(UntrustedKeyError):
        install("third")
    (keys / "old.pub").unlink()
    with pytest.raises(UntrustedKeyError):
        install("old")
    assert install("new") == "toy-1.0.1"
    assert serving(board) == "toy-1.0.1"


def test_what_is_tried_is_what_was_signed(board, made, workshop) -> None:
    """The trial gets the bytes, not the path: a file swapped after the check changes nothing."""
    path, place = made(), board / "opt" / "edgekit"
    signed = path.read_bytes()

    def swap(_: Bundle, data: bytes) -> None:
        assert data == signed
        path.write_bytes(b"evil")

    slot = slots.install(place, path, [workshop.public], trial=swap)
    assert slot.bundle_path.read_bytes() == signed

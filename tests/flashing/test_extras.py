"""What comes with a board: its membership in a fleet, and the library of a Coral. Real mosquitto, real dpkg."""

from __future__ import annotations

import json
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgekit.enlisting import FleetMembership
from edgekit.flashing.errors import LibraryError
from edgekit.flashing.flashed import Flashed, Options
from edgekit.flashing.libedgetpu import RULE, RULE_TEXT, read_package
from edgekit.flashing.procedure import flash_all, prepare
from edgekit.flashing.targets import parse_target
from edgekit.publishing.keys import UpdateKeys
from edgekit.publishing.repository import Repository
from edgekit.trust.registry import REVOKED
from edgekit_device.ota.depot import unprepared
from edgekit_device.settings import read_device_toml
from tests.worlds.flash_desk import SETTINGS, Desk, untouched
from tests.worlds.ssh_boards import Flaws, SshWorld, require_boards, ssh_board
from tests.worlds.trusted_fleet import World, trusted_fleet


@pytest.fixture(autouse=True, scope="module")
def _boards() -> None:
    require_boards()


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    return Desk(tmp_path_factory.mktemp("desk"))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshWorld]:
    with ssh_board(tmp_path_factory.mktemp("board"), Flaws(apt=True)) as made:
        yield made


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, require_tool: Callable[[str, str], str]) -> Iterator[World]:
    require_tool("mosquitto", "apt install mosquitto")
    with trusted_fleet(tmp_path_factory.mktemp("fleet")) as made:
        yield made


def package(folder: Path, name: str = "libedgetpu1-std", architecture: str = "") -> Path:
    """A package of the form of libedgetpu's, made by dpkg-deb."""
    made = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True, check=True).stdout.strip()
    tree = folder / name
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "usr/lib/edgetpu-test").mkdir(parents=True)
    (tree / "usr/lib/edgetpu-test/libedgetpu.so.1").write_bytes(b"\x7fELF no library")
    (tree / "DEBIAN/control").write_text(
        f"Package: {name}\nVersion: 16.0tf2.19.1-1\nArchitecture: {architecture or made}\n"
        "Maintainer: nobody <nobody@example.org>\nDescription: test\n"
    )
    path = folder / f"{name}.deb"
    subprocess.run(
        ["dpkg-deb", "-Zxz", "--root-owner-group", "-b", str(tree), str(path)], check=True, capture_output=True
    )
    return path


def flash(desk: Desk, world: SshWorld, fleet: World | None, library: Path | None, *, remove: bool = False) -> Flashed:
    config = desk.place / "ssh_config"
    config.write_text(f"IdentityFile {world.key}\n")
    joined = FleetMembership(fleet.fleet, updates=desk.place / "updates") if fleet else None
    options = Options(remove=remove, ssh_config=str(config), known_hosts=desk.place / "known_hosts", leaves=joined)
    wanted = None
    if not remove:
        wanted = prepare(
            desk.bundle("1.0.0"),
            public_key=desk.signer.public,
            settings={**SETTINGS, "id": "porch"},
            fleet=joined,
            wheels=desk.place / "wheels",
            package=library,
            wait_s=240.0,
        )
    (done,) = flash_all(wanted, [parse_target(world.url())], options)
    if done.error is not None:
        raise done.error
    return done


def test_a_flashed_board_is_a_member_with_a_key_of_its_own_and_has_the_library_of_a_coral(
    desk: Desk, world: SshWorld, fleet: World, tmp_path: Path
) -> None:
    library = package(tmp_path)
    repository = Repository(desk.place / "updates", UpdateKeys(tmp_path / "update-keys"))
    repository.create()
    repository.renew()
    done = flash(desk, world, fleet, library)
    assert any("enrol as home.porch" in change for change in done.changes)
    assert any("TensorFlow 2.19" in word for word in done.warnings)
    identity = world.root / "var/lib/edgekit/identity"
    for name in ("credentials.json", "board.pem"):
        about = (identity / name).stat()
        assert stat.S_IMODE(about.st_mode) == 0o600
        assert about.st_uid == (world.root / "var/lib/edgekit").stat().st_uid != 0
    assert [member.account.name for member in fleet.fleet.registry.members() if member.account.role == "board"] == [
        "home.porch"
    ]
    said = json.loads((world.root / "run/edgekit/status.json").read_text())
    assert said["reading"]["device"] == "porch"
    assert (world.root / "usr/lib/edgetpu-test/libedgetpu.so.1").read_bytes().startswith(b"\x7fELF")
    assert (world.root / RULE.lstrip("/")).read_text() == RULE_TEXT
    groups = (world.root / "etc/group").read_text().splitlines()
    assert any(line.startswith("plugdev:") and "edgekit" in line for line in groups)
    # It can update over the air without another hand.
    root = world.root / "etc/edgekit/updates/root.json"
    assert root.read_bytes() == repository.root_bytes()
    assert (root.stat().st_uid, stat.S_IMODE(root.stat().st_mode)) == (0, 0o644)
    settings = read_device_toml(world.root / "etc/edgekit/device.toml")
    assert unprepared(world.root, str(settings["updates"])) is None
    assert settings["updates"] == f"https://{fleet.fleet.settings.url_host}:8080/updates/"
    assert flash(desk, world, fleet, library).changes == ()
    # A later root of the same repository is found from the one that it has.
    repository.rotate("root")
    assert flash(desk, world, fleet, library).changes == ()


def test_a_board_that_is_taken_down_is_revoked(desk: Desk, world: SshWorld, fleet: World) -> None:
    done = flash(desk, world, fleet, None, remove=True)
    assert any(change.startswith("revoke home.porch") for change in done.changes)
    (member,) = [m for m in fleet.fleet.registry.members() if m.account.name == "home.porch"]
    assert member.state == REVOKED
    assert untouched(world)


def test_what_is_no_libedgetpu_package_is_refused_before_any_board_is_asked(tmp_path: Path) -> None:
    wrong = tmp_path / "x.deb"
    wrong.write_bytes(b"!<arch>\nhalf")
    with pytest.raises(LibraryError, match="not a Debian package"):
        read_package(wrong)
    with pytest.raises(LibraryError, match="not of libedgetpu"):
        read_package(package(tmp_path, "hello"))


def test_a_package_for_another_processor_is_refused(desk: Desk, world: SshWorld, tmp_path: Path) -> None:
    with pytest.raises(LibraryError, match="is for riscv64"):
        flash(desk, world, None, package(tmp_path, architecture="riscv64"))
    assert untouched(world)

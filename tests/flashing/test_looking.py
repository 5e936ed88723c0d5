"""`edgekit doctor device` and `edgekit capture`, on boards of this machine with sshd, users and disks of their own."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edgekit.errors import EdgeKitError, UsageError
from edgekit.flashing.errors import BoardError, LinkLostError, UnreachableError
from edgekit.flashing.flashed import Options
from edgekit.flashing.looking import _finding, bring_pictures, examine
from edgekit.flashing.targets import FolderTarget, parse_target
from tests.conftest import require
from tests.worlds.boards import eventually
from tests.worlds.flash_desk import CutLink, Desk
from tests.worlds.ssh_boards import SshWorld, require_boards, ssh_board

require("asyncssh", "pip install 'edgekit[flash]'")


@pytest.fixture(scope="module")
def flashed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SshWorld, Options]]:
    """A board with a running service, and how to log in."""
    require_boards()
    place = tmp_path_factory.mktemp("looking")
    (place / "board").mkdir()
    (place / "desk").mkdir()
    desk = Desk(place / "desk")
    with ssh_board(place / "board") as world:
        desk.one(desk.bundle("1.0.0"), world)
        config = place / "desk/ssh_config"
        yield world, Options(ssh_config=str(config), known_hosts=place / "desk/known_hosts")


def test_both_sides_of_a_board_are_told(flashed: tuple[SshWorld, Options]) -> None:
    world, options = flashed
    found = examine(parse_target(world.url()), options)
    assert {finding.check for finding in found.host} >= {"login", "system", "clock", "runtime"}
    assert next(f for f in found.host if f.check == "runtime").state == "ok"
    # What the board itself says there, on the same disk.
    assert len(found.board) > 5
    assert all(finding.state in ("ok", "warn", "fail", "unknown") for finding in found.board)


def test_pictures_come_home_and_the_service_runs_again(flashed: tuple[SshWorld, Options], tmp_path: Path) -> None:
    world, options = flashed
    done = bring_pictures(parse_target(world.url()), tmp_path / "home", 3, seconds=60, options=options)
    assert done.paused and 1 <= len(done.pictures) <= 3
    for name in done.pictures:
        assert (tmp_path / "home" / name).read_bytes()[:2] == b"\xff\xd8"
    lines = (tmp_path / "home/manifest.jsonl").read_text().splitlines()
    assert {json.loads(line)["file"] for line in lines} == set(done.pictures)
    assert not (world.root / "var/lib/edgekit/album").exists()
    check = examine(parse_target(world.url()), options)
    assert check.board


def runs(world: SshWorld) -> bool:
    """Whether the pid-file service of a board is alive."""
    try:
        pid = (world.root / "run/edgekit/edgekit-device.pid").read_text().split()[0]
    except (OSError, IndexError):
        return False
    return (world.root / "proc" / pid).exists()


def test_a_link_that_is_cut_while_pictures_are_taken_is_named_and_the_board_starts_its_service_again(
    flashed: tuple[SshWorld, Options], tmp_path: Path
) -> None:
    world, options = flashed
    out, caught = tmp_path / "home", []
    assert eventually(lambda: runs(world), 120)
    with CutLink(world.port, None) as link:
        target = parse_target(f"ssh://pi@127.0.0.1:{link.port}")
        chosen = replace(options, known_hosts=tmp_path / "known")

        def look() -> None:
            try:
                bring_pictures(target, out, 1000, seconds=15, options=chosen)
            except EdgeKitError as error:
                caught.append(error)

        looking = threading.Thread(target=look)
        looking.start()
        assert eventually(lambda: not runs(world), 120)
        link.cut()
        looking.join(120)
    assert [type(error) for error in caught] == [LinkLostError]
    assert not out.exists()
    # Nobody here can start it again: the shell on the board does.
    assert eventually(lambda: runs(world), 120)
    # What was left there is in nobody's way.
    done = bring_pictures(parse_target(world.url()), out, 2, seconds=60, options=options)
    assert done.paused and done.pictures


def test_a_board_without_its_camera_is_named(flashed: tuple[SshWorld, Options], tmp_path: Path) -> None:
    world, options = flashed
    with pytest.raises(BoardError, match="pictures"):
        bring_pictures(parse_target(world.url()), tmp_path / "home", 3, source="camera:77", seconds=5, options=options)


def test_a_folder_and_an_empty_port_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="folder"):
        examine(FolderTarget(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(UnreachableError):
        examine(parse_target(f"ssh://pi@127.0.0.1:{port}"), Options(known_hosts=tmp_path / "known"))


def test_what_a_board_says_reaches_no_terminal_as_it_is() -> None:
    found = _finding({"check": "a\x1b[2Jb", "state": "splendid", "detail": "x\ny", "remedy": None})
    assert (found.check, found.state, found.detail) == ("a[2Jb", "unknown", "xy")

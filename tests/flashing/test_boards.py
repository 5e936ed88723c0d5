"""A whole flash over SSH: a real sshd, a real environment, the real service, and every way to be refused."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekit.flashing.announcement import PATH as ANNOUNCED
from edgekit.flashing.announcement import service_text
from edgekit.flashing.errors import (
    BoardDiskError,
    BoardStartError,
    BrokenPythonError,
    ClockError,
    NoRightsError,
    UnreachableError,
    UnsupportedBoardError,
    WheelsError,
)
from edgekit_device.contract.errors import SlotConflictError
from edgekit_device.settings import load_settings
from tests.conftest import absent
from tests.worlds.flash_desk import SETTINGS, Desk, current, flash_cut, half_installed, is_cut, untouched
from tests.worlds.services import free_port
from tests.worlds.ssh_boards import Flaws, SshWorld, require_boards, ssh_board
from tests.worlds.trial_board import Recipe, bad_recipes, bundle_of


@pytest.fixture(autouse=True, scope="module")
def _boards() -> None:
    require_boards()


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    return Desk(tmp_path_factory.mktemp("desk"))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshWorld]:
    with ssh_board(tmp_path_factory.mktemp("board")) as made:
        yield made


def test_a_blank_board_runs_what_was_flashed_and_a_second_flash_changes_nothing(desk: Desk, world: SshWorld) -> None:
    first = desk.bundle("1.0.0")
    # As on a board with Avahi; one without it is flashed in every other test.
    (world.root / "etc/avahi/services").mkdir(parents=True)
    (plan,) = desk.flash(first, world, dry_run=True)
    assert plan.error is None and untouched(world)
    done = desk.one(first, world)
    assert done.changes == plan.changes
    assert "FPS on xnnpack" in done.outcome
    assert current(world) == "toy-1.0.0"
    named = load_settings(world.root / "etc/edgekit/device.toml").id
    assert (world.root / ANNOUNCED.lstrip("/")).read_text() == service_text("home", named, world.port)
    settings = load_settings(world.root / "etc/edgekit/device.toml")
    assert (settings.source, settings.interval_s) == (SETTINGS["source"], SETTINGS["interval_s"])
    assert stat.S_IMODE((world.root / "var/lib/edgekit").stat().st_mode) == 0o700
    assert (world.root / "opt/edgekit/current").lstat().st_uid == (world.root / "var/lib/edgekit").stat().st_uid != 0
    again = desk.one(first, world)
    assert again.changes == ()
    # Only a model: nothing but the bundle moves, and the service is not started anew.
    new = desk.one(desk.bundle("1.1.0"), world)
    assert [word.split()[0] for word in new.changes] == ["send", "install"]
    assert current(world) == "toy-1.1.0"


def test_other_bytes_under_the_same_version_are_refused(desk: Desk, world: SshWorld) -> None:
    before = current(world)
    other = desk.place / "other"
    other.mkdir(exist_ok=True)
    path = other / f"{before}.edgekit"
    path.write_bytes(bundle_of(Recipe(tolerances={"xnnpack": 3 / 256, "builtin": 16 / 256}), before.rpartition("-")[2]))
    desk.signer.sign(path)
    with pytest.raises(SlotConflictError):
        desk.one(path, world)
    assert current(world) == before


def test_a_bundle_that_the_board_cannot_run_is_taken_back_with_its_reason(desk: Desk, world: SshWorld) -> None:
    before = current(world)
    bad = desk.bundle("6.6.6", bad_recipes()["crash on a live frame"])
    with pytest.raises(BoardStartError, match="rejected it"):
        desk.one(bad, world)
    # The one before is still on trial itself, so the board may go back to the one that it trusts.
    assert current(world) in (before, "toy-1.0.0")


def test_one_bad_board_stops_no_other(desk: Desk, world: SshWorld) -> None:
    gone = f"ssh://pi@127.0.0.1:{free_port()}"
    done = desk.flash(desk.bundle("1.2.0"), gone, world)
    assert isinstance(done[0].error, UnreachableError)
    assert done[1].error is None
    assert current(world) == "toy-1.2.0"


def test_a_link_that_is_cut_leaves_the_old_or_the_new_and_the_next_flash_goes_on(desk: Desk, world: SshWorld) -> None:
    for number, cut in enumerate((1_281, 12_000, 30_000)):
        bundle = desk.bundle(f"1.3.{number}")
        done, passed = flash_cut(desk, bundle, world, cut)
        assert passed == cut
        assert is_cut(done), done
        assert half_installed(world, desk.digests) == []
    assert desk.one(bundle, world).error is None
    assert current(world) == "toy-1.3.2"


def test_settings_that_change_restart_the_service(desk: Desk, world: SshWorld) -> None:
    done = desk.one(desk.bundle("1.3.2"), world, interval_s=2.0)
    assert done.changes[-1] == "restart the service"
    assert load_settings(world.root / "etc/edgekit/device.toml").interval_s == 2.0


def test_a_board_whose_plug_was_pulled_is_started_again_by_the_next_flash(desk: Desk, world: SshWorld) -> None:
    world.pull_the_plug()
    world.start()
    done = desk.one(desk.bundle("1.3.2"), world, interval_s=2.0)
    assert done.changes == ("start the service",)
    assert current(world) == "toy-1.3.2"


def test_everything_can_be_taken_away_again(desk: Desk, world: SshWorld) -> None:
    done = desk.one(None, world)
    assert any("stop the service" in change for change in done.changes)
    assert untouched(world) and not (world.root / ANNOUNCED.lstrip("/")).exists()
    assert "edgekit" not in (world.root / "etc/passwd").read_text()
    assert not [p for p in Path("/proc").glob("[0-9]*/cmdline") if _of(world, p) and b"edgekit" in p.read_bytes()]
    assert desk.one(None, world).changes == ()


def _of(world: SshWorld, cmdline: Path) -> bool:
    try:
        return os.path.samefile(cmdline.parent / "root", world.root)
    except OSError:
        return False


@pytest.mark.parametrize(
    ("flaws", "error", "words"),
    [
        (Flaws(personality="i686"), UnsupportedBoardError, "its processor is i686"),
        (
            Flaws(python="#!/bin/sh\necho 'Fatal Python error: init_fs_encoding' >&2\nexit 1\n"),
            BrokenPythonError,
            "init_fs",
        ),
        (Flaws(clock="@1970-01-01 00:05:00"), ClockError, "1970-01-01"),
        (Flaws(disk_bytes=24 << 20), BoardDiskError, "MB are needed"),
        (Flaws(sudo=""), NoRightsError, "visudo|usermod"),
        (Flaws(packages=False), WheelsError, "edgekit wheels fetch"),
    ],
    ids=["wrong architecture", "broken Python", "clock in 1970", "full disk", "no sudo", "no wheels"],
)
def test_a_board_that_cannot_be_flashed_is_refused_by_name_and_left_alone(
    desk: Desk, tmp_path: Path, flaws: Flaws, error: type[Exception], words: str
) -> None:
    if flaws.clock and not list(Path("/usr/lib").glob("*/faketime/libfaketime.so.1")):
        absent("libfaketime", "apt install libfaketime")
    with ssh_board(tmp_path, flaws) as world:
        with pytest.raises(error, match=words):
            desk.one(desk.bundle("1.0.0"), world)
        assert untouched(world)
        assert not (world.root / "opt/edgekit-runtimes").exists()

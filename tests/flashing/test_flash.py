"""Flashing into a folder: the same slots, and everything said beforehand."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from edgekit.cli import main
from edgekit.errors import TargetError
from edgekit.flashing import flash, parse_target
from edgekit.flashing.steps import keys_to_drop
from edgekit_device import slots
from edgekit_device.bundle import open_bundle, trusted_keys
from edgekit_device.contract.errors import (
    NoTrustedKeyError,
    SelfTestError,
    SettingsError,
    SlotConflictError,
    UntrustedKeyError,
    UsageError,
)
from edgekit_device.settings import load_settings
from tests.worlds.bundles import Signer
from tests.worlds.services import free_port
from tests.worlds.trial_board import Recipe, bad_recipes, bundle_of

SETTINGS = {"site": "home", "id": "porch", "broker": "mqtt://127.0.0.1:1883", "interval_s": 1.0}


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    return Signer.make(tmp_path / "keys")


@pytest.fixture
def board(tmp_path: Path) -> Path:
    return tmp_path / "board"


@pytest.fixture(autouse=True)
def unproved(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Most of these bundles hold no model; the tests of the proof itself ask for `proved`."""
    if "proved" not in request.fixturenames:
        monkeypatch.setattr("edgekit.flashing.steps.self_test", lambda *_: None)


@pytest.fixture
def proved() -> None:
    """The golden photos are really proved."""


def snapshot(root: Path) -> dict[str, bytes | str]:
    found: dict[str, bytes | str] = {}
    for path in sorted(root.rglob("*")):
        found[str(path)] = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else ""
    return found


def test_a_flashed_folder_is_a_board_that_can_open_its_bundle(signer: Signer, board: Path, tmp_path: Path) -> None:
    done = flash(signer.bundle(tmp_path), f"dir:{board}", settings=SETTINGS, public_key=signer.public)
    assert done.bundle_id == "toy-1.0.0"
    serving = slots.current(board / "opt/edgekit")
    assert serving is not None
    keys = trusted_keys(board_keys=board / "etc/edgekit/keys")
    assert open_bundle(serving.bundle_path, keys)[0].manifest.bundle_id == "toy-1.0.0"
    settings = load_settings(board / "etc/edgekit/device.toml")
    assert (settings.site, settings.id, settings.broker, settings.interval_s) == tuple(SETTINGS.values())
    assert (board / "var/lib/edgekit").stat().st_mode & 0o777 == 0o700
    assert (board / "etc/edgekit/keys").stat().st_mode & 0o777 == 0o755
    assert keys[0].stat().st_mode & 0o777 == 0o644


def test_flashing_twice_changes_nothing(signer: Signer, board: Path, tmp_path: Path) -> None:
    bundle = signer.bundle(tmp_path)
    flash(bundle, f"dir:{board}", settings=SETTINGS, public_key=signer.public)
    before = snapshot(board)
    again = flash(bundle, f"dir:{board}", settings=SETTINGS, public_key=signer.public)
    assert again.changes == ()
    assert snapshot(board) == before


def test_a_dry_run_names_every_change_and_makes_none(signer: Signer, board: Path, tmp_path: Path) -> None:
    told: list[str] = []
    bundle = signer.bundle(tmp_path)
    done = flash(
        bundle,
        f"dir:{board}",
        settings=SETTINGS,
        public_key=signer.public,
        dry_run=True,
        on_step=lambda step: told.append(step.describe),
    )
    assert not board.exists()
    assert done.changes == tuple(told)
    text = "\n".join(told)
    for part in ("opt/edgekit", "etc/edgekit/keys", "mode 0700", "device.toml", "id = porch", "install toy-1.0.0"):
        assert part in text
    real = flash(bundle, f"dir:{board}", settings=SETTINGS, public_key=signer.public)
    assert real.changes == done.changes


def test_what_is_not_named_stays_as_the_board_has_it(signer: Signer, board: Path, tmp_path: Path) -> None:
    bundle = signer.bundle(tmp_path)
    flash(bundle, f"dir:{board}", settings=SETTINGS, public_key=signer.public)
    done = flash(bundle, f"dir:{board}", settings={"interval_s": 5}, public_key=signer.public)
    assert done.changes == (f"write {board}/etc/edgekit/device.toml (interval_s = 5)",)
    settings = load_settings(board / "etc/edgekit/device.toml")
    assert (settings.id, settings.interval_s) == ("porch", 5.0)


def test_a_wrong_setting_a_foreign_key_and_other_bytes_are_refused_before_anything_is_written(
    signer: Signer, board: Path, tmp_path: Path
) -> None:
    bundle = signer.bundle(tmp_path)
    foreign = Signer.make(tmp_path / "keys", "foreign")
    with pytest.raises(SettingsError, match="did you mean 'interval_s'"):
        flash(bundle, f"dir:{board}", settings={"interval": 1}, public_key=signer.public)
    with pytest.raises(UntrustedKeyError):
        flash(bundle, f"dir:{board}", public_key=foreign.public)
    with pytest.raises(NoTrustedKeyError):
        flash(bundle, f"dir:{board}", public_key=tmp_path / "missing.pub")
    assert not board.exists()
    flash(bundle, f"dir:{board}", public_key=signer.public)
    before = snapshot(board)
    with pytest.raises(SlotConflictError):
        flash(
            signer.bundle(tmp_path / "other", model=b"other"),
            f"dir:{board}",
            settings=SETTINGS,
            public_key=signer.public,
        )
    assert snapshot(board) == before


def test_a_board_keeps_the_two_newest_keys(board: Path, tmp_path: Path) -> None:
    signers = [Signer.make(tmp_path / "keys", f"key{number}") for number in range(4)]
    for number, each in enumerate(signers):
        flash(each.bundle(tmp_path, version=f"1.0.{number}"), f"dir:{board}", public_key=each.public)
        held = sorted((board / "etc/edgekit/keys").glob("*"))
        assert len(held) <= 2
        assert each.public.read_bytes() in [path.read_bytes() for path in held]
    assert {path.read_bytes() for path in held} == {each.public.read_bytes() for each in signers[2:]}


def test_the_oldest_key_makes_way() -> None:
    assert keys_to_drop({}) == []
    assert keys_to_drop({"a": 2}) == []
    assert keys_to_drop({"a": 2, "b": 1}) == ["b"]
    assert keys_to_drop({"a": 2, "b": 1, "c": 3}) == ["b", "a"]


def test_a_file_that_is_no_key_is_refused(board: Path, tmp_path: Path, signer: Signer) -> None:
    wrong = tmp_path / "wrong.pub"
    wrong.write_text("hello")
    with pytest.raises(UsageError, match="not a minisign public key"):
        flash(signer.bundle(tmp_path), f"dir:{board}", public_key=wrong)
    assert not board.exists()


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("porch", TargetError, "fleet.toml"),
        ("", TargetError, "fleet.toml"),
        ("ssh://pi:secret@porch", TargetError, "password in an argument"),
        ("ssh://", TargetError, "not ssh://user@host"),
        ("ssh://-oProxyCommand=x", TargetError, "ssh://user@host"),
        ("ssh://pi@porch:0", TargetError, "no port"),
        ("dir:", TargetError, "names no folder"),
        ("ftp:x", TargetError, "no kind of target"),
    ],
)
def test_a_target_that_is_not_understood_is_a_named_usage_error(
    text: str, error: type[TargetError], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        parse_target(text)
    assert caught.value.exit_code == 2
    assert "dir:./board" in str(caught.value)


def test_a_bundle_that_does_not_reproduce_its_golden_photos_is_refused_before_anything_is_written(
    proved: None, signer: Signer, board: Path, tmp_path: Path
) -> None:
    paths = {}
    for version, recipe in {"1.0.0": Recipe(), "2.0.0": bad_recipes()["golden below the floor"]}.items():
        paths[version] = tmp_path / f"toy-{version}.edgekit"
        paths[version].write_bytes(bundle_of(recipe, version))
        signer.sign(paths[version])
    with pytest.raises(SelfTestError, match=r"golden/00\.png"):
        flash(paths["2.0.0"], f"dir:{board}", settings=SETTINGS, public_key=signer.public)
    assert not board.exists()
    done = flash(paths["1.0.0"], f"dir:{board}", settings=SETTINGS, public_key=signer.public)
    assert done.changes[0] == "prove the golden photos of toy-1.0.0 in a child"


def test_the_table_names_each_board_and_the_exit_code_is_that_of_the_worst(
    signer: Signer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle, gone = signer.bundle(tmp_path), f"ssh://pi@127.0.0.1:{free_port()}"
    words = ["flash", str(bundle), f"dir:{tmp_path}/a", gone, f"dir:{tmp_path}/b", "--pubkey", str(signer.public)]
    words += ["--no-enroll"]
    assert main(words) == 1
    said = capsys.readouterr()
    table = said.out.splitlines()[-4:]
    assert [row.split()[0] for row in table] == ["board", f"dir:{tmp_path}/a", gone, f"dir:{tmp_path}/b"]
    assert "runs toy-1.0.0" in table[1] and "FAILED: UnreachableError" in table[2] and "runs toy-1.0.0" in table[3]
    assert gone in said.err and "next: edgekit" not in said.out
    assert main([*words, "--json"]) == 1
    rows = json.loads(capsys.readouterr().out)["targets"]
    assert [(row["target"], row.get("error")) for row in rows] == [
        (f"dir:{tmp_path}/a", None),
        (gone, "UnreachableError"),
        (f"dir:{tmp_path}/b", None),
    ]
    assert main([*words[:3], *words[5:]]) == 0


@pytest.mark.usefixtures("proved")
def test_on_a_terminal_each_board_has_a_line_of_its_own_that_fits(tmp_path: Path) -> None:
    signer, bundle = Signer.make(tmp_path / "keys"), tmp_path / "toy-1.0.0.edgekit"
    bundle.write_bytes(bundle_of(Recipe(), "1.0.0"))
    signer.sign(bundle)
    here, there = os.openpty()
    fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    targets = [f"dir:{tmp_path / name}" for name in ("porch", "attic")]
    command = [sys.executable, "-m", "edgekit", "flash", str(bundle), *targets, "--pubkey", str(signer.public)]
    with subprocess.Popen(command, stdin=there, stdout=there, stderr=there, env={**os.environ, "TERM": "xterm"}) as run:
        os.close(there)
        said = b""
        # The end of a terminal that nobody holds any more is an error, not an end of file.
        with contextlib.suppress(OSError):
            while part := os.read(here, 4096):
                said += part
    os.close(here)
    assert run.returncode == 0, said.decode()
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said.decode()).replace("\r", "\n").split("\n")
    moving = [line for line in lines if "\N{BOX DRAWINGS HEAVY HORIZONTAL}" in line]
    for name in ("porch", "attic"):
        assert any(name in line for line in moving), lines
        assert sum(line.rstrip().startswith(f"dir:{tmp_path / name}") for line in lines if line not in moving) == 1
    assert max(len(line.rstrip()) for line in moving) <= 80

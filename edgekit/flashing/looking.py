"""Looking at a board from here: its own doctor's findings beside this machine's, and pictures of its camera."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.errors import EdgeKitError, UsageError
from edgekit.event_loop import run_to_end
from edgekit.flashing.board import BOARD_USER, STATE, Board, device_command
from edgekit.flashing.device_wheel import device_wheel
from edgekit.flashing.errors import BoardError, CommandError
from edgekit.flashing.facts import System, ask
from edgekit.flashing.flashed import Options
from edgekit.flashing.hostkeys import HostKeys, known_hosts_path
from edgekit.flashing.login import Secrets
from edgekit.flashing.naming import config_folder
from edgekit.flashing.runtime_steps import held_version
from edgekit.flashing.service import Service, status_of
from edgekit.flashing.ssh import failure, open_board
from edgekit.flashing.steps import held_settings
from edgekit.flashing.targets import SshTarget, Target
from edgekit.flashing.wheelhouse import wheel_folder
from edgekit_device import disk
from edgekit_device.diagnosis.finding import FAIL, OK, STATES, UNKNOWN, WARN, Finding

_DOCTOR_S, _SLACK_S = 300.0, 120.0
_DRIFT_S = 300.0
_ALBUM = f"{STATE}/album"
_PICTURE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,120}\.(jpg|png)|manifest\.jsonl?")
_PICTURE_BYTES = 32 << 20
# The service comes back whatever becomes of the link: this shell lives on the board.
_CAPTURE = """if [ "$1" = none ]; then :; else
if [ "$1" = systemd ]; then s=edgekit-device.service; off="systemctl stop $s"; on="systemctl start --no-block $s"
else off='sh /etc/init.d/edgekit-device stop'; on='sh /etc/init.d/edgekit-device start'; fi
trap '$on >&2' EXIT; trap 'exit 143' TERM HUP INT; $off >&2; fi
shift; "$@" """


@dataclass(frozen=True)
class Examined:
    """Both sides.

    Attributes:
        target: Which board.
        system: What it is.
        host: Findings of this machine about it.
        board: Findings of its own doctor.
    """

    target: Target
    system: System
    host: tuple[Finding, ...]
    board: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing keeps it from its work."""
        return not any(finding.state == FAIL for finding in (*self.host, *self.board))


@dataclass(frozen=True)
class Captured:
    """Pictures that came home.

    Attributes:
        folder: Where they lie.
        pictures: Names.
        bytes: In all.
        seen: Frames that the board looked at.
        paused: Whether its service stood still meanwhile.
    """

    folder: Path
    pictures: tuple[str, ...]
    bytes: int
    seen: int
    paused: bool


def examine(target: Target, options: Options | None = None) -> Examined:
    """Run a board's doctor over SSH.

    Raises:
        BoardError: It cannot be reached, or holds no EdgeKit.
    """
    return run_to_end(_examine(_ssh(target), options or Options()))


def bring_pictures(
    target: Target,
    out: Path,
    count: int,
    *,
    source: str | None = None,
    seconds: float = 120.0,
    budget_mb: float = 100.0,
    options: Options | None = None,
    say: Callable[[str], None] = lambda words: None,
) -> Captured:
    """Have a board keep diverse pictures of its camera, and bring them here.

    A camera serves one program at a time: a service that uses it stands still meanwhile and is started again by the
    board itself, also when the link is cut.

    Args:
        target: Which board.
        out: Folder here.
        count: Pictures.
        source: Another source than the board's own.
        seconds: How long it may look.
        budget_mb: Most that the pictures may weigh.
        options: How to log in.
        say: Told what happens.

    Raises:
        BoardError: It cannot be reached, or has no camera.
    """
    if count < 1 or not seconds > 0 or not budget_mb > 0:
        raise UsageError("--count, --seconds and --budget-mb: more than nothing")
    return run_to_end(_bring(_ssh(target), out, count, source, seconds, budget_mb, options or Options(), say))


def _ssh(target: Target) -> SshTarget:
    if not isinstance(target, SshTarget):
        raise UsageError(f"{target.name}: a folder runs nothing; look at it with: edgekit-device doctor --root DIR")
    return target


async def _open(target: SshTarget, options: Options) -> Board:
    keys = HostKeys(options.known_hosts or known_hosts_path(config_folder()))
    return await open_board(target, keys, Secrets(options.ask, lock=asyncio.Lock()), config=options.ssh_config)


async def _examine(target: SshTarget, options: Options) -> Examined:
    board = await _open(target, options)
    try:
        system = await ask(board)
        version = await held_version(board, "")
        host = [
            Finding("login", OK, f"{board.name} lets this machine in, with the key that is pinned"),
            Finding("system", OK, system.words),
            _clock(system, time.time()),
            _version(board.name, version),
            _wheels(),
        ]
        found = await _doctor(board) if version else []
        return Examined(target, system, tuple(host), tuple(found))
    finally:
        await board.close()


async def _doctor(board: Board) -> list[Finding]:
    ran = await board.run(device_command("doctor", "--json"), user=BOARD_USER, deadline_s=_DOCTOR_S)
    try:
        rows = json.loads(ran.text.splitlines()[-1])["findings"]
        return [_finding(row) for row in rows]
    except (ValueError, KeyError, IndexError, TypeError) as cause:
        raise failure(board.name, "run its doctor", ran) from cause


def _finding(row: dict[str, Any]) -> Finding:
    """A board's words are a stranger's: only what may stand on a terminal does."""
    check, state, detail = (_plain(row[key]) for key in ("check", "state", "detail"))
    remedy = row.get("remedy")
    return Finding(check, state if state in STATES else UNKNOWN, detail, None if remedy is None else _plain(remedy))


def _plain(text: object) -> str:
    return "".join(c for c in str(text)[:500] if c.isprintable())


def _clock(system: System, now_s: float) -> Finding:
    drift_s = system.clock_s - now_s
    if abs(drift_s) <= _DRIFT_S:
        return Finding("clock", OK, "the board's and this machine's agree")
    return Finding("clock", WARN, f"the board's is {drift_s:+.0f} s from this machine's", "on the board: timedatectl")


def _version(name: str, version: str) -> Finding:
    own = device_wheel().version
    if not version:
        return Finding("runtime", FAIL, "no EdgeKit runs on it", f"edgekit flash BUNDLE {name}")
    if version == own:
        return Finding("runtime", OK, f"edgekit-device {version} on both sides")
    return Finding("runtime", WARN, f"edgekit-device {version} there, {own} here", f"edgekit flash BUNDLE {name}")


def _wheels() -> Finding:
    folder = wheel_folder()
    if folder is None:
        words = "none here: a board without a network could not be flashed"
        return Finding("wheels", WARN, words, "edgekit wheels fetch")
    return Finding("wheels", OK, f"{sum(1 for _ in folder.rglob('*.whl'))} in {folder}")


async def _bring(
    target: SshTarget,
    out: Path,
    count: int,
    source: str | None,
    seconds: float,
    budget_mb: float,
    options: Options,
    say: Callable[[str], None],
) -> Captured:
    board = await _open(target, options)
    try:
        system = await ask(board)
        if not await held_version(board, ""):
            raise BoardError(board.name, "no EdgeKit runs on it", f"edgekit flash BUNDLE {board.name}")
        own = str((await held_settings(board) or {}).get("source", "auto"))
        status = await status_of(board)
        busy = bool(status.get("alive")) and (source is None or source == own)
        who = ("systemd" if Service.of(system).systemd else "init") if busy else "none"
        say(f"{board.name}: keeps {count} pictures of {source or own}{'; its service stands still' if busy else ''}")
        words = ["capture", "--source", source or own, "-o", _ALBUM, "--count", str(count), "--seconds", f"{seconds:g}"]
        words += ["--budget-mb", f"{budget_mb:g}", "--json"]
        inner = ["runuser", "-u", BOARD_USER, "--", "env", f"HOME={STATE}", *device_command(*words)]
        await board.remove(_ALBUM)
        ran = await board.run(["sh", "-c", _CAPTURE, "sh", who, *inner], deadline_s=seconds + _SLACK_S)
        if ran.status != 0:
            raise _refusal(board, ran.text, ran.last_words)
        said = json.loads(ran.text.splitlines()[-1])
        names = await _fetch(board, out, budget_mb)
        await board.remove(_ALBUM)
        size = sum((out / name).stat().st_size for name in names)
        pictures = tuple(name for name in names if not name.startswith("manifest"))
        return Captured(out, pictures, size, int(said.get("seen", 0)), busy)
    finally:
        await board.close()


def _refusal(board: Board, text: str, last: str) -> EdgeKitError:
    try:
        message = _plain(json.loads(text.splitlines()[-1])["message"])
    except (ValueError, KeyError, IndexError, TypeError):
        message = _plain(last.removeprefix("edgekit-device: "))
    return CommandError(board.name, f"could not take pictures: {message}", f"edgekit doctor device {board.name}")


async def _fetch(board: Board, out: Path, budget_mb: float) -> list[str]:
    disk.make_folders(out)
    left, names = int(budget_mb * 1e6) + (1 << 20), []
    for name, entry in sorted((await board.entries(_ALBUM)).items()):
        if entry.kind != "file" or not _PICTURE.fullmatch(name) or entry.size_bytes > left:
            continue
        data = await board.read(f"{_ALBUM}/{name}", _PICTURE_BYTES)
        if data is not None:
            left -= len(data)
            disk.replace_file(out / name, data)
            names.append(name)
    return names

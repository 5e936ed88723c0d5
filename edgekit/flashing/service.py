"""The board's service: written, started, and waited for until it serves what was flashed and says so in a Reading."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from edgekit.flashing.board import BOARD_USER, STATE, Board, device_command
from edgekit.flashing.errors import BoardStartError
from edgekit.flashing.facts import System
from edgekit.flashing.ssh import failure
from edgekit.flashing.steps import Step
from edgekit_device.status_file import NAME as STATUS
from edgekit_device.status_file import RUN_DIR, STATE_DIR
from edgekit_device.units import NAME, init_text, unit_text
from edgekit_device.verdicts import PENDING, REJECTED

_STATUS_FILES = (f"{RUN_DIR}/{STATUS}", f"{STATE_DIR}/{STATUS}")
UNIT, INIT = f"/etc/systemd/system/{NAME}", "/etc/init.d/edgekit-device"
_LOOK_S, _REST, _SYSTEMCTL_S = 1.0, 3.0, 90.0
_GROUPS = ("video", "render", "plugdev")
_NO_SOURCE = ("camera", "source")


@dataclass(frozen=True)
class Look:
    """What a board's status comes to, for one bundle.

    Attributes:
        state: ``wait``, ``up`` or ``rejected``.
        words: Why, or what it serves.
        fps: Of the newest Reading; None without.
    """

    state: str
    words: str
    fps: float | None = None


@dataclass(frozen=True)
class Service:
    """How a board's service is written and started.

    Attributes:
        path: The file that says so to its init system.
        text: Its content.
        systemd: Whether systemd runs it.
    """

    path: str
    text: str
    systemd: bool

    @classmethod
    def of(cls, system: System) -> Service:
        """The one for a board."""
        if system.init == "systemd":
            return cls(UNIT, unit_text(), True)
        return cls(INIT, init_text(), False)

    async def act(self, board: Board, verb: str) -> None:
        """Start, stop or restart it; a start does not wait for the first frame.

        Raises:
            BoardError: The init system refuses.
        """
        words = ["systemctl", verb, *(["--no-block"] if verb != "stop" else []), NAME]
        ran = await board.run(words if self.systemd else ["sh", self.path, verb], deadline_s=_SYSTEMCTL_S)
        if ran.status != 0:
            raise failure(board.name, f"{verb} its service", ran)

    async def enable(self, board: Board) -> None:
        """Have it started at boot."""
        if self.systemd:
            for words in (["systemctl", "daemon-reload"], ["systemctl", "enable", "--quiet", NAME]):
                ran = await board.run(words, deadline_s=_SYSTEMCTL_S)
                if ran.status != 0:
                    raise failure(board.name, " ".join(words), ran)
            return
        # Where no init system manages such scripts (a container), a start by hand is all there is.
        await board.run(["sh", "-c", "! command -v update-rc.d || update-rc.d edgekit-device defaults"])

    async def disable(self, board: Board) -> None:
        """Have it started no more, and forget it."""
        if self.systemd:
            await board.run(["systemctl", "disable", "--quiet", NAME], deadline_s=_SYSTEMCTL_S)
        else:
            await board.run(["sh", "-c", "! command -v update-rc.d || update-rc.d -f edgekit-device remove"])
        await board.remove(self.path)
        if self.systemd:
            await board.run(["systemctl", "daemon-reload"], deadline_s=_SYSTEMCTL_S)


def user_steps(system: System) -> list[tuple[str, list[str]]]:
    """The service's user, as (words, command); in the groups that may open cameras and accelerators."""
    groups = ",".join(group for group in _GROUPS if group in system.groups)
    command = ["useradd", "--system", "--user-group", "--home-dir", STATE, "--no-create-home"]
    command += ["--shell", "/usr/sbin/nologin", *(["--groups", groups] if groups else []), BOARD_USER]
    if system.has_user:
        return []
    return [(f"create the user {BOARD_USER}{f' (groups {groups})' if groups else ''}", command)]


async def unit_steps(board: Board, service: Service) -> list[Step]:
    """Write the unit or the script, unless it is there."""
    before = await board.read(service.path)
    if before == service.text.encode():
        return []
    mode = 0o644 if service.systemd else 0o755

    async def apply() -> None:
        folder = service.path.rpartition("/")[0]
        if await board.entry(folder) is None:
            await board.make_folder(folder)
        await board.write(service.path, service.text.encode(), mode=mode)
        await service.enable(board)

    back = partial(service.disable, board)
    if before is not None:
        back = partial(board.write, service.path, before, mode=mode)
    return [Step("service", f"write {service.path} and enable it at boot", apply, back)]


async def status_of(board: Board) -> dict[str, Any]:
    """What the board's service says; empty where there is none yet."""
    for path in _STATUS_FILES:
        if await board.entry(path) is not None:
            break
    else:
        return {}  # A slow board is spared the start of a Python that would find nothing.
    ran = await board.run(device_command("status", "--json"), user=BOARD_USER)
    try:
        found = json.loads(ran.text.splitlines()[-1])
    except (ValueError, IndexError):
        return {}
    return found if isinstance(found, dict) else {}


def judge(document: Mapping[str, Any], bundle_id: str, old_pid: int | None) -> Look:
    """Decide whether a board serves a bundle.

    Args:
        document: Of `status_of`.
        bundle_id: What it should serve.
        old_pid: The process that must not be the one that speaks; None takes any.
    """
    verdict = ((document.get("slots") or {}).get("verdicts") or {}).get(bundle_id) or {}
    if verdict.get("state") == REJECTED:
        return Look("rejected", str(verdict.get("reason") or "no reason given"))
    status, reading = document.get("status") or {}, document.get("reading") or {}
    if not document.get("alive") or (old_pid is not None and document.get("pid") == old_pid):
        return Look("wait", "the service does not run yet")
    if reading.get("bundle") != bundle_id:
        return Look("wait", str(status.get("reason") or f"no Reading of {bundle_id} yet"))
    fps, reason = reading.get("fps"), str(status.get("reason") or "")
    if isinstance(fps, int | float) and fps > 0 and status.get("delegate"):
        trial = ", on trial: it goes back by itself" if verdict.get("state") == PENDING else ""
        return Look("up", f"{fps:.1f} FPS on {status['delegate']}{trial}", float(fps))
    if reason.startswith(_NO_SOURCE):
        # The model is not to blame, and going back would not bring the camera.
        return Look("up", f"runs, but sees nothing: {reason}", 0.0)
    return Look("wait", reason or "no frame yet")


async def await_reading(
    board: Board, service: Service, bundle_id: str, old_pid: int | None, wait_s: float, say: Callable[[str], None]
) -> Look:
    """Wait until the board serves a bundle.

    Raises:
        BoardStartError: It rejected the bundle, or the time is over.
    """
    until, look = time.monotonic() + wait_s, Look("wait", "")
    while True:
        asked_s = time.monotonic()
        look = judge(await status_of(board), bundle_id, old_pid)
        took_s = time.monotonic() - asked_s
        if look.state == "up":
            return look
        if look.state == "rejected":
            raise BoardStartError(board.name, f"tried {bundle_id} and rejected it: {look.words}", "flash another one")
        if time.monotonic() > until:
            said = await last_words(board, service)
            raise BoardStartError(
                board.name,
                f"no Reading of {bundle_id} within {wait_s:.0f} s: {look.words}{f' ({said})' if said else ''}",
                f"edgekit doctor device {board.name}",
            )
        say(look.words)
        # Each look starts a Python there: on a slow board it would take the processor from what is waited for.
        await asyncio.sleep(max(_LOOK_S, _REST * took_s))


async def last_words(board: Board, service: Service) -> str:
    """The last line that the service left."""
    command = ["tail", "-n", "1", f"{STATE}/service.log"]
    if service.systemd:
        command = ["journalctl", "-u", NAME, "-n", "1", "--no-pager", "-o", "cat"]
    return (await board.run(command)).text[:200]

"""What a flash will do to one board, decided before anything is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from edgekit.flashing import libedgetpu, releasing, runtime_plan, service, steps
from edgekit.flashing.announcement import announcement_steps
from edgekit.flashing.board import BOARD_USER, STATE, Board, Sent, device_command
from edgekit.flashing.checks import refuse
from edgekit.flashing.device_wheel import DeviceWheel
from edgekit.flashing.errors import BoardError
from edgekit.flashing.facts import System, ask
from edgekit.flashing.folder import FolderBoard
from edgekit.flashing.runtime_steps import held_version, judge_versions, launcher_steps, read_wish, runtime_steps
from edgekit.flashing.ssh import failure
from edgekit.flashing.steps import Step
from edgekit.flashing.updates import Releases, root_steps
from edgekit.flashing.wheelhouse import Wheel
from edgekit_device.bundle import Bundle
from edgekit_device.contract.documents import load
from edgekit_device.contract.errors import ContractError
from edgekit_device.contract.ids import suggest_id

_ENROLL_S = 60.0
_CREDENTIALS = f"{STATE}/identity/credentials.json"


class Membership(Protocol):
    """A fleet that boards may join; the host's side of trust, handed in by whoever composes.

    Attributes:
        broker: What boards of it are told.
        releases: Where they fetch updates, and whom they believe; None while nothing was ever published.
    """

    broker: str
    releases: Releases | None

    def invite(self, site: str, device: str) -> str:
        """A one-time token, as text."""
        ...

    def revoke(self, site: str, device: str) -> bool:
        """Throw a board out; False if it is no member."""
        ...


@dataclass(frozen=True)
class Wanted:
    """What boards are to get; the same for each.

    Attributes:
        path: The bundle's file.
        bundle: Opened and checked.
        data: Its bytes.
        public_key: Of who signed it.
        settings: Keys of device.toml.
        fleet: What they join; None leaves their membership alone.
        wheels: For their runtime; None lets their own pip fetch.
        package: Of libedgetpu.
        wait_s: How long a board may take to its first Reading.
    """

    path: Path
    bundle: Bundle
    data: bytes
    public_key: Path
    settings: Mapping[str, object] = field(default_factory=dict)
    fleet: Membership | None = None
    wheels: Sequence[Wheel] | None = None
    package: libedgetpu.Package | None = None
    wait_s: float = 300.0


@dataclass
class Plan:
    """Steps for one board.

    Attributes:
        prepare: What no running service sees: to be repeated after an interruption, and never undone.
        enter: What changes the board, in order.
        notes: Reasons and facts, for a dry run.
        warnings: Worth saying, no reason to stop.
        system: The board's facts; None for a folder.
        service: How it is run; None for a folder.
        restart: Whether the service has to be started anew.
        old_pid: Of the service that runs now.
        keep: Runtimes that may not be removed.
    """

    prepare: list[Step] = field(default_factory=list)
    enter: list[Step] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    system: System | None = None
    service: service.Service | None = None
    restart: bool = False
    old_pid: int | None = None
    keep: list[str] = field(default_factory=list)

    @property
    def steps(self) -> list[Step]:
        """All of them, in order."""
        return [*self.prepare, *self.enter]


async def plan_folder(board: FolderBoard, wanted: Wanted) -> Plan:
    """Plan for a folder: files and slots; its runtime is whoever runs it."""
    install = releasing.folder_steps(board, wanted.path, wanted.bundle, wanted.data, wanted.public_key)
    proof = steps.proof_steps(wanted.bundle, wanted.data) if install else []
    enter = await steps.key_steps(board, wanted.public_key) + await steps.settings_steps(board, wanted.settings)
    return Plan([*proof, *await steps.folder_steps(board)], [*enter, *install])


async def plan_board(
    board: Board, wanted: Wanted, device: DeviceWheel, place: Path, on_sent: Sent | None = None, label: str = ""
) -> Plan:
    """Ask a board, refuse it or list what changes.

    Raises:
        BoardError: It cannot be flashed; the class says why.
        SlotConflictError: It holds other bytes under this name and version.
        SettingsError: A setting is wrong.
    """
    system = await ask(board)
    refuse(board.name, system, 0)
    wish = await read_wish(board)
    held = await held_version(board, wish)
    keep = judge_versions(board.name, device.version, held, wish, wanted.bundle.manifest.requires)
    plan = Plan(system=system, service=service.Service.of(system), notes=[system.words])
    status = await service.status_of(board) if held else {}
    plan.old_pid = status.get("pid") if status.get("alive") else None
    needed = 3 * len(wanted.data)
    versions: dict[str, str] = {}
    if keep:
        plan.notes.append(keep)
    else:
        plan.enter += await launcher_steps(board, wish)
        base = runtime_plan.plan_runtime(board.name, system, device, place, wanted.wheels)
        versions = {**base.of_the_board, **{wheel.name: wheel.version for wheel in base.wheels}}
        found = await runtime_steps(board, base, system, on_sent)
        plan.prepare, plan.keep = found.prepare, found.keep
        plan.enter += found.enter
        plan.notes += found.notes
        needed += found.needed_bytes
    plan.warnings += refuse(board.name, system, needed)
    plan.prepare = [*_users(board, system), *await steps.folder_steps(board), *plan.prepare]
    plan.prepare += await root_steps(board, wanted.fleet.releases if wanted.fleet else None)
    if wanted.package is not None:
        plan.prepare += await libedgetpu.library_steps(board, system, wanted.package)
        plan.warnings += libedgetpu.pair_warnings(wanted.package, versions)
    settings = await _settings(board, wanted, system, label)
    before = await steps.key_steps(board, wanted.public_key) + await steps.settings_steps(board, settings)
    joining = await _enrolment(board, wanted, settings)
    unit = await service.unit_steps(board, plan.service or service.Service.of(system))
    release = await releasing.board_steps(board, wanted.path, wanted.bundle, wanted.data, on_sent)
    plan.prepare += [step for step in release if step.name == "send"]
    named = {**(await steps.held_settings(board) or {}), **{key: v for key, v in settings.items() if v is not None}}
    port = getattr(getattr(board, "target", None), "port", None) or 22
    plan.prepare += await announcement_steps(board, str(named.get("site", "home")), str(named["id"]), port)
    plan.restart = bool(plan.old_pid is None or plan.enter or before or joining or unit)
    plan.enter = [*before, *plan.enter, *joining, *unit, *(step for step in release if step.name != "send")]
    if plan.restart and (plan.enter or plan.old_pid is None):
        plan.enter.append(_start(board, plan))
    return plan


def _users(board: Board, system: System) -> list[Step]:
    async def create(command: list[str]) -> None:
        ran = await board.run(command)
        if ran.status != 0:
            raise failure(board.name, f"create the user {BOARD_USER}", ran)

    return [Step("user", words, partial(create, command)) for words, command in service.user_steps(system)]


async def _settings(board: Board, wanted: Wanted, system: System, label: str) -> dict[str, object]:
    """What was asked for; a new board gets its name from fleet.toml, else from its host name."""
    held = await steps.held_settings(board) or {}
    settings = dict(wanted.settings)
    if "id" not in held:
        settings.setdefault("id", label or suggest_id(system.hostname))
    if wanted.fleet is not None:
        settings.setdefault("broker", wanted.fleet.broker)
        settings.setdefault("site", held.get("site", "home"))
        settings.setdefault("id", held.get("id"))
        if wanted.fleet.releases is not None:
            settings.setdefault("updates", held.get("updates", wanted.fleet.releases.url))
    return settings


async def _enrolment(board: Board, wanted: Wanted, settings: Mapping[str, Any]) -> list[Step]:
    """Join the fleet, unless the board is a member under this name."""
    fleet = wanted.fleet
    if fleet is None or settings.get("broker") != fleet.broker:
        return []
    site, device = str(settings["site"]), str(settings["id"])
    data = await board.read(_CREDENTIALS)
    try:
        held = load("credentials", data) if data is not None else {}
    except ContractError:
        held = {}
    if (held.get("site"), held.get("device"), held.get("broker")) == (site, device, fleet.broker):
        return []

    async def join() -> None:
        # The token goes through standard input: an argument could be seen by every user of the board.
        token = fleet.invite(site, device)
        command = device_command("enroll", "-")
        ran = await board.run(command, stdin=token.encode() + b"\n", user=BOARD_USER, deadline_s=_ENROLL_S)
        if ran.status != 0:
            said = ran.last_words.removeprefix("edgekit-device: ")
            raise BoardError(board.name, f"could not join the fleet: {said}", "edgekit fleet broker   # must run")

    return [Step("enroll", f"enrol as {site}.{device} at {fleet.broker}; its key is made there", join)]


def _start(board: Board, plan: Plan) -> Step:
    unit = plan.service
    assert unit is not None
    verb = "start" if plan.old_pid is None else "restart"

    return Step("start", f"{verb} the service", partial(unit.act, board, verb))

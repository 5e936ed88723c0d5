"""The steps of a flash as data: what differs on the board, in the order in which it is changed.

Planning reads and decides; only `Step.apply` writes. The bundle comes last, so that a new release never serves
with the settings or keys of the old one.
"""

from __future__ import annotations

import asyncio
import importlib.util
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import minisign

from edgekit.errors import UsageError
from edgekit.flashing.board import BOARD_USER, ETC, HOME, KEYS, SETTINGS, STATE, Board
from edgekit_device.bundle import MAX_BOARD_KEYS, Bundle, key_label
from edgekit_device.selftest import self_test
from edgekit_device.settings import device_toml, read_device_toml

INTERPRETERS = ("ai_edge_litert", "tflite_runtime")
Act = Callable[[], Awaitable[object]]


@dataclass(frozen=True)
class Step:
    """One change on the board.

    Attributes:
        name: A word for scripts, e.g. ``bundle``.
        describe: The change in words, with the path.
        apply: Makes the change; may be called again after an interruption.
        undo: Takes it back when the board does not come up with it; None where leaving it does no harm.
    """

    name: str
    describe: str
    apply: Act
    undo: Act | None = None


async def nothing() -> None:
    """For a step that only says something."""


async def folder_steps(board: Board) -> list[Step]:
    """Folders that are missing; the state is the board's own business, hence 0700."""
    owner = BOARD_USER
    wanted = ((HOME, 0o755, owner), (ETC, 0o755, "root"), (KEYS, 0o755, "root"), (STATE, 0o700, owner))
    steps = []
    for path, mode, user in wanted:
        entry = await board.entry(path)
        right = entry is not None and (board.is_folder or (entry.mode == mode and entry.owner == user))
        if right or (board.is_folder and path == ETC):
            continue
        apply = partial(board.make_folder, path, mode=mode, owner=user)
        steps.append(Step("folder", f"create {board.shown(path)} (mode {mode:04o})", apply))
    return steps


def keys_to_drop(held: Mapping[str, int], limit: int = MAX_BOARD_KEYS) -> list[str]:
    """Decide which public keys make way for one more: those installed longest ago.

    Args:
        held: When each file was installed, in ns.
        limit: How many a board may hold.
    """
    oldest_first = sorted(held, key=lambda name: (held[name], name))
    return oldest_first[: max(0, len(held) + 1 - limit)]


async def key_steps(board: Board, public_key: Path) -> list[Step]:
    """Install the public key, unless the board has it.

    Raises:
        UsageError: The file is not a minisign public key.
    """
    try:
        label = key_label(minisign.PublicKey.from_file(public_key))
        content = public_key.read_bytes()
    except (minisign.Error, OSError, ValueError) as cause:
        raise UsageError(f"{public_key}: not a minisign public key ({cause})") from cause
    files = {name: entry for name, entry in (await board.entries(KEYS)).items() if name.endswith(".pub")}
    for name in files:
        if _label(await board.read(f"{KEYS}/{name}") or b"") == label:
            return []
    doomed = keys_to_drop({name: entry.changed_ns for name, entry in files.items()})
    removed = "".join(f", remove {name}" for name in doomed)
    path = f"{KEYS}/{label}.pub"
    describe = f"install public key {board.shown(path)}{removed} (a board keeps {MAX_BOARD_KEYS})"

    async def apply() -> None:
        # The old one goes first: a board reads two keys, and never a third in place of the new one.
        for name in doomed:
            await board.remove(f"{KEYS}/{name}")
        await board.write(path, content)

    return [Step("key", describe, apply)]


async def held_settings(board: Board) -> dict[str, object] | None:
    """What the board's device.toml states; None without one.

    Raises:
        SettingsError: It is damaged.
    """
    data = await board.read(SETTINGS)
    if data is None:
        return None
    if board.is_folder:
        return read_device_toml(Path(board.shown(SETTINGS)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "device.toml"
        path.write_bytes(data)
        return read_device_toml(path)


async def settings_steps(board: Board, given: Mapping[str, object]) -> list[Step]:
    """Write device.toml: what was given, over what the board has.

    Raises:
        SettingsError: A wrong value, here or in the file that is there.
    """
    held = await held_settings(board)
    merged = {**(held or {}), **{key: value for key, value in given.items() if value is not None}}
    text = device_toml(merged)
    if held is not None and merged == held:
        return []
    before = await board.read(SETTINGS)
    changes = ", ".join(f"{key} = {value}" for key, value in merged.items() if (held or {}).get(key) != value)
    describe = f"write {board.shown(SETTINGS)} ({changes or 'all defaults'})"
    back = partial(board.remove, SETTINGS) if before is None else partial(board.write, SETTINGS, before)
    return [Step("settings", describe, partial(board.write, SETTINGS, text.encode("utf-8")), back)]


def proof_steps(bundle: Bundle, data: bytes) -> list[Step]:
    """Prove the golden photos in a child of this host, before anything is written; the board proves them again.

    On a host without an interpreter the board's proof is the only one.
    """
    name = bundle.manifest.bundle_id
    if not any(importlib.util.find_spec(package) for package in INTERPRETERS):
        return [Step("self-test", f"leave the golden photos of {name} to the board: no interpreter here", nothing)]
    prove = partial(asyncio.to_thread, self_test, bundle, data)
    return [Step("self-test", f"prove the golden photos of {name} in a child", prove)]


def _label(data: bytes) -> str | None:
    try:
        return key_label(minisign.PublicKey.from_bytes(data))
    except (minisign.Error, ValueError):
        return None

"""Puts a planned runtime on a board: send, build, prove, and only then may it be entered."""

from __future__ import annotations

import json
from collections.abc import Sequence

from edgekit.flashing.board import INCOMING, Board, Sent
from edgekit.flashing.facts import System
from edgekit.flashing.runtime_plan import BASES, MARK, VENV, WHEELS, RuntimePlan
from edgekit.flashing.ssh import failure

_BUILD_S, _PROOF_S = 1800.0, 120.0
_LOCK = f"{INCOMING}/.lock"
_BUILD = """set -e; umask 022
mkdir -p "$(dirname "$1")"; rm -rf "$1"; "$2" -m venv --system-site-packages --without-pip "$1"
if [ -n "$3" ]; then pip="$3/pip"; else pip="-m pip"; fi
[ -n "$3" ] || "$1/bin/python" -m pip --version >/dev/null 2>&1 || "$1/bin/python" -m ensurepip -q
"$1/bin/python" $pip install --quiet --no-input --disable-pip-version-check --no-cache-dir --no-warn-script-location \
  --root-user-action=ignore $5 -r "$4"
"""
_PROOF = (
    "import edgekit_device.cli, edgekit_device.running, edgekit_device.publish.mqtt, numpy, cv2, importlib.util as u;"
    "assert u.find_spec('ai_edge_litert') or u.find_spec('tflite_runtime'), 'no interpreter';"
    "print(edgekit_device.__version__)"
)


async def is_whole(board: Board, plan: RuntimePlan) -> bool:
    """Whether the board has this environment already."""
    return await board.read(f"{plan.folder}/{MARK}") is not None


async def send(board: Board, plan: RuntimePlan, on_sent: Sent | None = None) -> int:
    """Send the wheels.

    Returns:
        Bytes that were sent.
    """
    await board.make_folder(WHEELS)
    total, before, sent = sum(wheel.path.stat().st_size for wheel in plan.wheels), 0, 0
    for wheel in plan.wheels:

        def report(done: int, whole: int, before: int = before) -> None:
            if on_sent:
                on_sent(before + done, total)

        sent += await board.put(wheel.path, f"{WHEELS}/{wheel.path.name}", on_sent=report)
        before += wheel.path.stat().st_size
    return sent


async def build(board: Board, plan: RuntimePlan, system: System) -> None:
    """Make the environment and prove that it starts; nothing runs in it yet.

    Raises:
        BoardError: Named by its class; the folder is a leftover then, which the next flash removes.
    """
    python = system.python
    assert python is not None
    requirements = f"{WHEELS}/requirements.txt"
    await board.write(requirements, plan.requirements.encode())
    pip = next((f"{WHEELS}/{wheel.path.name}" for wheel in plan.wheels if wheel.name == "pip"), python.pip)
    # An earlier try may still run on the board when its link was cut: one builds at a time.
    command = ["flock", "-w", "300", _LOCK, "sh", "-c", _BUILD, "sh", plan.folder, python.path, pip]
    ran = await board.run([*command, requirements, plan.options], deadline_s=_BUILD_S)
    if ran.status != 0:
        raise failure(board.name, "install the device runtime", ran)
    proved = await board.run([f"{plan.folder}/bin/python", "-I", "-c", _PROOF], deadline_s=_PROOF_S)
    if proved.status != 0 or proved.text != plan.version:
        raise failure(board.name, "start the device runtime that was installed", proved)
    mark = {
        "schema": 1,
        "runtime": plan.runtime_id,
        "version": plan.version,
        "wheels": {wheel.path.name: wheel.sha256 for wheel in plan.wheels},
    }
    if (ran := await board.run(["sync", "-f", plan.folder], deadline_s=300.0)).status != 0:
        raise failure(board.name, "write the device runtime to its disk", ran)
    await board.write(f"{plan.folder}/{MARK}", json.dumps(mark, sort_keys=True).encode() + b"\n")


async def marked_version(board: Board) -> str:
    """Version of the environment that is entered, by the mark that was written when it had started; empty without."""
    data = await board.read(f"{VENV}/{MARK}")
    try:
        return str(json.loads(data)["version"]) if data is not None else ""
    except (ValueError, KeyError, TypeError):
        return ""


async def held_runtime(board: Board) -> str:
    """The id of the environment that is entered; empty without."""
    entry = await board.entry(VENV)
    return entry.target.rpartition("/")[2] if entry is not None and entry.kind == "link" else ""


async def drop_others(board: Board, keep: Sequence[str]) -> None:
    """Remove environments that nothing needs, and what was sent to make one."""
    for name in await board.entries(BASES):
        if name not in keep:
            await board.remove(f"{BASES}/{name}")
    await board.remove(WHEELS)

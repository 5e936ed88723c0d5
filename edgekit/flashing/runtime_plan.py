"""What the device runtime of a board is made of, decided from its facts.

    /opt/edgekit-runtimes/<id>      the environment, and runtime.json, written last: without it this is a leftover
    /opt/edgekit/venv -> /opt/edgekit-runtimes/<id>

Which packages are the board's own and which are pip's is decided here, with the reason.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgekit.flashing.board import HOME, INCOMING
from edgekit.flashing.device_wheel import NAME, DeviceWheel
from edgekit.flashing.errors import BrokenPythonError, WheelsError
from edgekit.flashing.facts import System
from edgekit.flashing.wheelhouse import Selection, Wheel, choose, load_packaging

# Not below /opt/edgekit, which is the service user's to change: root runs what lies here.
BASES, VENV, MARK = "/opt/edgekit-runtimes", f"{HOME}/venv", "runtime.json"
WHEELS = f"{INCOMING}/wheels"
_COMPILED = 1.6
_INDEX_BYTES = 400 << 20
"""What pip's own choice takes of the disk, where it is not known beforehand: OpenCV, numpy, the interpreter."""


@dataclass(frozen=True)
class Constraint:
    """A package that is not pip's to choose.

    Attributes:
        name: E.g. ``numpy``.
        version: The board's own; ``<4.12`` and the like for one that pip may bring.
        own: Whether the board's own serves.
        reason: Why, for a person.
    """

    name: str
    version: str
    own: bool
    reason: str


@dataclass(frozen=True)
class RuntimePlan:
    """What the runtime of a board is to be.

    Attributes:
        runtime_id: ``VERSION-HASH``: equal plans are equal runtimes.
        version: Of edgekit-device.
        wheels: Files to send, the device wheel among them.
        requirements: The file that pip reads.
        options: For pip.
        constraints: With their reasons.
        from_index: Whether the board fetches from its own index.
        of_the_board: Name -> version of what the board's system brings.
    """

    runtime_id: str
    version: str
    wheels: tuple[Wheel, ...]
    requirements: str
    options: str
    constraints: tuple[Constraint, ...] = ()
    from_index: bool = False
    of_the_board: Mapping[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """Where it lies on the board."""
        return f"{BASES}/{self.runtime_id}"

    @property
    def needed_bytes(self) -> int:
        """Of the board's disk."""
        sent = sum(wheel.path.stat().st_size for wheel in self.wheels)
        return sent + int(_COMPILED * sum(w.unpacked_bytes for w in self.wheels)) + self.from_index * _INDEX_BYTES


def constrain(board: str, system: System) -> tuple[Constraint, ...]:
    """Decide which packages stay the board's own.

    Raises:
        BrokenPythonError: The board must bring a package itself and does not.
    """
    python = system.python
    if python is None:
        return ()
    missing = [name for name, has in (("numpy", python.numpy), ("opencv", python.opencv)) if has in (None, "broken")]
    if system.wheel_machine == "armv7l":
        if missing:
            names = " ".join(f"python3-{name}" for name in missing)
            raise BrokenPythonError(
                board, f"a 32-bit board needs apt's {' and '.join(missing)}", f"on the board: sudo apt install {names}"
            )
        reason = "no wheels of it exist for 32-bit ARM"
        return (
            Constraint("numpy", str(python.numpy), True, reason),
            Constraint("opencv-python-headless", str(python.opencv), True, reason),
        )
    if not python.picamera2 or "numpy" in missing:
        return ()
    reason = f"picamera2 was built against apt's numpy {python.numpy}; pip's would break it"
    found = [Constraint("numpy", str(python.numpy), True, reason)]
    if "opencv" not in missing:
        found.append(Constraint("opencv-python-headless", str(python.opencv), True, "apt's fits apt's numpy"))
    elif str(python.numpy).startswith("1."):
        found.append(Constraint("opencv-python-headless", "<4.12", False, f"later ones need numpy 2; {reason}"))
    return tuple(found)


def roots_of(system: System, constraints: Sequence[Constraint], *, updates: bool) -> list[str]:
    """The requirements that a runtime begins with."""
    own = {c.name for c in constraints if c.own}
    extras = ["ota"] if updates else []
    roots = [f"{NAME}[{','.join(extras)}]" if extras else NAME, "numpy"]
    roots.append("tflite-runtime" if system.wheel_machine == "armv7l" else "ai-edge-litert>=2.1.6,<3")
    if "opencv-python-headless" not in own:
        limit = next((c.version for c in constraints if c.name == "opencv-python-headless"), "")
        roots.append(f"opencv-python-headless>=4.10{',' + limit if limit else ''}")
    return [root for root in roots if root not in own]


def plan_runtime(
    board: str, system: System, device: DeviceWheel, place: Path, wheels: Sequence[Wheel] | None
) -> RuntimePlan:
    """Decide what a board's runtime is made of; nothing is sent.

    Args:
        board: Its name.
        system: Its facts.
        device: The device wheel.
        place: Folder of this machine where the device wheel lies as a file.
        wheels: What there is; None lets the board's pip fetch from its own index.

    Raises:
        WheelsError: A wheel is missing.
        BrokenPythonError: See `constrain`.
    """
    load_packaging()
    from edgekit.flashing.wheelhouse import read_wheel

    python = system.python
    assert python is not None
    constraints = constrain(board, system)
    path = place / device.file_name
    if not path.exists() or path.read_bytes() != device.data:
        path.write_bytes(device.data)
    own = read_wheel(path)
    kept = {c.name: c.version for c in constraints if c.own}
    selection = Selection()
    for updates in (True, False):
        roots = roots_of(system, constraints, updates=updates)
        selection = choose([own, *(wheels or ())], roots, python, system.wheel_machine, kept)
        if not selection.missing:
            return _offline(device, selection, constraints, system)
    if wheels is not None:
        version = ".".join(map(str, python.version[:2]))
        raise WheelsError(
            board,
            f"no wheel for {system.wheel_machine}, Python {version} of: {', '.join(selection.missing)}",
            f"edgekit wheels fetch --python {version} --machine {system.wheel_machine}",
        )
    return _online(device, own, roots_of(system, constraints, updates=True), constraints, system)


def _offline(
    device: DeviceWheel, selection: Selection, constraints: tuple[Constraint, ...], system: System
) -> RuntimePlan:
    lines = [
        f"{wheel.name} @ file://{WHEELS}/{wheel.path.name} --hash=sha256:{wheel.sha256}" for wheel in selection.wheels
    ]
    text = "\n".join(lines) + "\n"
    options = "--no-index --no-deps --require-hashes --ignore-installed"
    name = _id(device, text, system)
    return RuntimePlan(
        name, device.version, selection.wheels, text, options, constraints, of_the_board=selection.of_the_board
    )


def _online(
    device: DeviceWheel, own: Wheel, roots: list[str], constraints: tuple[Constraint, ...], system: System
) -> RuntimePlan:
    rest = [root for root in roots if not root.startswith(NAME)]
    kept = [f"numpy=={c.version}" for c in constraints if c.own and c.name == "numpy"]
    text = "\n".join([f"{NAME}[ota] @ file://{WHEELS}/{own.path.name}", *rest, *kept]) + "\n"
    return RuntimePlan(_id(device, text, system), device.version, (own,), text, "", constraints, from_index=True)


def _id(device: DeviceWheel, requirements: str, system: System) -> str:
    python = system.python.text if system.python else ""
    digest = hashlib.sha256(f"{requirements}\n{python}\n{device.sha256}".encode()).hexdigest()
    return f"{device.version}-{digest[:12]}"


def words_of(plan: RuntimePlan) -> list[str]:
    """What a dry run says about the runtime, one line each."""
    lines = []
    size = sum(wheel.path.stat().st_size for wheel in plan.wheels)
    where = "from the board's own package index" if plan.from_index else "offline, with hashes"
    lines.append(
        f"install edgekit-device {plan.version} into {plan.folder} "
        f"({len(plan.wheels)} wheels, {size / 1e6:.1f} MB, {where})"
    )
    for limit in plan.constraints:
        whose = f"the board's own {limit.version}" if limit.own else f"pip's {limit.version}"
        lines.append(f"{limit.name}: {whose} ({limit.reason})")
    rest = {name: v for name, v in plan.of_the_board.items() if name not in {c.name for c in plan.constraints}}
    if rest:
        lines.append(f"the board's own: {shlex.join(f'{name}=={version}' for name, version in sorted(rest.items()))}")
    return lines

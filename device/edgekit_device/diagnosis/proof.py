"""Prove a bundle's golden vectors on every rung, each in a child of its own.

A rung that crashes, hangs or computes something else is one line of the answer, and ends nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from edgekit_device.diagnosis.children import ask
from edgekit_device.ladder import CPU_RUNGS
from edgekit_device.progress import sealed_memory

if TYPE_CHECKING:
    from edgekit_device.bundle import Bundle

EDGETPU = "edgetpu"
_DEADLINE_S = 60.0

_CODE = """
import time
config = json.loads(sys.stdin.readline())
from edgekit_device.bundle import parse_bundle
from edgekit_device.contract.errors import EdgeKitError
from edgekit_device.infer.golden import prove
from edgekit_device.infer.interpreter import Engine
from edgekit_device.progress import read_memory
import numpy
bundle = parse_bundle(read_memory(config["fd"]), config["path"], config["key_id"])
try:
    engine = Engine(bundle.model(config["role"]), delegate=config["rung"], threads=config["threads"])
    golden = prove(engine, bundle)
except EdgeKitError as error:
    answer({"problem": str(error)})
    sys.exit()
still, times = numpy.zeros(engine.input.shape, engine.input.dtype), []
until = time.monotonic() + 1.0
while len(times) < 20 and (len(times) < 3 or time.monotonic() < until):
    begun = time.monotonic()
    engine.raw(still)
    times.append(time.monotonic() - begun)
answer({"difference": golden["largest_difference"], "tolerance": golden["tolerance"], "images": golden["images"],
        "ms": sorted(times)[len(times) // 2] * 1000})
"""


@dataclass(frozen=True)
class Proof:
    """How one rung stands.

    Attributes:
        rung: Its name.
        ok: Whether it reproduces every golden vector.
        difference: Largest difference of any score; None when it did not get that far.
        tolerance: What the bundle allows.
        invoke_ms: Median of some inferences on an empty picture, ms.
        reason: Why it is not ok; None when it is.
    """

    rung: str
    ok: bool
    difference: float | None = None
    tolerance: float | None = None
    invoke_ms: float | None = None
    reason: str | None = None

    def to_json(self) -> dict[str, object]:
        """The row as it stands in ``--json``."""
        return asdict(self)


def rungs_of(bundle: Bundle) -> tuple[str, ...]:
    """The rungs that a bundle has a model for, best first."""
    return (EDGETPU, *CPU_RUNGS) if EDGETPU in bundle.manifest.models else CPU_RUNGS


def prove_rung(
    bundle: Bundle, data: bytes, path: str, rung: str, *, threads: int = 1, deadline_s: float = _DEADLINE_S
) -> Proof:
    """Prove one rung in a child.

    Args:
        bundle: The bundle, its signature checked.
        data: Its bytes; the child gets them sealed, never the path.
        path: What to call it in errors.
        rung: Which rung.
        threads: Interpreter threads.
        deadline_s: How long the child may take.
    """
    fd = sealed_memory("edgekit-check", data)
    config = {
        "fd": fd,
        "path": path,
        "key_id": bundle.key_id,
        "rung": rung,
        "role": EDGETPU if rung == EDGETPU else "cpu",
        "threads": threads,
    }
    try:
        found = ask(_CODE, deadline_s=deadline_s, stdin=json.dumps(config) + "\n", pass_fds=(fd,))
    finally:
        os.close(fd)
    value = found.value
    if value is None or "problem" in value:
        return Proof(rung, ok=False, reason=found.problem if value is None else value["problem"])
    return Proof(rung, True, round(value["difference"], 6), round(value["tolerance"], 6), round(value["ms"], 3))


def table(proofs: Sequence[Proof]) -> str:
    """The rows for a person."""
    lines = [f"{'rung':<9} {'proved':<7} {'difference':>10} {'allowed':>9} {'invoke':>10}"]
    for proof in proofs:
        if proof.ok and proof.difference is None:
            lines.append(f"{proof.rung:<9} {'yes':<7} {proof.reason}")
        elif proof.ok:
            cells = f"{proof.difference:>10.4f} {proof.tolerance:>9.4f} {proof.invoke_ms:>7.2f} ms"
            lines.append(f"{proof.rung:<9} {'yes':<7} {cells}")
        else:
            lines.append(f"{proof.rung:<9} {'NO':<7} {proof.reason}")
    return "\n".join(lines)

"""The golden self-test before a release is entered: in a child, with limits of time and memory.

A model that crashes, hangs or eats the memory ends its child; the board goes on with what it has.
"""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Any

from edgekit_device.contract.errors import SelfTestError
from edgekit_device.diagnosis.children import ask
from edgekit_device.ladder import CPU_RUNGS
from edgekit_device.progress import sealed_memory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgekit_device.bundle import Bundle

DEADLINE_S = 60.0
MEMORY_BYTES = 1 << 30
# The whole bundle, its files, and what the interpreter makes of the model.
_COPIES = 4

# RLIMIT_DATA counts private writable pages, so an interpreter's reserved address space costs nothing. SIGXCPU ends
# a child whose parent is gone and whose model never returns.
_CODE = """
import resource
config = json.loads(sys.stdin.readline())
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
resource.setrlimit(resource.RLIMIT_DATA, (config["memory"], config["memory"]))
resource.setrlimit(resource.RLIMIT_CPU, (config["cpu_s"], config["cpu_s"] + 1))
from edgekit_device.bundle import parse_bundle
from edgekit_device.contract.errors import EdgeKitError
from edgekit_device.progress import read_memory
try:
    from edgekit_device.infer.rung import open_rung
    from edgekit_device.soundness import check_sound
    bundle = parse_bundle(read_memory(config["fd"]), config["path"], config["key_id"])
    rung = open_rung(bundle, config["rung"], 1)
    check_sound(rung, bundle)
    golden = rung.golden
except EdgeKitError as error:
    answer({"problem": str(error)})
except MemoryError:
    answer({"problem": "needs more than %d MB" % (config["memory"] >> 20)})
else:
    # VmHWM and not ru_maxrss: the latter begins at what the parent had when it forked.
    with open("/proc/self/status") as status:
        peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
    answer({"golden": golden, "peak_bytes": peak << 10})
"""


def self_test(
    bundle: Bundle, data: bytes, *, deadline_s: float = DEADLINE_S, rungs: Sequence[str] = CPU_RUNGS
) -> dict[str, Any]:
    """Prove a bundle's CPU model on this board: the first rung that reproduces the golden vectors will do.

    The Edge TPU is left to the service: a second process that opens it would abort the one that serves.

    Args:
        bundle: The bundle, its signature checked.
        data: Its bytes; the child gets them sealed, never a path.
        deadline_s: How long each rung may take.
        rungs: Which to try, best first.

    Returns:
        ``{"rung": name, "failed": {rung: reason}, "golden": {...}, "peak_bytes": n}``.

    Raises:
        SelfTestError: Every rung crashed, hung, or computed something else.
    """
    failed: dict[str, str] = {}
    for rung in rungs:
        found = try_rung(bundle, data, rung, deadline_s)
        if "golden" in found:
            return {"rung": rung, "failed": failed, **found}
        failed[rung] = str(found["problem"])
    raise SelfTestError(bundle.manifest.bundle_id, failed)


def try_rung(bundle: Bundle, data: bytes, rung: str, deadline_s: float) -> dict[str, Any]:
    """Open and prove one rung in a child.

    Returns:
        ``{"golden": {...}, "peak_bytes": n}``, or ``{"problem": why}``.
    """
    fd = sealed_memory("edgekit-self-test", data)
    config = {
        "fd": fd,
        "path": bundle.manifest.bundle_id,
        "key_id": bundle.key_id,
        "rung": rung,
        "memory": max(MEMORY_BYTES, _COPIES * len(data)),
        "cpu_s": int(deadline_s) + 1,
    }
    try:
        found = ask(_CODE, deadline_s=deadline_s, stdin=json.dumps(config) + "\n", pass_fds=(fd,))
    finally:
        os.close(fd)
    if found.value is None:
        # An interpreter's own greeting is often its last word, and explains nothing.
        return {"problem": re.sub(r": (INFO|WARNING): .*", "", found.problem or "gave no answer")}
    return found.value

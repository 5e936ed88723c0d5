"""What makes a board slower than it could be, and what to do about it: the system, the interpreter, the kernels.

The first two are known at once. The third is measured on a pair of small models, the same graph in int8 and in
float32, in a tenth of a second: there is no float model on a board to compare with, and what decides is which kernels
the interpreter has for this processor, not which model runs.
"""

from __future__ import annotations

import platform
import struct
import time
from importlib.resources import files

# Two runs of one binary differ by a few percent.
NOISE = 1.1
_ROUNDS, _WARM_UP = 8, 2
_BITS_64 = ("aarch64", "arm64", "armv8l", "x86_64")
_X86 = ("x86_64", "AMD64", "i686")
LITERT = "pip install ai-edge-litert"


def system_warning(machine: str | None = None, pointer_bytes: int = struct.calcsize("P")) -> str | None:
    """A 32-bit system on a 64-bit board; None where it is as it should be.

    Args:
        machine: What uname says of the kernel.
        pointer_bytes: Size of this process's pointers.
    """
    machine = platform.machine() if machine is None else machine
    if pointer_bytes >= 8 or machine not in _BITS_64:
        return None
    return (
        f"32-bit system on a 64-bit board ({machine}): slower kernels and an older interpreter; "
        "write the 64-bit Raspberry Pi OS to the card"
    )


def interpreter_warning(interpreter: str, dtype: str, machine: str | None = None) -> str | None:
    """An interpreter whose fast kernels leave out this kind of model on this processor; None otherwise.

    Args:
        interpreter: The package that runs the model.
        dtype: Of the model's input.
        machine: What uname says.
    """
    machine = platform.machine() if machine is None else machine
    if interpreter == "tflite_runtime" and machine in _X86 and dtype in ("int8", "uint8"):
        return f"tflite-runtime has no fast int8 kernels on x86: nine times slower here than ai-edge-litert; {LITERT}"
    return None


def int8_warning(int8_s: float, float_s: float) -> str | None:
    """What the pair says.

    Args:
        int8_s: Seconds of one inference of the int8 one.
        float_s: The same of the float32 one.
    """
    if int8_s <= NOISE * float_s:
        return None
    return f"int8 is {int8_s / float_s:.1f} x slower than float32 on this interpreter and processor; {LITERT}"


def measure_pair() -> tuple[float, float]:
    """Seconds of one inference in int8 and in float32, each the least of some rounds by turns.

    Seconds of the processor, not of the clock: a board that is busy at its start is not told that int8 is slow.

    Raises:
        EdgeKitError: No interpreter is installed, or it cannot run them.
    """
    import numpy as np

    from edgekit_device.infer.interpreter import Engine

    folder = files("edgekit_device.infer")
    engines = [Engine(folder.joinpath(f"pair_{kind}.tflite").read_bytes(), name=kind) for kind in ("int8", "float32")]
    best = [float("inf")] * len(engines)
    for number in range(_WARM_UP + _ROUNDS):
        for place, engine in enumerate(engines):
            engine.load(lambda out: np.copyto(out, 1, casting="unsafe"))
            began = time.thread_time()
            engine.invoke()
            if number >= _WARM_UP:
                best[place] = min(best[place], time.thread_time() - began)
    return best[0], best[1]


def warnings_for(interpreter: str, dtype: str, *, measure: bool) -> list[str]:
    """What is slow about a model that is about to serve; the cause alone where it is known.

    Args:
        interpreter: The package that runs it.
        dtype: Of its input.
        measure: Whether there is a tenth of a second for the pair.
    """
    known = interpreter_warning(interpreter, dtype)
    if known is None and measure and dtype in ("int8", "uint8"):
        known = int8_warning(*measure_pair())
    return [words for words in (system_warning(), known) if words]

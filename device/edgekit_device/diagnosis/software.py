"""Python, its packages and the libraries below them."""

from __future__ import annotations

import importlib.metadata
import platform
import struct
import sys
from collections.abc import Sequence
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from edgekit_device.diagnosis.children import ask
from edgekit_device.diagnosis.finding import FAIL, OK, WARN, Finding

_OLDEST, _NEWEST = (3, 11), (3, 13)
_DEADLINE_S = 20.0
_APT_PYTHON = "sudo apt install python3 python3-venv   # Raspberry Pi OS 12 or newer"
_NUMPY_1 = "pip install 'numpy<2' 'opencv-python-headless<4.12'"
_ABI_WORDS = ("dtype size changed", "binary incompatibility", "_ARRAY_API", "compiled using NumPy 1")
_LITERT = "pip install 'edgekit-device[litert]'"
# Debian's own packages; pip's lie in site-packages.
_SYSTEM = "dist-packages"

_INTERPRETER = """
import numpy
from edgekit_device.infer.interpreter import find_interpreter
name, module = find_interpreter()
run = module.Interpreter(model_content=bytes.fromhex(sys.argv[1]), num_threads=1)
run.allocate_tensors()
run.set_tensor(run.get_input_details()[0]["index"], numpy.array([[1, 2, 3, 4]], numpy.float32))
run.invoke()
found = run.get_tensor(run.get_output_details()[0]["index"])[0].tolist()
from importlib.metadata import version
try:
    number = version(name.replace("_", "-"))
except Exception:
    number = "of unknown version"
answer({"name": name, "version": number, "numpy": numpy.__version__, "right": found == [2, 4, 6, 8]})
"""
_SPEED = """
from edgekit_device import slowness
from edgekit_device.infer.interpreter import find_interpreter
int8, float32 = slowness.measure_pair()
known = slowness.interpreter_warning(find_interpreter()[0], "int8") or slowness.int8_warning(int8, float32)
answer({"int8": int8, "float32": float32, "warnings": [known] if known else []})
"""
_OPENCV = """
import numpy, cv2
ok = cv2.imdecode(cv2.imencode(".png", numpy.zeros((4, 4, 3), numpy.uint8))[1], 1).shape == (4, 4, 3)
answer({"version": cv2.__version__, "numpy": numpy.__version__, "right": ok})
"""
_PICAMERA2 = "import picamera2\nanswer({})\n"


def python_version(version: Sequence[int] = sys.version_info[:3]) -> Finding:
    """Whether this Python is one that EdgeKit and its packages have wheels for."""
    text = ".".join(str(part) for part in version[:3])
    detail = f"{text} on {platform.machine()}"
    if tuple(version[:2]) < _OLDEST:
        return Finding("python", FAIL, f"{detail}: older than 3.11", _APT_PYTHON)
    if tuple(version[:2]) > _NEWEST:
        return Finding("python", WARN, f"{detail}: newer than 3.13, not tested", "python3.13 -m venv .venv")
    return Finding("python", OK, detail)


def userland(machine: str | None = None, pointer_bytes: int = struct.calcsize("P")) -> Finding:
    """A 64-bit kernel under a 32-bit system: pip finds no interpreter, numpy or OpenCV there.

    Args:
        machine: What uname says of the kernel.
        pointer_bytes: Size of this process's pointers.
    """
    machine = platform.machine() if machine is None else machine
    bits = 8 * pointer_bytes
    if bits == 32 and machine in ("aarch64", "arm64", "armv8l", "x86_64"):
        return Finding(
            "userland",
            FAIL,
            f"32-bit userland on a 64-bit kernel ({machine}): there are no wheels for it",
            "rpi-imager   # write the 64-bit Raspberry Pi OS to the card, then: edgekit flash",
        )
    if bits == 32:
        return Finding(
            "userland", WARN, f"32-bit ({machine}): best effort only, with tflite-runtime", "pip install tflite-runtime"
        )
    return Finding("userland", OK, f"64-bit ({machine})")


def interpreter(python: str | None = None, deadline_s: float = _DEADLINE_S) -> Finding:
    """Construct and invoke the interpreter in a child, on a model of one layer that ships with EdgeKit.

    Args:
        python: The Python to try; the one that runs this by default.
        deadline_s: How long it may take.
    """
    model = (files("edgekit_device.diagnosis") / "probe.tflite").read_bytes()
    found = ask(_INTERPRETER, model.hex(), deadline_s=deadline_s, python=python)
    if found.value is None:
        problem = found.problem or "gave no answer"
        remedy = _NUMPY_1 if any(word in problem for word in _ABI_WORDS) else f"{_LITERT} --upgrade"
        if "MissingPackageError" in problem:
            return Finding("interpreter", FAIL, "no TFLite interpreter is installed", _LITERT)
        return Finding("interpreter", FAIL, f"constructing one in a child {problem}", remedy)
    value = found.value
    detail = f"{value['name']} {value['version']} with numpy {value['numpy']}"
    if not value["right"]:
        return Finding("interpreter", FAIL, f"{detail} computes a wrong product", f"{_LITERT} --force-reinstall")
    return Finding("interpreter", OK, f"{detail}; a one-layer model runs")


def speed(python: str | None = None, deadline_s: float = _DEADLINE_S) -> Finding | None:
    """Whether int8 is the faster kind here, on a pair of small models in a child; None where nothing runs at all.

    Args:
        python: The Python to try; the one that runs this by default.
        deadline_s: How long it may take.
    """
    value = ask(_SPEED, deadline_s=deadline_s, python=python).value
    if value is None:
        return None  # `interpreter` has said why.
    ratio = value["int8"] / value["float32"]
    detail = f"int8 takes {ratio:.2f} of the time of float32"
    if not value["warnings"]:
        return Finding("speed", OK, detail)
    words, _, remedy = value["warnings"][0].rpartition("; ")
    return Finding("speed", WARN, f"{words} ({detail})", remedy)


def opencv(python: str | None = None, deadline_s: float = _DEADLINE_S) -> Finding:
    """Import OpenCV in a child and code a picture with it."""
    found = ask(_OPENCV, deadline_s=deadline_s, python=python)
    if found.value is not None and found.value["right"]:
        return Finding("opencv", OK, f"{found.value['version']} with numpy {found.value['numpy']}")
    problem = found.problem or "cannot code a picture"
    if "libGL" in problem or "libgthread" in problem:
        remedy = "pip uninstall -y opencv-python && pip install --force-reinstall opencv-python-headless"
    elif any(word in problem for word in _ABI_WORDS):
        remedy = _NUMPY_1
    else:
        remedy = "pip install 'edgekit-device[opencv]'   # or: sudo apt install python3-opencv"
    return Finding("opencv", FAIL, f"importing it in a child {problem}", remedy)


def numpy_abi(path: Sequence[str] | None = None) -> Finding:
    """Which numpy is used, and whether picamera2's compiled parts fit it.

    On Raspberry Pi OS 12, apt's picamera2 and simplejpeg are compiled against apt's numpy 1.24; a numpy 2 that pip
    puts before it makes `import picamera2` fail.

    Args:
        path: Where packages are looked for; `sys.path` by default.
    """
    places = list(sys.path if path is None else path)
    numpys = [(dist.version, _folder(dist)) for dist in importlib.metadata.distributions(name="numpy", path=places)]
    if not numpys:
        return Finding("numpy", FAIL, "no numpy is installed", "pip install 'edgekit-device[opencv,litert]'")
    used, folder = numpys[0]
    detail = f"{used} in {folder}"
    camera = next((Path(p) / "picamera2" for p in places if (Path(p) / "picamera2" / "__init__.py").is_file()), None)
    hidden = [number for number, where in numpys[1:] if _SYSTEM in where and _major(number) < _major(used)]
    if camera is not None and _SYSTEM in str(camera) and hidden:
        return Finding(
            "numpy",
            FAIL,
            f"{detail} hides apt's numpy {hidden[0]}, which apt's picamera2 was compiled against",
            _NUMPY_1,
        )
    return Finding("numpy", OK, detail + ("; picamera2 uses the same" if camera is not None else ""))


def picamera2(python: str | None = None, deadline_s: float = _DEADLINE_S) -> Finding | None:
    """Import picamera2 in a child, where it is installed; None where it is not."""
    if python is None and find_spec("picamera2") is None:
        return None
    found = ask(_PICAMERA2, deadline_s=deadline_s, python=python)
    if found.value is not None:
        return Finding("picamera2", OK, "can be imported")
    problem = found.problem or "failed"
    clash = any(word in problem for word in _ABI_WORDS)
    remedy = _NUMPY_1 if clash else "sudo apt install --reinstall python3-picamera2 python3-libcamera"
    return Finding("picamera2", FAIL, f"importing it in a child {problem}", remedy)


def _folder(dist: importlib.metadata.Distribution) -> str:
    return str(Path(str(dist.locate_file(""))))


def _major(version: str) -> int:
    head = version.split(".", 1)[0]
    return int(head) if head.isdigit() else 0

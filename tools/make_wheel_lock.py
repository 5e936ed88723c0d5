"""Make edgekit/flashing/wheels.lock.json: the wheels that a board's runtime is made of, with their hashes.

    python tools/make_wheel_lock.py

Packages are named, never an address: pip finds them where this machine's pip looks. Every target is then chosen from
the way `edgekit flash` chooses, so that a lock with a hole is not written. Downloads some 400 MB into build/wheel-lock,
and what lies there is not asked for again: remove it for newer versions.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

PLACE, LOCK = ROOT / "build" / "wheel-lock", ROOT / "edgekit" / "flashing" / "wheels.lock.json"
# Newest glibc that wheels may ask for: Debian 12 has Python 3.11, Debian 13 has 3.13.
GLIBC_MINOR = {"3.11": 36, "3.13": 41}
LEAST_GLIBC_MINOR = 17
MACHINES = ("aarch64", "x86_64")
# numpy 1 is what Bookworm's picamera2 was built with; the last OpenCV that takes it.
OLD_OPENCV = "opencv-python-headless>=4.10,<4.12"
# What exists for 32-bit boards. numpy and OpenCV are apt's there, and no wheel of cffi exists: such a board still needs
# its own index (Raspberry Pi OS brings piwheels).
ARMV7 = ("tflite-runtime>=2.14,<3", "cryptography>=42", "paho-mqtt>=2.1,<3", "py-minisign>=0.15", "pip")
ARMV7_APT = {"numpy": "apt"}


def device_roots() -> tuple[list[str], list[str]]:
    """(what edgekit-device needs everywhere, what a 64-bit board gets beside it)."""
    project = tomllib.loads((ROOT / "device" / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    return [*project["dependencies"], *extras["ota"]], [*extras["litert"], *extras["opencv"], "numpy", "pip"]


def platforms(python: str, machine: str) -> list[str]:
    """Pip's words for a board."""
    names = [f"manylinux_2_{n}_{machine}" for n in range(GLIBC_MINOR[python], LEAST_GLIBC_MINOR - 1, -1)]
    return [word for name in [*names, f"manylinux2014_{machine}"] for word in ("--platform", name)]


def download(python: str, machine: str, wanted: list[str], *, deps: bool = True) -> bool:
    """Let pip choose and bring wheels; False if it cannot."""
    folder = PLACE / f"{python}-{machine}"
    words = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:", "--python-version", python]
    words += [*platforms(python, machine), "--dest", str(folder), *([] if deps else ["--no-deps"]), *wanted]
    print(f"{python} {machine}: {' '.join(wanted)}", flush=True)
    return subprocess.run(words, check=False).returncode == 0


def fill(python: str, machine: str) -> None:
    """Bring everything for one kind of board."""
    base, more = device_roots()
    if machine == "armv7l":
        for package in ARMV7:
            if not download(python, machine, [package], deps=False):
                print(f"{python} {machine}: no wheel of {package}; best effort", flush=True)
        return
    if not download(python, machine, [*base, *more]):
        sys.exit(f"{python} {machine}: pip found no set of wheels")
    if python == "3.11" and not download(python, machine, [OLD_OPENCV], deps=False):
        sys.exit(f"{python} {machine}: no wheel of {OLD_OPENCV}")


def complete(python: str, machine: str) -> None:
    """Choose as `edgekit flash` does; pip read the markers as this machine's Python, so some may be missing still."""
    from edgekit.flashing.facts import PythonFacts
    from edgekit.flashing.wheelhouse import choose, read_wheel

    base, more = device_roots()
    major, minor = map(int, python.split("."))
    facts = PythonFacts("/usr/bin/python3", (major, minor, 0), libc=f"2.{GLIBC_MINOR[python]}")
    own = ARMV7_APT if machine == "armv7l" else {}
    roots = list(ARMV7) if machine == "armv7l" else [*base, *more]
    for _ in range(3):
        wheels = [read_wheel(path) for path in sorted((PLACE / f"{python}-{machine}").glob("*.whl"))]
        missing = choose(wheels, roots, facts, machine, own).missing
        if not missing:
            return
        download(python, machine, list(missing), deps=False)
    if machine != "armv7l":
        sys.exit(f"{python} {machine}: no wheel of {', '.join(missing)}")
    print(f"{python} {machine}: best effort; the board must bring {', '.join(missing)}")


def main() -> None:
    """Bring, check, write."""
    targets = [(python, machine) for python in GLIBC_MINOR for machine in MACHINES] + [("3.11", "armv7l")]
    found: dict[str, list[str]] = {}
    wheels: dict[str, dict[str, object]] = {}
    for python, machine in targets:
        if not (PLACE / f"{python}-{machine}").exists():
            fill(python, machine)
        complete(python, machine)
        files = sorted((PLACE / f"{python}-{machine}").glob("*.whl"))
        found[f"{python} {machine}"] = [path.name for path in files]
        for path in files:
            data = path.read_bytes()
            wheels[path.name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    document = {"schema": 1, "targets": found, "wheels": wheels}
    LOCK.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", "utf-8")
    total = sum(int(str(entry["bytes"])) for entry in wheels.values())
    print(f"{LOCK}: {len(wheels)} wheels, {total / 1e6:.0f} MB, {len(found)} kinds of board")


if __name__ == "__main__":
    main()

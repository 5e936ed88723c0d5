"""What a board is, asked once by one shell script: everything that decides what a flash does to it.

Asked with plain `sh`, so that a board whose Python is broken can still say so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgekit.flashing.board import Board
from edgekit.flashing.errors import UnsupportedBoardError
from edgekit.flashing.ssh import failure

_FACTS_S = 120.0

# Reversed: of two distributions of one name the first counts. Debian's OpenCV is none, and importing it takes seconds.
_PROBE = r"""
import glob, importlib.util as u, json, os, struct, subprocess, sys
from importlib import metadata as m
def there(n):
    try: return u.find_spec(n) is not None
    except Exception: return False
packages = {d.metadata["Name"]: d.version for d in reversed(list(m.distributions())) if d.metadata["Name"]}
def opencv():
    named = [v for n, v in packages.items() if n.startswith("opencv")]
    if named or not there("cv2"): return (named or [None])[0]
    try:
        r = subprocess.run([sys.executable, "-c", "import cv2; print(cv2.__version__)"], capture_output=True, text=True,
            timeout=60)
        return r.stdout.strip() if r.returncode == 0 else "broken"
    except Exception: return "broken"
print("probe=" + json.dumps({
    "version": list(sys.version_info[:3]), "bits": struct.calcsize("P") * 8,
    "libc": (os.confstr("CS_GNU_LIBC_VERSION") or "").rpartition(" ")[2],
    "packages": packages,
    "picamera2": there("picamera2"), "numpy": packages.get("numpy"), "opencv": opencv(), "venv": there("venv"),
    "pip": (glob.glob("/usr/share/python-wheels/pip-*.whl") or [""])[0], "pip_module": there("pip")}))
"""

_SCRIPT = r"""
say() { printf '%s=%s\n' "$1" "$(printf %s "$2" | tr '\n' ' ')"; }
say kernel "$(uname -s)"
say machine "$(uname -m)"
say hostname "$(uname -n)"
say dpkg "$(dpkg --print-architecture 2>/dev/null)"
for k in ID VERSION_ID PRETTY_NAME; do
  say "os_$k" "$(sed -n "s/^$k=//p" /etc/os-release 2>/dev/null | tr -d '\042')"; done
[ -d /run/systemd/system ] && say init systemd || say init none
say clock "$(date -u +%s)"
say free_kib "$(df -Pk /opt 2>/dev/null | sed -n '2s/ \{1,\}/ /gp' | cut -d' ' -f4)"
say model "$(tr -d '\000' </proc/device-tree/model 2>/dev/null)"
say user "$(id -un edgekit 2>/dev/null)"
say groups "$(getent group 2>/dev/null | cut -d: -f1)"
p=/usr/bin/python3; [ -e "$p" ] || p=$(command -v python3)
say python "$p"
if [ -n "$p" ]; then out=$("$p" -I -c "$1" 2>&1); rc=$?; say python_status "$rc"
  case $rc in 0) printf '%s\n' "$out" ;; *) say python_said "$(printf %s "$out" | tail -n 1)" ;; esac; fi
say end 1
"""


@dataclass(frozen=True)
class PythonFacts:
    """The board's own Python, and what its packages bring.

    Attributes:
        path: Of the program.
        version: (3, 11, 2).
        bits: 32 or 64.
        libc: Version of glibc, e.g. ``2.36``.
        packages: Distribution name -> version.
        picamera2: Whether CSI cameras can be read.
        numpy: Version; None without.
        opencv: The same; ``broken`` if it cannot be imported.
        venv: Whether environments can be made.
        pip: A wheel of pip that lies on the board; empty without.
        pip_module: Whether ``python3 -m pip`` is there.
    """

    path: str
    version: tuple[int, int, int]
    bits: int = 64
    libc: str = ""
    packages: Mapping[str, str] = field(default_factory=dict)
    picamera2: bool = False
    numpy: str | None = None
    opencv: str | None = None
    venv: bool = True
    pip: str = ""
    pip_module: bool = False

    @property
    def text(self) -> str:
        """``3.11.2``."""
        return ".".join(map(str, self.version))


@dataclass(frozen=True)
class System:
    """One board.

    Attributes:
        kernel: ``Linux``.
        machine: As the kernel names it, e.g. ``aarch64``.
        hostname: Its own name.
        dpkg: Debian's name of its architecture; empty where dpkg is not.
        os_id: E.g. ``debian``.
        os_version: E.g. ``12``.
        os_name: In words.
        init: ``systemd`` or ``none``.
        clock_s: Seconds since 1970, by its clock.
        free_bytes: On the disk that holds /opt.
        model: E.g. ``Raspberry Pi 5 Model B Rev 1.0``; empty if unknown.
        has_user: Whether the user edgekit exists.
        groups: Names of its groups.
        python: Its Python; None where it does not run.
        python_problem: Why not.
    """

    kernel: str = "Linux"
    machine: str = "aarch64"
    hostname: str = ""
    dpkg: str = "arm64"
    os_id: str = "debian"
    os_version: str = "12"
    os_name: str = ""
    init: str = "systemd"
    clock_s: int = 0
    free_bytes: int = 0
    model: str = ""
    has_user: bool = False
    groups: tuple[str, ...] = ()
    python: PythonFacts | None = None
    python_problem: str = ""

    @property
    def wheel_machine(self) -> str:
        """The processor as wheels name it; a 64-bit kernel under a 32-bit system runs 32-bit programs."""
        if self.machine in ("aarch64", "armv7l", "armv8l") and (self.python and self.python.bits == 32):
            return "armv7l"
        return self.machine

    @property
    def words(self) -> str:
        """One line for a person."""
        python = f"Python {self.python.text}" if self.python else "no Python"
        return ", ".join(word for word in (self.model, self.os_name, self.machine, python, f"init {self.init}") if word)


async def ask(board: Board) -> System:
    """Ask a board what it is.

    Raises:
        UnsupportedBoardError: It does not even speak like a Linux system.
        BoardError: The connection, or the command.
    """
    ran = await board.run(["sh", "-c", _SCRIPT, "sh", _PROBE], deadline_s=_FACTS_S)
    values = dict(line.partition("=")[::2] for line in ran.text.splitlines() if "=" in line)
    if ran.status != 0 and not values:
        raise failure(board.name, "ask what it is", ran)
    if "end" not in values or not values.get("kernel"):
        raise UnsupportedBoardError(
            board.name, "its shell does not answer like a Linux system", "name a board that runs Raspberry Pi OS"
        )
    return system_from(values)


def system_from(values: Mapping[str, str]) -> System:
    """Read the script's lines."""
    python, problem = _python(values)
    return System(
        kernel=values["kernel"].strip(),
        machine=values.get("machine", "").strip(),
        hostname=values.get("hostname", "").strip(),
        dpkg=values.get("dpkg", "").strip(),
        os_id=values.get("os_ID", "").strip(),
        os_version=values.get("os_VERSION_ID", "").strip(),
        os_name=values.get("os_PRETTY_NAME", "").strip(),
        init=values.get("init", "none").strip(),
        clock_s=_number(values.get("clock")),
        free_bytes=_number(values.get("free_kib")) * 1024,
        model=values.get("model", "").strip(),
        has_user=bool(values.get("user", "").strip()),
        groups=tuple(values.get("groups", "").split()),
        python=python,
        python_problem=problem,
    )


def _python(values: Mapping[str, str]) -> tuple[PythonFacts | None, str]:
    path = values.get("python", "").strip()
    if not path:
        return None, "it has no python3"
    try:
        found: dict[str, Any] = json.loads(values["probe"])
        major, minor, micro = (int(part) for part in found.pop("version"))
        return PythonFacts(path=path, version=(major, minor, micro), **found), ""
    except (KeyError, ValueError, TypeError):
        status, said = values.get("python_status", "?"), values.get("python_said", "").strip()
        return None, f"{path} does not run (status {status}{f': {said[:200]}' if said else ''})"


def _number(text: str | None) -> int:
    word = (text or "").strip()
    return int(word) if word.lstrip("-").isdigit() else 0

"""A board whose service is started by the launcher and started again whenever it ends; runtimes that are good or bad.

The runtime that `edgekit flash` would have made is an environment with a path to this tree. Releases carry the device's
package itself, with one thing broken in each bad one.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekit_device.runtimes import launcher, slots
from tests.worlds import runtimes
from tests.worlds.bundles import Signer
from tests.worlds.runtimes import ROOT_OF, Release, device_files, system_packages
from tests.worlds.trial_board import QUICK, Board


class RuntimeBoard(Board):
    """A board with a launcher and a first runtime; the model on it passed long ago."""

    def __init__(self, folder: Path, signer: Signer | None = None) -> None:
        super().__init__(folder, signer)
        self.place.mkdir(parents=True)
        self.launch = self.place / slots.LAUNCH
        self.launch.write_bytes(Path(launcher.__file__).read_bytes())
        self.launch.chmod(0o755)
        make_base(self.place / launcher.BASE)
        self.model = self.committed()
        self.words: tuple[str, ...] = ()

    def release(self, version: str, twist: Mapping[str, tuple[str, str]] | None = None, **more: Any) -> Path:
        """A release of this tree's device package, with words replaced in some of its files, signed.

        Args:
            version: Of the release; edgekit-device calls itself the same.
            twist: By path in the package: (these words, become those).
        """
        files = dict(device_files())
        changes = {"__init__.py": ('__version__ = "', f'__version__ = "{version}"  # '), **(twist or {})}
        for name, (old, new) in changes.items():
            path = f"edgekit_device/{name}"
            text = files[path].decode()
            assert old in text, f"{name} has no {old!r} any more"
            files[path] = text.replace(old, new, 1).encode()
        more.setdefault("wheels", dict([system_packages()]))
        return Release(version, files, **more).write(self.folder, self.signer)

    def serve(self, *words: str, **env: str) -> None:
        """Start the service through the launcher, for as long as the test lasts."""
        base = str(getattr(sys, "_base_executable", sys.executable))
        self.words = words
        program = ("-m", "tests.worlds.restarter", base, "-I", str(self.launch), "run")
        self.start(*words, program=program, trial=QUICK, **env)

    def take(self, path: Path, within_s: float = 60.0, **more: Any) -> str:
        """Install a release; its id."""
        return slots.install(self.place, path, [self.signer.public], within_s=within_s, **more)

    def record(self, name: str) -> dict[str, Any]:
        """What the journal says of a release."""
        return dict(launcher.read_journal(self.place)["releases"].get(name, {}))

    @property
    def wanted(self) -> str:
        """What the link names."""
        return launcher.wanted(self.place)


def make_base(venv: Path) -> None:
    """The first runtime: sees this tree and its packages."""
    base = str(getattr(sys, "_base_executable", sys.executable))
    subprocess.run([base, "-I", "-m", "venv", "--without-pip", str(venv)], check=True)
    site = next((venv / "lib").glob("python3.*")) / "site-packages"
    (site / "tree.pth").write_text(f"{ROOT_OF / 'device'}\n{runtimes.SITE}\n")


_FIRST = "from __future__ import annotations\n"


def tried_runtimes() -> dict[str, dict[str, tuple[str, str]]]:
    """Runtimes that are signed, import well and are bad all the same, by what each does; what is replaced in each."""
    start, hang = "import sys\n", "import signal, sys, time\n{}time.sleep(1e6)\n"
    deaf = hang.format("signal.signal(signal.SIGTERM, signal.SIG_IGN)\n")
    present, made = "        try:\n            present(", "        if self.on_trial and fps > 0:\n"
    sent = "outlet.send(TELEMETRY, reading.to_bytes()"
    return {
        "crash at start": {"__main__.py": (start, "import os, sys\nos.abort()\n")},
        "ends at once as if all were well": {"__main__.py": (start, "import sys\nsys.exit(0)\n")},
        "hang at start": {"__main__.py": (start, hang.format(""))},
        "hang that ignores SIGTERM": {"__main__.py": (start, deaf)},
        "never READY: its worker crashes": {"worker.py": (_FIRST, f"{_FIRST}raise RuntimeError('bad worker')\n")},
        "never connects": {"publish/session.py": (present, f"        return 'bad session'\n{present}")},
        "READY, never acknowledged: sends no Reading": {
            "publish/mqtt.py": ("            self._courier.take(kind, payload)\n", "            pass\n")
        },
        "READY, never acknowledged: no collector can read it": {
            "reporter.py": (sent, f"{sent}.replace(b'\"fps\"', b'\"pfs\"')")
        },
        "READY, then its supervisor hangs": {
            "runtimes/following.py": (made, f"{made}            __import__('time').sleep(1e6)\n")
        },
    }


def refused_runtimes() -> dict[str, tuple[str, dict[str, Any]]]:
    """Releases that `install` refuses before anything is switched: (name of the error, words for `release`)."""
    device = "edgekit_device-9.9.9-py3-none-any.whl"
    crash, hang = f"{_FIRST}raise OSError('bad')\n", f"{_FIRST}import time\ntime.sleep(1e6)\n"
    numpy = dict([runtimes.wheel("numpy", "9", {})])
    return {
        "crash at import": ("RuntimeProofError", {"twist": {"running.py": (_FIRST, crash)}}),
        "hang at import": ("RuntimeProofError", {"twist": {"cli.py": (_FIRST, hang)}}),
        "wrong Python": ("RuntimeUnfitError", {"python": "3.10"}),
        "wrong machine": ("RuntimeUnfitError", {"machine": "riscv64"}),
        "brings numpy to a board that has the system's": ("RuntimeUnfitError", {"wheels": numpy}),
        "missing wheel": ("RuntimeBuildError", {"requires": ("not-here>=2",)}),
        "wheel of another platform": ("RuntimeBuildError", {"wheels": {"odd-1.0-cp311-cp311-win32.whl": b"no zip"}}),
        "wheel that is no zip": ("RuntimeBuildError", {"wheels": {"odd-1.0-py3-none-any.whl": b"no zip"}}),
        "wrong hash": ("DigestMismatchError", {"hashes": {device: "0" * 64}}),
        "for a newer launcher": ("RuntimeUnfitError", {"launcher": 99}),
        "below the security floor": ("SecurityEpochError", {"epoch": 0}),
    }

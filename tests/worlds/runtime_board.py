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

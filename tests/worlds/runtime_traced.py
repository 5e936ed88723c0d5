"""Runtimes under strace: what an install, a start, a verdict and a rollback do to the disk when a call fails."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgekit_device.runtimes import launcher, launcher_bytes, slots
from edgekit_device.runtimes.launcher import COMMITTED, PENDING
from tests.worlds.bundles import Signer
from tests.worlds.runtime_process import made_quick
from tests.worlds.runtimes import Release
from tests.worlds.traced import MUTATING, Installer

OLD, NEW = "runtime-0.2.0", "runtime-0.3.0"
# What is struck: (verb, releases in the order entered with their state, what the link names).
SCENES: dict[str, tuple[str, dict[str, dict[str, Any]], str]] = {
    "install on a fresh board": ("install", {}, ""),
    "install beside one that passed": ("install", {OLD: {"state": COMMITTED}}, OLD),
    "install beside two": ("install", {"runtime-0.1.0": {"state": COMMITTED}, OLD: {"state": COMMITTED}}, OLD),
    "start on trial": ("start", {OLD: {"state": COMMITTED}, NEW: {"state": PENDING}}, NEW),
    "start after three attempts": ("start", {OLD: {"state": COMMITTED}, NEW: {"state": PENDING, "attempts": 3}}, NEW),
    "commit": ("commit", {OLD: {"state": COMMITTED}, NEW: {"state": PENDING, "attempts": 1}}, NEW),
    "reject": ("reject", {OLD: {"state": COMMITTED}, NEW: {"state": PENDING, "attempts": 1}}, NEW),
    "rollback": ("rollback", {OLD: {"state": COMMITTED}, NEW: {"state": COMMITTED}}, NEW),
}


@dataclass
class RuntimeScene:
    """Boards to be copied, and the release that they install.

    Attributes:
        folder: Everything lies below it.
        signer: Signs the release.
    """

    folder: Path
    signer: Signer
    _made: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.release = Release("0.3.0").write(self.folder, self.signer)
        home = self.empty(self.folder / "maker")
        slots.install(home, self.release, [self.signer.public])
        venv = home / launcher.FOLDER / NEW / "venv"
        self.few = self.folder / "few"
        (self.few / "bin").mkdir(parents=True)
        (self.few / "bin" / "python").symlink_to((venv / "bin" / "python").resolve())
        shutil.copy(venv / "pyvenv.cfg", self.few)

    def empty(self, home: Path) -> Path:
        """A board that was flashed and has no release."""
        (home / launcher.BASE / "bin").mkdir(parents=True)
        (home / launcher.BASE / "bin" / "python").symlink_to("/bin/true")
        (home / slots.LAUNCH).write_bytes(launcher_bytes())
        return home

    def board(self, scene: str, name: str) -> Path:
        """A fresh copy of a board in a scene."""
        template = self.folder / "templates" / re.sub(r"\W", "-", scene)
        if scene not in self._made:
            self.empty(template)
            _, releases, wish = SCENES[scene]
            for release in releases:
                folder = template / launcher.FOLDER / release
                shutil.copytree(self.few, folder / "venv", symlinks=True)
                maker = self.folder / "maker" / launcher.FOLDER / NEW / slots.MARK
                shutil.copy(maker, folder / slots.MARK)
            default = {"attempts": 0, "within_s": 60.0, "reason": None, "at": None, "epoch": 0}
            sha256 = slots.standing(self.folder / "maker")["verdicts"][NEW]["sha256"]
            records = {
                release: {**default, "entered": number, "sha256": sha256, **values}
                for number, (release, values) in enumerate(releases.items(), 1)
            }
            launcher.write_journal(template, {"schema": 1, "releases": records})
            launcher.point(template, wish)
            self._made.add(scene)
        place = self.folder / "boards" / name
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(template, place, symlinks=True)
        return place

    def order(self, scene: str, home: Path, *, quick: bool = True) -> dict[str, str]:
        """What to tell the process."""
        words = {"verb": SCENES[scene][0], "root": str(home), "bundle": str(self.release), "name": NEW}
        words |= {"key": str(self.signer.public), "quick": str(self.few) if quick else ""}
        return words


@contextmanager
def process(scene: RuntimeScene, *, quick: bool = True) -> Iterator[Installer]:
    """The process that obeys, for as long as it is needed."""
    first = "install on a fresh board"
    warm = scene.order(first, scene.board(first, "warm"), quick=quick)
    found = Installer(warm, "tests.worlds.runtime_process")
    try:
        yield found
    finally:
        found.close()


def calls_of(found: Installer, scene: RuntimeScene, name: str, *, quick: bool = True) -> list[tuple[str, int]]:
    """The mutating calls of one whole run, each with its number among its kind; of the process that makes most."""
    log = scene.folder / "strace.log"
    options = ("-o", str(log), "-e", f"trace={','.join(MUTATING)}")
    code = found.obey(scene.order(name, scene.board(name, "log"), quick=quick), *options)
    assert code == 0, f"{name}: {code}"
    by_process: dict[str, list[str]] = {}
    for line in log.read_text().splitlines():
        pid, _, rest = line.partition(" ")
        call = rest.lstrip().partition("(")[0]
        if call in MUTATING:
            by_process.setdefault(pid, []).append(call)
    most = max(by_process.values(), key=len)
    return [(call, most[: place + 1].count(call)) for place, call in enumerate(most)]


def judge(scene: RuntimeScene, home: Path, name: str) -> str | None:
    """What is wrong with a board after an interruption; None if nothing is.

    What would be started is there and is the old or the new one; the next install converges; two releases are held.
    """
    try:
        before = set(SCENES[name][1]) | {"", NEW}
        started, _, _, blocked = launcher.prepare(home)
        if started not in before or blocked:
            return f"would start {started!r}; {blocked}"
        if not launcher.python_of(home, started).exists():
            return f"would start {started!r}, which is not there"
        if (home / launcher.JOURNAL).exists() and not launcher.read_journal(home)["releases"] and SCENES[name][1]:
            return "the journal is lost"
        made_quick(scene.few)
        slots.install(home, scene.release, [scene.signer.public], force=True)
        if launcher.wanted(home) != NEW or NEW not in slots.held(home):
            return f"the next install ended at {launcher.wanted(home)!r}, held {slots.held(home)}"
        if launcher.prepare(home)[0] != NEW:
            return "the next install is not started"
        if len(slots.held(home)) > slots.MAX_RUNTIMES:
            return f"holds {slots.held(home)}"
        if left := [str(path) for path in home.rglob(".new-*")] + [str(path) for path in home.rglob("*.whl")]:
            return f"left {left}"
        whole = {entry.name for entry in (home / launcher.FOLDER).iterdir()}
        if whole != set(slots.held(home)):
            return f"left {whole - set(slots.held(home))}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None

"""Installs and rollbacks under strace: what they do to the disk, and what becomes of it when a call fails."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from edgekit_device import slots
from tests.worlds.bundles import Signer, bundle_bytes

MUTATING = (
    "openat", "mkdir", "mkdirat", "write", "pwrite64", "fsync", "fdatasync", "rename", "renameat", "renameat2",
    "symlink", "symlinkat", "link", "linkat", "unlink", "unlinkat", "rmdir", "chmod", "fchmod", "fchmodat", "ftruncate",
)  # fmt: skip
# Where a board may be when it is told to install 2.0.0: (versions in the order installed, epoch of 2.0.0).
STATES = {
    "an empty board": ([], 0),
    "one release": (["1.0.0"], 0),
    "two releases": (["1.0.0", "1.0.1"], 0),
    "three releases": (["1.0.0", "1.0.1", "1.0.2"], 0),
    "a release that raises the security epoch": (["1.0.0", "1.0.1"], 4),
    "a release that the board holds": (["2.0.0", "1.0.1"], 0),
}
ROOT_OF = Path(__file__).parents[2]


@dataclass
class Scene:
    """Boards to be copied, and the bundles they install.

    Attributes:
        folder: Everything lies below it.
        signer: Signs the bundles.
    """

    folder: Path
    signer: Signer
    _made: set[str] = field(default_factory=set)

    def bundle(self, version: str, epoch: int = 0) -> Path:
        """A signed bundle, made once."""
        path = self.folder / f"bundles-{epoch}" / f"toy-{version}.edgekit"
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(bundle_bytes("toy", version, b"model" * 3000, epoch))
            self.signer.sign(path)
        return path

    def board(self, state: str, name: str) -> Path:
        """A fresh copy of a board in a state."""
        template = self.folder / "templates" / re.sub(r"\W", "-", state)
        if state not in self._made:
            template.mkdir(parents=True)
            for version in STATES[state][0]:
                slots.install(template, self.bundle(version), [self.signer.public])
            self._made.add(state)
        place = self.folder / "boards" / name
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(template, place, symlinks=True)
        return place

    def order(self, verb: str, state: str, root: Path) -> dict[str, str]:
        """What to tell the installer."""
        bundle = self.bundle("2.0.0", STATES[state][1])
        return {"verb": verb, "root": str(root), "bundle": str(bundle), "key": str(self.signer.public)}


class Installer:
    """The installer process and its orders."""

    def __init__(self, warm: dict[str, str], module: str = "tests.worlds.installer_process") -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            cwd=ROOT_OF,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "WARM": json.dumps(warm), "PYTHONPATH": f"{ROOT_OF}:{ROOT_OF / 'device'}"},
        )

    def obey(self, order: dict[str, str], *strace: str) -> int:
        """One order under strace with these options; the exit code, negative for a signal."""
        assert self._process.stdin and self._process.stdout
        self._tell(json.dumps(order))
        pid = int(self._process.stdout.readline())
        tracer = subprocess.Popen(["strace", "-f", *strace, "-p", str(pid)], stderr=subprocess.PIPE, text=True)
        assert tracer.stderr
        said = tracer.stderr.readline()
        assert "attached" in said, f"strace cannot attach: {said}"
        self._tell("go")
        code = int(self._process.stdout.readline())
        tracer.communicate(timeout=60)
        return code

    def _tell(self, words: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(words + "\n")
        self._process.stdin.flush()

    def close(self) -> None:
        """End it."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


@contextmanager
def installer(scene: Scene) -> Iterator[Installer]:
    """An installer for as long as it is needed."""
    process = Installer(scene.order("install", "one release", scene.board("one release", "warm")))
    try:
        yield process
    finally:
        process.close()


def log_of(process: Installer, scene: Scene, verb: str, state: str) -> tuple[list[str], Path]:
    """The mutating calls of one whole run, as strace prints them with every byte, and the root they were made on."""
    root, log = scene.board(state, "log"), scene.folder / "strace.log"
    options = ("-o", str(log), "-xx", "-s", "10000000", "-e", f"trace={','.join(MUTATING)},close,dup,dup2,dup3")
    code = process.obey(scene.order(verb, state, root), *options)
    assert code == 0, f"{verb} on {state}: {code}"
    # With -f each line begins with the process id.
    return [line.partition(" ")[2].lstrip() for line in log.read_text().splitlines()], root


def expected(verb: str, state: str) -> tuple[str | None, str]:
    """(what served before, what the order makes current)."""
    versions = STATES[state][0]
    names = [f"toy-{version}" for version in versions]
    if verb == "install":
        return (names[-1] if names else None), "toy-2.0.0"
    return names[-1], names[-2]


def judge(scene: Scene, root: Path, verb: str, state: str, *, restart: bool) -> str | None:
    """What is wrong with a board after an interruption; None if nothing is.

    Args:
        scene: Whose keys count.
        root: The board.
        verb: What was interrupted.
        state: Where it began.
        restart: The power was cut: the board recovers at its start before anyone looks.
    """
    from edgekit_device.bundle import open_bundle
    from edgekit_device.epoch import floor

    old, new = expected(verb, state)
    keys = [scene.signer.public]
    try:
        if restart:
            slots.recover(root)
        serving = slots.current(root)
        if (serving.bundle_id if serving else None) not in (old, new):
            return f"serves {serving}"
        if serving:
            open_bundle(serving.bundle_path, keys)
        target = scene.bundle("2.0.0", STATES[state][1])
        slots.install(root, target, keys)
        ended = slots.current(root)
        if ended is None or ended.bundle_id != "toy-2.0.0":
            return f"the next install ended at {ended}"
        if ended.bundle_path.read_bytes() != target.read_bytes():
            return "the next install left other bytes"
        for slot in slots.list_slots(root):
            open_bundle(slot.bundle_path, keys)
        if len(slots.list_slots(root)) > slots.MAX_RELEASES:
            return "more than three releases"
        if left := [str(path) for path in root.rglob(".new-*")]:
            return f"left {left}"
        if floor(root) != STATES[state][1]:
            return f"security epoch {floor(root)}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None

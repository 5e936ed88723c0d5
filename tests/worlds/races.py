"""A writer that swaps and edits a bundle on the disk while it is checked, installed and used."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from edgekit_device import slots
from edgekit_device.bundle import open_bundle
from edgekit_device.contract.errors import BundleError, EdgeKitError
from edgekit_device.progress import sealed_memory
from tests.worlds.bundles import Signer, bundle_bytes

_MODEL = b"model" * 4000


class Writer:
    """Swaps the file as long as it is entered: whole, in place, half, or with the other signature."""

    def __init__(self, path: Path, honest: bytes, evil: bytes, signature: bytes, other: bytes) -> None:
        self.path, self.beside = path, path.with_name(path.name + ".minisig")
        self.honest, self.evil, self.signature, self.other = honest, evil, signature, other
        self.turns = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        spare = self.path.with_name("spare")
        while not self._stop.is_set():
            for content in (self.evil, self.honest):
                spare.write_bytes(content)
                spare.replace(self.path)
                with self.path.open("r+b") as file:
                    file.seek(200)
                    file.write(b"EVIL" if content is self.honest else content[200:204])
                with self.path.open("r+b") as file:
                    file.seek(200)
                    file.write(content[200:204])
                self.beside.write_bytes(self.other if self.turns % 3 == 0 else self.signature)
                self.turns += 1
                # Long enough for a reader to begin with the honest file, short enough to end with the other.
                self._stop.wait(0.001 if content is self.honest else 0)


def race(count: int, folder: Path, signer: Signer) -> dict[str, Any]:
    """Install or open a bundle `count` times against the writer.

    Returns:
        Counts; `unverified` is the uses of bytes that nobody signed, and must be 0.
    """
    honest, evil = bundle_bytes("toy", "1.0.0", _MODEL), bundle_bytes("toy", "1.0.0", _MODEL[::-1])
    assert len(honest) == len(evil)
    path = signer.bundle(folder / "inbox", model=_MODEL)
    stranger = Signer.make(folder / "stranger")
    signature = path.with_name(path.name + ".minisig").read_bytes()
    other = bytes(stranger.pair.secret_key.sign(evil, prehash=True))
    wanted = hashlib.sha256(honest).hexdigest()
    counts = {"installed": 0, "opened": 0, "refused": 0, "unverified": 0, "unnamed": 0}
    with Writer(path, honest, evil, signature, other) as writer:
        for number in range(count):
            root = folder / "board"
            try:
                if number % 2:
                    slot = slots.install(
                        root, path, [signer.public], trial=_swapped_in_the_trial(wanted, counts, writer)
                    )
                    used = slot.bundle_path.read_bytes()
                    counts["installed"] += 1
                else:
                    _, used = open_bundle(path, [signer.public])
                    counts["opened"] += 1
                counts["unverified"] += _in_a_child(used, path, number) != wanted
            except BundleError:
                counts["refused"] += 1
            except EdgeKitError:
                counts["unnamed"] += 1
            except Exception:
                counts["unnamed"] += 1
            serving = slots.current(root)
            if serving is not None:
                counts["unverified"] += hashlib.sha256(serving.bundle_path.read_bytes()).hexdigest() != wanted
                shutil.rmtree(root)
        counts["swaps"] = writer.turns
    return counts


def _swapped_in_the_trial(wanted: str, counts: dict[str, int], writer: Writer) -> slots.Trial:
    """Between check and use: waits until the writer has been there."""

    def trial(_: object, data: bytes) -> None:
        before, until = writer.turns, time.monotonic() + 1
        while writer.turns < before + 1 + before % 2 and time.monotonic() < until:
            time.sleep(0.0002)
        counts["unverified"] += hashlib.sha256(data).hexdigest() != wanted

    return trial


def _in_a_child(used: bytes, path: Path, number: int) -> str:
    """Digest of what a reader of the sealed memory gets, after attempts to write, while the file goes on changing."""
    fd = sealed_memory("edgekit-race", used)
    try:
        for attempt in (lambda: os.pwrite(fd, b"EVIL", 200), lambda: os.ftruncate(fd, 0)):
            try:
                attempt()
            except PermissionError:
                continue
            return "written to"
        if number % 100:
            return hashlib.sha256(os.pread(fd, len(used), 0)).hexdigest()
        code = "import hashlib,os,sys; print(hashlib.sha256(os.pread(int(sys.argv[1]), 1 << 28, 0)).hexdigest())"
        done = subprocess.run([sys.executable, "-c", code, str(fd)], pass_fds=(fd,), capture_output=True, text=True)
        return done.stdout.strip()
    finally:
        os.close(fd)


def sparse(folder: Path, signer: Signer) -> str:
    """A signed bundle grown to 3 GiB of nothing with another last byte: the name of its refusal."""
    path = signer.bundle(folder / "sparse")
    with path.open("r+b") as file:
        file.truncate(3 << 30)
        file.seek((3 << 30) - 1)
        file.write(b"x")
    try:
        open_bundle(path, [signer.public])
    except EdgeKitError as error:
        return type(error).__name__
    return "opened"

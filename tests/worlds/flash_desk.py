"""The host's side of a flash in a test, a link that can be cut after any byte, and what a whole board is."""

from __future__ import annotations

import hashlib
import os
import socket
import struct
import threading
from contextlib import suppress
from pathlib import Path

from edgekit.flashing.errors import LinkLostError
from edgekit.flashing.flashed import Flashed, Options
from edgekit.flashing.procedure import flash_all, prepare
from edgekit.flashing.targets import parse_target
from edgekit_device.settings import read_device_toml
from tests.worlds.bundles import Signer
from tests.worlds.ssh_boards import SshWorld
from tests.worlds.trial_board import Recipe, bundle_of

SETTINGS = {"source": "synthetic:160x120@30", "interval_s": 1.0}
_CHUNK_BYTES = 16 << 10


class Desk:
    """A signer, bundles, pinned keys.

    Args:
        place: Folder of the test.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        self.signer = Signer.make(place / "keys")
        self.digests: dict[str, str] = {}
        (place / "wheels").mkdir()

    def bundle(self, version: str, recipe: Recipe | None = None, data: bytes | None = None) -> Path:
        """A signed toy."""
        path = self.place / f"toy-{version}.edgekit"
        path.write_bytes(data or bundle_of(recipe or Recipe(), version))
        self.digests[path.stem] = hashlib.sha256(path.read_bytes()).hexdigest()
        self.signer.sign(path)
        return path

    def flash(
        self,
        bundle: Path | None,
        *worlds: SshWorld | str,
        dry_run: bool = False,
        on_step: object = None,
        keys: tuple[Path, ...] = (),
        **settings: object,
    ) -> list[Flashed]:
        """Flash, or with no bundle remove."""
        config = self.place / "ssh_config"
        found = {*keys, *(world.key for world in worlds if isinstance(world, SshWorld))}
        config.write_text("".join(f"IdentityFile {key}\n" for key in sorted(found)) or "\n")
        options = Options(
            dry_run=dry_run,
            remove=bundle is None,
            ssh_config=str(config),
            known_hosts=self.place / "known_hosts",
            on_step=on_step or (lambda target, step: None),  # type: ignore[arg-type]
        )
        wanted = None
        if bundle is not None:
            wanted = prepare(
                bundle,
                public_key=self.signer.public,
                settings={**SETTINGS, **settings},
                wheels=self.place / "wheels",
                wait_s=240.0,
            )
        targets = [parse_target(world if isinstance(world, str) else world.url()) for world in worlds]
        return flash_all(wanted, targets, options)

    def one(self, bundle: Path | None, world: SshWorld, **settings: object) -> Flashed:
        """Flash one board; its error is raised."""
        (done,) = self.flash(bundle, world, **settings)  # type: ignore[arg-type]
        if done.error is not None:
            raise done.error
        return done


def current(world: SshWorld) -> str:
    """The bundle that is current on a board."""
    link = world.root / "opt/edgekit/current"
    return os.readlink(link).rpartition("/")[2] if link.is_symlink() else ""


def untouched(world: SshWorld) -> bool:
    """Nothing of ours is on the board."""
    return not any((world.root / path).exists() for path in ("opt/edgekit", "etc/edgekit", "var/lib/edgekit"))


def half_installed(world: SshWorld, digests: dict[str, str]) -> list[str]:
    """What is half on a board, in words; an empty list for one that is whole, old or new or blank."""
    home, found = world.root / "opt/edgekit", []
    name = current(world)
    if name:
        bundle = home / "releases" / name / "bundle.edgekit"
        if not bundle.exists() or hashlib.sha256(bundle.read_bytes()).hexdigest() != digests.get(name):
            found.append(f"{name} is current and not what was signed")
        if not bundle.with_name("bundle.edgekit.minisig").exists():
            found.append(f"{name} is current without its signature")
    venv = home / "venv"
    if venv.is_symlink():
        folder = world.root / os.readlink(venv).lstrip("/")
        if not (folder / "runtime.json").exists():
            found.append("the runtime that is entered is not whole")
    elif name:
        found.append("a bundle without a runtime")
    toml = world.root / "etc/edgekit/device.toml"
    if toml.exists():
        with suppress(FileNotFoundError):
            read_device_toml(toml)
    for key in (world.root / "etc/edgekit/keys").glob("*.pub"):
        if not key.read_bytes().startswith(b"untrusted comment"):
            found.append(f"{key.name} is half a key")
    return found


class CutLink:
    """A way to a board that breaks after a number of bytes, without a goodbye.

    Args:
        port: Where the board listens.
        after_bytes: Sent to the board before the cut; None never cuts.
    """

    def __init__(self, port: int, after_bytes: int | None) -> None:
        self._port, self._left = port, after_bytes
        self.passed = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._pairs: list[socket.socket] = []
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def __enter__(self) -> CutLink:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self.cut()
        for thread in self._threads:
            thread.join(20)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._port))
            self._pairs += [near, far]
            for source, target, counted in ((near, far, True), (far, near, False)):
                thread = threading.Thread(target=self._pump, args=(source, target, counted), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _pump(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        try:
            while data := source.recv(_CHUNK_BYTES):
                if counted and self._left is not None and self.passed + len(data) >= self._left:
                    target.sendall(data[: max(0, self._left - self.passed)])
                    self.passed = self._left
                    self.cut()
                    return
                target.sendall(data)
                self.passed += len(data) if counted else 0
        except OSError:
            pass
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        """Reset both sides: a cable says no goodbye."""
        with self._lock:
            for end in self._pairs:
                with suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()
            self._pairs = []


def flash_cut(desk: Desk, bundle: Path, world: SshWorld, after_bytes: int | None) -> tuple[Flashed, int]:
    """Flash over a link that breaks. Returns (result, bytes that went to the board)."""
    known = desk.place / "known_hosts"
    with CutLink(world.port, after_bytes) as link:
        # A way of its own to the same machine: its port is new each time, its key is not.
        known.unlink(missing_ok=True)
        (done,) = desk.flash(bundle, f"ssh://pi@127.0.0.1:{link.port}", keys=(world.key,))
        return done, link.passed


def is_cut(done: Flashed) -> bool:
    """Whether a flash failed for the link and says so."""
    return isinstance(done.error, LinkLostError)

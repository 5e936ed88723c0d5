"""A fleet's repository with real keys behind a real web server that can be told to lie, drip, cut and drop; and boards.

Everything a server can do to a board without keys is a `Trick`; what somebody with a stolen key can do is done with the
keys, on the files.
"""

from __future__ import annotations

import re
import shutil
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from edgekit.publishing.keys import UpdateKeys
from edgekit.publishing.repository import Repository
from edgekit_device import slots
from edgekit_device.ota.depot import ROOT_JSON
from edgekit_device.releases import current
from tests.worlds.bundles import Signer


@dataclass
class Trick:
    """What the server does with files whose path holds `match`; None of a field does nothing.

    Attributes:
        match: Part of the path.
        body: Send this instead.
        code: Answer with this code; with `location` as a redirect.
        drip_s: Seconds between two bytes, one at a time.
        headers_drip_s: The same for the headers.
        padding: So many bytes of headers more.
        endless: Go on for ever after the file; `declared` says so in the length, or says nothing.
        cut_at: End the connection after so many bytes of the body.
        drop: Take the request and say nothing.
        shift: Begin so many bytes away from what was asked, and say so.
        lie: Begin so many bytes away, and say what was asked.
        no_ranges: Know no ranges.
        times: So often only.
        only: Whether it counts for a request, told the path and the offset.
    """

    match: str
    body: bytes | None = None
    code: int | None = None
    location: str | None = None
    drip_s: float | None = None
    headers_drip_s: float | None = None
    padding: int = 0
    endless: bool = False
    declared: int | None = None
    cut_at: int | None = None
    drop: bool = False
    shift: int = 0
    lie: int = 0
    no_ranges: bool = False
    times: int | None = None
    only: Callable[[str, int], bool] = lambda path, offset: True


@dataclass
class Server:
    """A static web server below a folder.

    Attributes:
        asked: (path, offset) of each request.
        sent: Bytes of bodies sent, by path.
    """

    folder: Path
    tricks: list[Trick] = field(default_factory=list)
    asked: list[tuple[str, int]] = field(default_factory=list)
    sent: dict[str, int] = field(default_factory=dict)
    _http: Any = None

    @property
    def url(self) -> str:
        """Of the repository."""
        return f"http://127.0.0.1:{self._http.server_address[1]}/updates/"

    def trick(self, path: str, offset: int) -> Trick | None:
        """The first that counts for a request."""
        for trick in self.tricks:
            if trick.match in path and trick.only(path, offset) and trick.times != 0:
                if trick.times is not None:
                    trick.times -= 1
                return trick
        return None

    @contextmanager
    def running(self) -> Iterator[Server]:
        """Inside it, it answers."""
        world = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.0"

            def log_message(self, *args: Any) -> None:
                pass

            def do_GET(self) -> None:
                try:
                    _answer(world, self)
                except OSError:
                    pass  # The board has gone.

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._http.shutdown()
            self._http.server_close()
            thread.join(10)


def _answer(world: Server, request: BaseHTTPRequestHandler) -> None:
    path = request.path.removeprefix("/updates/")
    found = re.fullmatch(r"bytes=([0-9]+)-", request.headers.get("Range") or "")
    offset = int(found[1]) if found else 0
    world.asked.append((path, offset))
    trick = world.trick(path, offset) or Trick("")
    if trick.drop:
        request.close_connection = True
        request.connection.shutdown(socket.SHUT_RDWR)
        return
    if trick.code is not None:
        request.send_response(trick.code)
        if trick.location:
            request.send_header("Location", trick.location)
        request.send_header("Content-Length", "0")
        request.end_headers()
        return
    file = world.folder / path
    data = trick.body if trick.body is not None else file.read_bytes() if file.is_file() else None
    if data is None:
        request.send_error(404)
        return
    _send(world, request, trick, data, path, 0 if trick.no_ranges else offset)


def _send(world: Server, request: BaseHTTPRequestHandler, trick: Trick, data: bytes, path: str, offset: int) -> None:
    begin = max(0, offset + trick.shift)
    body = data[max(0, begin + trick.lie) :]
    lines = [f"HTTP/1.0 {206 if offset else 200} OK"]
    if trick.padding:
        lines.append(f"X-Padding: {'.' * trick.padding}")
    if offset:
        lines.append(f"Content-Range: bytes {begin}-{len(data) - 1}/{len(data)}")
    length = trick.declared if trick.declared is not None else len(data) - begin
    if not trick.endless or trick.declared is not None:
        lines.append(f"Content-Length: {length}")
    head = ("\r\n".join(lines) + "\r\n\r\n").encode()
    out = request.wfile
    if trick.headers_drip_s is not None:
        for byte in head:
            out.write(bytes([byte]))
            out.flush()
            time.sleep(trick.headers_drip_s)
    else:
        out.write(head)
    if trick.cut_at is not None:
        body = body[: trick.cut_at]
    if trick.drip_s is not None:
        for byte in body:
            out.write(bytes([byte]))
            out.flush()
            time.sleep(trick.drip_s)
    else:
        for place in range(0, len(body), 1 << 16):
            piece = body[place : place + (1 << 16)]
            out.write(piece)
            world.sent[path] = world.sent.get(path, 0) + len(piece)
    while trick.endless:
        out.write(b" " * (1 << 16))
    out.flush()


def reset(request: BaseHTTPRequestHandler) -> None:
    """End a connection with RST, not FIN."""
    request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@dataclass
class World:
    """A repository with keys, a server, and boards that believe its first root.

    Attributes:
        base: Folder for everything.
    """

    base: Path
    signer: Signer
    repository: Repository
    server: Server

    @classmethod
    def make(cls, base: Path) -> World:
        """A repository that offers nothing yet; its first root is what boards are given."""
        keys = UpdateKeys(base / "update-keys")
        repository = Repository(base / "updates", keys)
        repository.create()
        return cls(base, Signer.make(base / "keys"), repository, Server(base / "updates"))

    def publish(self, version: str, name: str = "toy", model: bytes = b"model" * 100, **words: Any) -> Path:
        """Make a bundle, sign it and offer it."""
        path = self.base / "bundles" / f"{name}-{version}.edgekit"
        if not path.exists():  # Signed twice it would have two signatures.
            self.signer.bundle(path.parent, name, version, model)
        self.offer(path, **words)
        return path

    def offer(self, path: Path, now: datetime | None = None) -> None:
        """Offer a bundle as it lies."""
        name = f"bundles/{path.name}"
        files = {name: path, f"{name}.minisig": path.with_name(f"{path.name}.minisig")}
        self.repository.publish(files, now=now or datetime.now(UTC))

    def board(self, name: str = "board", serving: str = "1.0.0") -> Path:
        """A board's root with a release that serves, the bundle's key and the first root."""
        root = self.base / name
        (root / "etc/edgekit/keys").mkdir(parents=True)
        shutil.copy(self.signer.public, root / "etc/edgekit/keys/edgekit.pub")
        place = root / ROOT_JSON
        place.parent.mkdir(parents=True)
        place.write_bytes((self.repository.metadata / "1.root.json").read_bytes())
        (root / "opt/edgekit").mkdir(parents=True)
        bundle = self.signer.bundle(self.base / "flashed", version=serving)
        slots.install(root / "opt/edgekit", bundle, [self.signer.public])
        return root

    def order(self, root: Path, bundle_id: str, **words: Any) -> dict[str, Any]:
        """What the service tells an errand."""
        return {"kind": "bundle", "root": str(root), "url": self.server.url, "name": bundle_id, **words}


def serving(root: Path) -> str | None:
    """What a board's `current` names."""
    found = current(root / "opt/edgekit")
    return found.bundle_id if found else None


@contextmanager
def world(base: Path) -> Iterator[World]:
    """A world whose server answers."""
    made = World.make(base)
    with made.server.running():
        yield made

"""A simulated board that follows `desired` on its connection, and fetches what it wants over HTTP where asked to."""

from __future__ import annotations

import asyncio
import hashlib
import json
import ssl
import time
from collections.abc import AsyncIterator, Callable
from urllib.parse import urlsplit

from edgekit.fleet.simulation import SimulatedBoard
from edgekit_device.contract.desired import Desired
from edgekit_device.contract.reported import Reported, Update

_CHUNK_BYTES = 64 << 10
_ANSWER_S = 60.0


class Follower:
    """Turns `desired` into `reported`.

    Args:
        board: It has `updates`.
        say: Sends a `reported`, and the status again where the release changed.
    """

    def __init__(self, board: SimulatedBoard, say: Callable[[bytes, bool], None]) -> None:
        assert board.updates is not None
        self._board, self._updates, self._say = board, board.updates, say
        self._said: tuple[str, Update | None] | None = None
        self._fetch: asyncio.Task[None] | None = None
        self.bytes_fetched = 0

    def hear(self, payload: bytes) -> None:
        """A `desired` came.

        Raises:
            ContractError: It cannot be read.
        """
        self._updates.hear(Desired.from_bytes(payload), time.monotonic())
        self.step()

    def again(self) -> None:
        """A new connection: say everything."""
        self._said = None
        self.step()

    def step(self) -> None:
        """Go on, about once a second."""
        board, updates = self._board, self._updates
        if not board.boot:
            return  # It is connected, and has not begun yet.
        updates.step(time.monotonic(), time.time())
        if updates.fetching and (self._fetch is None or self._fetch.done()):
            self._fetch = asyncio.ensure_future(self._bring(updates.fetching))
        elif not updates.fetching and self._fetch is not None:
            self._fetch.cancel()
            self._fetch = None
        now = (updates.release, updates.update)
        if now != self._said:
            moved = self._said is None or self._said[0] != now[0]
            self._said = now
            interval_s = 1 / board.habits.rate_hz
            said = Reported(
                board.boot, updates.release, "serving", None, interval_s, update=updates.update, kind=updates.kind
            )
            self._say(said.to_bytes(), moved)

    def stop(self) -> None:
        """Leave a fetch where it is."""
        if self._fetch is not None:
            self._fetch.cancel()

    async def _bring(self, release: str) -> None:
        """Fetch a bundle as a board would: metadata first, then the file and its signature, by name and digest."""
        base = self._updates.habits.repository
        assert base is not None
        problem = None
        try:
            for path, length, digest in await self._wanted(base, f"bundles/{release}.edgekit"):
                await self._file(base + path, length, digest)
        except (OSError, ValueError, KeyError, TimeoutError, asyncio.IncompleteReadError) as error:
            problem = f"the repository: {error or type(error).__name__}"
        self._updates.arrived(problem, time.monotonic())

    async def _wanted(self, base: str, name: str) -> list[tuple[str, int, str]]:
        """(path, length, sha256) of the files of a target. Signatures are for real boards to check."""
        timestamp = json.loads(await self._whole(base + "metadata/timestamp.json"))
        number = timestamp["signed"]["meta"]["snapshot.json"]["version"]
        snapshot = json.loads(await self._whole(f"{base}metadata/{number}.snapshot.json"))
        number = snapshot["signed"]["meta"]["targets.json"]["version"]
        offered = json.loads(await self._whole(f"{base}metadata/{number}.targets.json"))["signed"]["targets"]
        found = []
        for path in (name, f"{name}.minisig"):
            target = offered[path]
            folder, _, file = path.rpartition("/")
            digest = target["hashes"]["sha256"]
            found.append((f"targets/{folder}/{digest}.{file}", target["length"], digest))
        return found

    async def _file(self, url: str, length: int, digest: str) -> None:
        hashed, here, began = hashlib.sha256(), 0, time.monotonic()
        most = self._updates.max_bytes_per_s
        async for data in self._body(url):
            hashed.update(data)
            here += len(data)
            if here > length:
                raise ValueError(f"{url} is longer than was signed")
            self._updates.fetched(here / length)
            if most is not None:
                await asyncio.sleep(max(0.0, began + here / most - time.monotonic()))
        if here != length or hashed.hexdigest() != digest:
            raise ValueError(f"{url} is not the file that was signed")

    async def _whole(self, url: str) -> bytes:
        return b"".join([data async for data in self._body(url)])

    async def _body(self, url: str) -> AsyncIterator[bytes]:
        parts = urlsplit(url)
        context = ssl.create_default_context() if parts.scheme == "https" else None
        port = parts.port or (443 if context else 80)
        opening = asyncio.open_connection(parts.hostname, port, ssl=context, limit=_CHUNK_BYTES)
        reader, writer = await asyncio.wait_for(opening, _ANSWER_S)
        try:
            writer.write(f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n".encode())
            head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), _ANSWER_S)).decode("latin-1")
            status, _, lines = head.partition("\r\n")
            if status.split(" ")[1] != "200":
                raise ValueError(f"{parts.path}: {status}")
            headers = {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in lines.splitlines()}
            left = int(headers["content-length"])
            while left:
                data = await asyncio.wait_for(reader.read(min(left, _CHUNK_BYTES)), _ANSWER_S)
                if not data:
                    raise ValueError(f"{parts.path}: the connection ended {left} bytes early")
                left -= len(data)
                self.bytes_fetched += len(data)
                yield data
        finally:
            writer.close()

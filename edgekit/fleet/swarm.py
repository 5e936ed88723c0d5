"""Simulated boards on real connections: each holds a message until an ack covers it. One process, one asyncio loop."""

from __future__ import annotations

import asyncio
import heapq
import random
import resource
import ssl
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from edgekit.fleet.mqtt_asyncio import Connection
from edgekit.fleet.simulation import Held, SimulatedBoard
from edgekit.fleet.swarm_following import Follower
from edgekit.fleet.swarm_options import SwarmOptions, SwarmResult
from edgekit_device.contract.ack import Ack
from edgekit_device.contract.errors import ContractError
from edgekit_device.contract.ids import client_name
from edgekit_device.contract.topics import ACK, DESIRED, REPORTED, STATUS, topic
from edgekit_device.publish.broker_url import BrokerAddress

_KEEPALIVE_S = 20
_TICK_S = 0.02
_MOST_TRIES = 5
_CONNECTING_AT_ONCE = 16
__all__ = ["Swarm", "SwarmOptions", "SwarmResult"]
_DESCRIPTORS_EACH = 4  # A socket, and what paho keeps to wake its own loop.


class _Post:
    """One board's way to the broker."""

    def __init__(self, swarm: Swarm, board: SimulatedBoard) -> None:
        self._swarm, self.board = swarm, board
        self.connection: Connection | None = None
        self._flying: dict[int, tuple[str, int]] = {}
        # When each held message was sent last; what is not here must be sent.
        self._sent_s: dict[tuple[str, int], float] = {}
        self._confirmed: set[tuple[str, int]] = set()
        self._telemetry: dict[str, str] = {}
        self._session, self._boot, self._tries = 0, "", 0
        self.follower = Follower(board, self._report) if board.updates is not None else None

    async def live(self) -> None:
        """Connect, stay, and come back, until the swarm ends."""
        attempt = 0
        options = self._swarm.options
        while not self._swarm.over:
            away_s = self.board.offline_until_s - time.monotonic()
            if away_s > 0 and self._swarm.making:
                await asyncio.sleep(min(away_s, 0.2))
                continue
            lost = asyncio.Event()
            try:
                async with self._swarm.gate:
                    await self._connect(lost)
            except OSError as error:
                self._swarm.result.problem = f"{self._swarm.address.url}: {error}"
                bound_s = min(options.delay_cap_s, options.first_delay_s * 2**attempt)
                await asyncio.sleep(random.uniform(0, bound_s))  # noqa: S311
                attempt = min(attempt + 1, 10)
                continue
            attempt = 0
            self._swarm.result.problem = None
            await self._stay(lost)
            self.connection = None
            # What the broker had not accepted is sent at once on the next connection; the rest waits for its ack.
            for key in self._flying.values():
                self._sent_s.pop(key, None)
            self._flying.clear()
            if not self._swarm.over:
                await asyncio.sleep(random.uniform(0, options.first_delay_s))  # noqa: S311

    def send(self, held: Held) -> bool:
        """Publish one message, if there is a connection."""
        if self.connection is None:
            return False
        name = self._telemetry.get(held.kind.name)
        if name is None:
            name = self._telemetry[held.kind.name] = topic(self.board.site, self.board.device, held.kind)
        packet = self.connection.publish(name, held.payload, held.kind)
        if packet is None:
            return False
        key = (held.boot, held.seq)
        self._flying[packet] = key
        self._sent_s[key] = time.monotonic()
        return True

    def catch_up(self, now_s: float) -> None:
        """Send again what has waited too long, the oldest first."""
        if self.connection is None:
            return
        left = self._swarm.options.backlog_hz
        before_s = now_s - self._swarm.options.patience_s * 2**self._tries
        again = False
        for key, held in self.board.held.items():
            sent_s = self._sent_s.get(key)
            if sent_s is None or sent_s < before_s:
                if not self.send(held):
                    break
                self._swarm.result.resent += 1
                again = again or sent_s is not None
                left -= 1
                if not left:
                    break
        if again:
            # A collector that is slow must not get twice the load because it is slow.
            self._tries = min(self._tries + 1, _MOST_TRIES)

    async def _connect(self, lost: asyncio.Event) -> None:
        swarm, board = self._swarm, self.board
        connection = Connection(
            swarm.address, client_name(board.site, board.device), swarm.loop, swarm.executor, swarm.context
        )
        self._session += 1
        # A reboot cuts the connection a moment later; until then it speaks of the boot that opened it.
        self._boot = board.boot
        where = topic(board.site, board.device, STATUS)
        connection.will(where, board.status("offline", self._session).to_bytes(), STATUS)
        connection.on_lost = lambda reason: lost.set()
        connection.on_sent, connection.on_message = self._on_sent, self._on_message
        await connection.connect(_KEEPALIVE_S)
        swarm.result.connections += 1
        connection.subscribe(topic(board.site, board.device, ACK))
        connection.publish(where, board.status(session=self._session).to_bytes(), STATUS)
        self.connection = connection
        if self.follower is not None:
            connection.subscribe(topic(board.site, board.device, DESIRED))
            self.follower.again()

    def _report(self, document: bytes, moved: bool) -> None:
        """Send a `reported`; a new release shows in the status as well."""
        if self.connection is None:
            return
        self.connection.publish(topic(self.board.site, self.board.device, REPORTED), document, REPORTED)
        if moved:
            where = topic(self.board.site, self.board.device, STATUS)
            self.connection.publish(where, self.board.status(session=self._session).to_bytes(), STATUS)

    async def _stay(self, lost: asyncio.Event) -> None:
        connection, swarm = self.connection, self._swarm
        assert connection is not None
        while not lost.is_set():
            try:
                await asyncio.wait_for(lost.wait(), 1.0)
            except TimeoutError:
                pass
            connection.tick()
            if swarm.over:
                where = topic(self.board.site, self.board.device, STATUS)
                connection.publish(where, self.board.status("stopped", self._session, self._boot).to_bytes(), STATUS)
                connection.leave()
                try:
                    await asyncio.wait_for(lost.wait(), 1.0)
                except TimeoutError:
                    pass
                return
            if swarm.making and self.board.offline_until_s > time.monotonic():
                connection.cut()

    def _on_sent(self, packet: int, accepted: bool) -> None:
        key = self._flying.pop(packet, None)
        if key is None:
            return
        if not accepted:
            self._swarm.result.refused += 1
            self._sent_s.pop(key, None)
        elif key in self.board.held and key not in self._confirmed:
            self._confirmed.add(key)
            self._swarm.result.sent += 1

    def _on_message(self, name: str, payload: bytes) -> None:
        try:
            if self.follower is not None and name.endswith(DESIRED.name):
                self.follower.hear(payload)
                return
            ack = Ack.from_bytes(payload)
        except ContractError as error:
            self._swarm.result.problem = f"what the host says cannot be read: {error}"
            return
        self._tries = 0
        for held in self.board.learn(ack):
            key = (held.boot, held.seq)
            self._sent_s.pop(key, None)
            # An ack can overtake the broker's own answer.
            if key in self._confirmed:
                self._confirmed.discard(key)
            else:
                self._swarm.result.sent += 1


class Swarm:
    """Runs boards until everything they made is acknowledged, or patience ends.

    Args:
        address: The broker.
        boards: Not yet started.
        options: How.
        progress: Called about once a second with the counts so far.
    """

    def __init__(
        self,
        address: BrokerAddress,
        boards: list[SimulatedBoard],
        options: SwarmOptions,
        progress: Callable[[SwarmResult], None] = lambda result: None,
    ) -> None:
        self.address, self.options = address, options
        self._posts = [_Post(self, board) for board in boards]
        self._progress = progress
        self.result = SwarmResult(len(boards))
        self.making, self.over, self._stopped = True, False, False
        self.context = ssl.create_default_context() if address.tls else None
        self.gate = asyncio.Semaphore(_CONNECTING_AT_ONCE)
        self.executor = ThreadPoolExecutor(_CONNECTING_AT_ONCE, "connect")

    def stop(self) -> None:
        """Make no more messages; what is held is still sent, until patience ends. For any thread."""
        self._stopped = True

    async def run(self) -> SwarmResult:
        """Make, send, and wait for the acks."""
        self.loop = asyncio.get_running_loop()
        _allow_descriptors(len(self._posts) * _DESCRIPTORS_EACH + 200)
        lives = [asyncio.create_task(post.live()) for post in self._posts]
        try:
            await self._connected()
            await self._make()
            self.making = False
            await self._settle()
            self.over = True
            await asyncio.gather(*lives)
        finally:
            for post in self._posts:
                if post.follower is not None:
                    post.follower.stop()
            for life in lives:
                life.cancel()
            await asyncio.gather(*lives, return_exceptions=True)
            self.executor.shutdown(wait=False)
        return self._count()

    async def _connected(self) -> None:
        """Wait until most boards are there: connecting thousands must not distort what is measured."""
        until = time.monotonic() + min(60.0, 5.0 + len(self._posts) * 0.03)
        while time.monotonic() < until and any(post.connection is None for post in self._posts):
            await asyncio.sleep(0.1)

    async def _make(self) -> None:
        began = time.monotonic()
        for post in self._posts:
            post.board.start(began)
        due = [(post.board.next_s, number) for number, post in enumerate(self._posts)]
        heapq.heapify(due)
        end, second = began + self.options.seconds, began
        while (now := time.monotonic()) < end and not self._stopped:
            while due[0][0] <= now:
                _, number = heapq.heappop(due)
                post = self._posts[number]
                for held in post.board.step(now, time.time()):
                    post.send(held)
                heapq.heappush(due, (post.board.next_s, number))
            if now >= second:
                second += 1.0
                self._each_second(now)
            await asyncio.sleep(_TICK_S)

    async def _settle(self) -> None:
        began = time.monotonic()
        while (now := time.monotonic()) < began + self.options.wait_s:
            self._each_second(now)
            if not any(post.board.held for post in self._posts):
                break
            await asyncio.sleep(0.2)
        self.result.waited_s = round(time.monotonic() - began, 1)

    def _each_second(self, now_s: float) -> None:
        for post in self._posts:
            if post.board.held:
                post.catch_up(now_s)
            if post.follower is not None and post.connection is not None:
                post.follower.step()
        self._progress(self._count())

    def _count(self) -> SwarmResult:
        self.result.made = sum(sum(post.board.made.values()) for post in self._posts)
        self.result.acked = sum(post.board.acked for post in self._posts)
        self.result.fetched_bytes = sum(post.follower.bytes_fetched for post in self._posts if post.follower)
        return self.result


def _allow_descriptors(wanted: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
        )

"""MQTT 5: one thread that connects, speaks and listens; a lost link never stops the board.

Over MQTT 5 a refusal by the broker's rules is visible, over 3.1.1 it is not, so 3.1.1 is never spoken. What a board
publishes with a number is the courier's until an ack covers it; a PUBACK only says that the broker has it.
"""

from __future__ import annotations

import collections
import contextlib
import random
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from edgekit_device.contract.ack import Ack
from edgekit_device.contract.asking import Request
from edgekit_device.contract.desired import Desired, Watch
from edgekit_device.contract.errors import ContractError
from edgekit_device.contract.ids import client_name
from edgekit_device.contract.telemetry import Status
from edgekit_device.contract.topics import ACK, DESIRED, KINDS, REQUEST, STATUS, WATCH, Kind, topic
from edgekit_device.publish.courier import Courier
from edgekit_device.publish.messages import Key
from edgekit_device.publish.options import MqttOptions
from edgekit_device.publish.outlet import Heard, OutletState
from edgekit_device.publish.session import Session

if TYPE_CHECKING:
    from edgekit_device.publish.broker_url import BrokerAddress

_TURN_S, _PRESSED_TURN_S = 1.0, 0.05
_GOODBYE_S = 2.0
_REANNOUNCE_S = 5.0
_BIRTH_JITTER_S = 5.0
_MAX_HEARD = 100


class Mqtt:
    """Publishes one board's documents.

    Args:
        address: The broker.
        site: Id of the site.
        device: Id of the board.
        will: The status that the broker publishes when the link breaks; it names the boot.
        options: How.
    """

    def __init__(
        self, address: BrokerAddress, site: str, device: str, will: bytes, options: MqttOptions | None = None
    ) -> None:
        self._address, self._site, self._device = address, site, device
        self._options = options or MqttOptions()
        self._will = Status.from_bytes(will)
        self._courier = Courier(self._will.boot, self._options.outbox, self._options.limits, self._options.clock)
        self._courier.on_work = self._wake
        self._client_id = client_name(site, device)
        self._lock = threading.Lock()
        self._status = b""
        self._retained: dict[Kind, bytes] = {}
        self._passing: collections.deque[tuple[Kind, bytes]] = collections.deque(maxlen=_MAX_HEARD)
        self._heard: collections.deque[Heard] = collections.deque(maxlen=_MAX_HEARD)
        self._reason: str | None = f"{address.url}: not connected yet"
        self._connected = False
        self._number = 0
        self._session: Session | None = None
        self._flying: dict[int, Key] = {}
        self._asked: dict[int, list[str]] = {}
        self._goodbye: bytes | None = None
        self._reannounced_s = -_REANNOUNCE_S
        self._birth_s: float | None = None
        self._complaints: set[str] = set()
        self._bell, self._waker = socket.socketpair()
        self._bell.setblocking(False)
        self._waker.setblocking(False)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)

    # -- the board's side ------------------------------------------------------------------------------------

    def start(self, status: bytes) -> None:
        """Begin connecting in the background."""
        self._status = status
        self._courier.start()
        self._thread.start()

    def announce(self, status: bytes) -> None:
        """Replace the retained status, now or as soon as there is a link."""
        self._status = status
        self._hand_over(STATUS, b"")

    def send(self, kind: Kind, payload: bytes) -> None:
        """Hand over one document; numbered ones are answered for, of retained ones the newest counts."""
        if kind.qos and not kind.retain:
            self._courier.take(kind, payload)
            return
        if kind.retain:
            with self._lock:
                self._retained[kind] = payload
        self._hand_over(kind, payload)

    def heard(self) -> Sequence[Heard]:
        """What the host asks for, and what should become an event."""
        found: list[Heard] = list(self._courier.notices())
        while self._heard:
            found.append(self._heard.popleft())
        return found

    def state(self) -> OutletState:
        """How publishing stands."""
        return OutletState(self._connected, self._reason, *self._courier.counts(), self._courier.stored)

    def flush(self, timeout_s: float) -> bool:
        """Wait until the broker has everything that is in memory; False if it was not in time."""
        until = time.monotonic() + timeout_s
        while self._courier.unsent:
            if not self._connected or time.monotonic() > until:
                return False
            time.sleep(0.02)
        return True

    def close(self, status: bytes) -> None:
        """Send what waits, then the last status, then disconnect so that the Last Will stays unsaid."""
        if self._stop.is_set():
            return
        if self._connected:
            self.flush(_GOODBYE_S)
        self._goodbye = status
        self._stop.set()
        self._wake()
        if self._thread.is_alive():
            self._thread.join(2 * _GOODBYE_S)
        self._courier.close()
        self._bell.close()
        self._waker.close()

    # -- the thread ------------------------------------------------------------------------------------------

    def _run(self) -> None:
        attempt = 0
        while not self._stop.is_set():
            reason, was_up = self._converse()
            self._connected = False
            self._reason = f"{self._address.url}: {reason}"
            self._courier.disconnected()
            attempt = 0 if was_up else attempt
            if self._stop.wait(self._options.delay_s(attempt)):
                break
            attempt += 1

    def _converse(self) -> tuple[str, bool]:
        """One connection from its beginning to its end; gives the reason, and whether there was a CONNACK."""
        self._number += 1
        self._flying.clear()
        self._asked.clear()
        will = topic(self._site, self._device, STATUS), self._numbered(self._will)
        session = Session(self._address, self._client_id, will, self._options.access, self, self._options.keepalive_s)
        self._session = session
        try:
            reason = session.connect(self._bell)
            while reason is None and not self._stop.is_set():
                pressed = self._connected and self._courier.pressing
                reason = session.turn(_PRESSED_TURN_S if pressed else _TURN_S, self._bell)
                if reason is None and self._connected:
                    self._pump(session)
            was_up = self._connected
            if reason is None and was_up:
                self._say_goodbye(session)
            return reason or "stopped", was_up
        finally:
            self._session = None
            session.close()

    def _pump(self, session: Session) -> None:
        while self._passing:
            kind, payload = self._passing.popleft()
            if kind is STATUS:
                payload = self._numbered(Status.from_bytes(self._status))
            session.publish(topic(self._site, self._device, kind), payload, kind.qos, retain=kind.retain)
        if self._birth_s is not None and time.monotonic() >= self._birth_s:
            self._birth_s = None
            self._announce_discovery(session)
        while (message := self._courier.next()) is not None:
            name = topic(self._site, self._device, KINDS[message.kind])
            packet = session.publish(name, message.payload, 1, retain=False)
            if packet is None:
                return  # The connection is over; the next turn finds out, and the message is sent on another.
            self._flying[packet] = message.key

    def _say_goodbye(self, session: Session) -> None:
        status = Status.from_bytes(self._goodbye or self._status)
        name = topic(self._site, self._device, STATUS)
        packet = session.publish(name, self._numbered(status), STATUS.qos, retain=True)
        key = Key(status.boot, -1)
        if packet is not None:
            self._flying[packet] = key
            until = time.monotonic() + _GOODBYE_S
            while key in self._flying.values() and time.monotonic() < until:
                if session.turn(0.05, self._bell):
                    return
        session.disconnect()

    # -- what the session tells ------------------------------------------------------------------------------

    def on_connected(self, window: int | None) -> None:
        """Announce, ask for what the host says, and let messages flow."""
        session = self._session
        if session is None:
            return
        self._connected, self._reason = True, None
        with self._lock:
            retained = dict(self._retained)
        status = self._numbered(Status.from_bytes(self._status))
        session.publish(topic(self._site, self._device, STATUS), status, STATUS.qos, retain=True)
        for kind, payload in retained.items():
            session.publish(topic(self._site, self._device, kind), payload, kind.qos, retain=True)
        names = [(topic(self._site, self._device, kind), kind.qos) for kind in (ACK, DESIRED, WATCH, REQUEST, STATUS)]
        discovery = self._options.home_assistant
        if discovery is not None:
            self._announce_discovery(session)
            names.append((discovery.birth_topic, 0))
        packet = session.subscribe(names)
        if packet is not None:
            self._asked[packet] = [name for name, _ in names]
        self._courier.connected(window)

    def on_message(self, topic: str, payload: bytes) -> None:
        """An ack, a wish of the host, somebody else's word about this board, or the birth of Home Assistant."""
        kind = topic.rpartition("/")[2]
        discovery = self._options.home_assistant
        if discovery is not None and topic == discovery.birth_topic:
            if payload == b"online":
                # Every board hears this at one moment.
                self._birth_s = time.monotonic() + random.uniform(0.0, _BIRTH_JITTER_S)  # noqa: S311
            return
        try:
            if kind == ACK.name:
                self._courier.acknowledge(Ack.from_bytes(payload))
            elif kind == DESIRED.name and payload:
                self._heard.append(Desired.from_bytes(payload))
            elif kind == WATCH.name:
                self._heard.append(Watch.from_bytes(payload))
            elif kind == REQUEST.name:
                self._heard.append(Request.from_bytes(payload))
            elif kind == STATUS.name and payload:
                self._contradict(Status.from_bytes(payload))
        except ContractError as error:
            self._complain("message_refused", str(error), topic=topic)

    def on_published(self, packet: int, refusal: str | None) -> None:
        """A PUBACK: the broker has it, or will not have it."""
        key = self._flying.pop(packet, None)
        if key is None or key.seq < 0:
            return
        if refusal is None:
            self._courier.delivered(key)
        else:
            self._courier.refused(key)
            self._complain("publish_refused", f"{self._address.url}: {refusal}; check the broker's rules")

    def on_subscribed(self, packet: int, refusals: Sequence[str | None]) -> None:
        """A SUBACK: without `ack` every message stays on the board until it is dropped."""
        for name, refusal in zip(self._asked.pop(packet, []), refusals, strict=False):
            if refusal is not None and not name.endswith(f"/{STATUS.name}"):
                self._complain("subscription_refused", f"{self._address.url}: {name}: {refusal}")

    # -- parts -----------------------------------------------------------------------------------------------

    def _contradict(self, status: Status) -> None:
        """A Last Will of an earlier connection can come late; what is retained must not say that we are away."""
        now_s = time.monotonic()
        if status.state != "online" and now_s - self._reannounced_s >= _REANNOUNCE_S:
            self._reannounced_s = now_s
            self._hand_over(STATUS, b"")

    def _complain(self, kind: str, reason: str, **detail: object) -> None:
        if reason not in self._complaints and len(self._complaints) < _MAX_HEARD:
            self._complaints.add(reason)
            self._courier.note(kind, reason, **detail)

    def _announce_discovery(self, session: Session) -> None:
        discovery = self._options.home_assistant
        if discovery is not None:
            session.publish(discovery.topic, discovery.payload, 1, retain=True)

    def _numbered(self, status: Status) -> bytes:
        return replace(status, session=self._number, loss_window_s=self._courier.loss_window_s).to_bytes()

    def _hand_over(self, kind: Kind, payload: bytes) -> None:
        if self._connected:
            self._passing.append((kind, payload))
            self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # Full: it is about to wake anyway.
            self._waker.send(b"\0")

"""MQTT 5, with a Last Will that names this start of the board, and a reconnect that does not storm.

A document is kept until the broker has acknowledged it with a reason code below 0x80: over MQTT 5 a refusal by
the broker's rules is visible, over 3.1.1 it is not, so 3.1.1 is never spoken.
"""

from __future__ import annotations

import collections
import random
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from edgekit_device.contract.ids import client_name
from edgekit_device.contract.topics import STATUS, Kind, topic
from edgekit_device.publish.outlet import OutletState

if TYPE_CHECKING:
    from paho.mqtt.reasoncodes import ReasonCode

    from edgekit_device.publish.broker_url import BrokerAddress

KEEPALIVE_S = 20
MAX_WAITING = 20_000
_FIRST_DELAY_S, _DELAY_CAP_S = 10.0, 60.0
_MAX_INFLIGHT = 50
_REFUSED = 0x80


def reconnect_delay_s(attempt: int, uniform: Any = random.uniform) -> float:
    """Full jitter: a random time up to a bound that doubles from 10 s to 60 s.

    A fleet that lost its broker at one moment must not come back at one moment (AWS Architecture Blog,
    "Exponential Backoff And Jitter").

    Args:
        attempt: 0 for the first try after a loss.
        uniform: Draws from [low, high].
    """
    return float(uniform(0.0, min(_DELAY_CAP_S, _FIRST_DELAY_S * 2 ** min(attempt, 10))))


class Credentials(NamedTuple):
    """User name and password of this board at the broker."""

    user: str
    password: str


class Mqtt:
    """Publishes one board's documents; a lost link never stops the caller."""

    def __init__(
        self,
        address: BrokerAddress,
        site: str,
        device: str,
        will: bytes,
        credentials: Credentials | None = None,
    ) -> None:
        self._address, self._site, self._device = address, site, device
        # Reentrant: paho may write, fail and call back from inside a publish.
        self._lock = threading.RLock()
        self._waiting: collections.deque[tuple[Kind, bytes]] = collections.deque()
        self._flying: dict[int, tuple[Kind, bytes]] = {}
        self._status = b""
        self._sent = self._lost = 0
        self._reason: str | None = "not connected yet"
        self._connected = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=client_name(site, device), protocol=paho.MQTTv5
        )
        # What waits is kept here, in order and counted; paho's own queue would hide it.
        self._client.max_inflight_messages_set(_MAX_INFLIGHT)
        if credentials:
            self._client.username_pw_set(credentials.user, credentials.password)
        if address.tls:
            self._client.tls_set()
        self._client.will_set(topic(site, device, STATUS), will, STATUS.qos, retain=True)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_publish = self._on_publish

    def start(self, status: bytes) -> None:
        """Begin connecting in the background."""
        self._status = status
        self._thread.start()

    def announce(self, status: bytes) -> None:
        """Replace the retained status, now or as soon as there is a link."""
        with self._lock:
            self._status = status
            connected = self._connected
        if connected:
            self._publish(STATUS, status)

    def send(self, kind: Kind, payload: bytes) -> None:
        """Queue one document; the oldest is dropped, and counted, when MAX_WAITING is reached."""
        with self._lock:
            if kind.qos == 0:
                if self._connected:
                    self._client.publish(topic(self._site, self._device, kind), payload, 0)
                return
            if len(self._waiting) >= MAX_WAITING:
                self._waiting.popleft()
                self._lost += 1
            self._waiting.append((kind, payload))
        self._drain()

    def state(self) -> OutletState:
        """How publishing stands."""
        with self._lock:
            waiting = len(self._waiting) + len(self._flying)
            return OutletState(self._connected, self._reason, self._sent, waiting, self._lost)

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything is acknowledged by the broker; False if it was not in time."""
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            if self.state().waiting == 0:
                return True
            if not self._connected:
                return False
            time.sleep(0.02)
        return False

    def close(self, status: bytes) -> None:
        """Send what waits, then the last status, then disconnect so that the Last Will stays unsaid."""
        if self._connected:
            self.flush(2.0)
            info = self._publish(STATUS, status)
            if info is not None:
                try:
                    info.wait_for_publish(2.0)
                except (RuntimeError, ValueError):
                    pass  # The link went away in between; the Last Will speaks instead.
        self._stop.set()
        self._client.disconnect()
        self._thread.join(3.0)

    def _run(self) -> None:
        attempt = 0
        while not self._stop.is_set():
            try:
                self._client.connect(
                    self._address.host,
                    self._address.port,
                    KEEPALIVE_S,
                    clean_start=True,
                )
            except (OSError, ValueError) as error:
                self._away(f"{self._address.url}: {_words(error)}; is the broker up? check --broker")
            else:
                while not self._stop.is_set() and self._client.loop(1.0) == paho.MQTT_ERR_SUCCESS:
                    attempt = 0 if self._connected else attempt
                self._away(self._reason or f"{self._address.url}: the connection was lost")
            if self._stop.wait(reconnect_delay_s(attempt)):
                break
            attempt += 1
        # One more turn lets the DISCONNECT leave.
        self._client.loop(0.1)

    def _away(self, reason: str) -> None:
        with self._lock:
            self._connected = False
            self._reason = reason
            self._waiting.extendleft(reversed(self._flying.values()))
            self._flying.clear()

    def _on_connect(self, client: Any, data: Any, flags: Any, code: ReasonCode, properties: Any) -> None:
        if code.value >= _REFUSED:
            self._reason = f"{self._address.url}: refused: {code}"
            client.disconnect()
            return
        with self._lock:
            self._connected, self._reason = True, None
            status = self._status
        self._publish(STATUS, status)
        self._drain()

    def _on_disconnect(self, client: Any, data: Any, flags: Any, code: ReasonCode, properties: Any) -> None:
        self._away(self._reason or f"{self._address.url}: disconnected: {code}")

    def _on_publish(self, client: Any, data: Any, mid: int, code: ReasonCode, properties: Any) -> None:
        with self._lock:
            document = self._flying.pop(mid, None)
            if document is None:
                return
            if code.value >= _REFUSED:
                self._lost += 1
                self._reason = f"{self._address.url}: the broker refused a {document[0].name} message: {code}"
            else:
                self._sent += 1
        self._drain()

    def _publish(self, kind: Kind, payload: bytes) -> paho.MQTTMessageInfo | None:
        try:
            return self._client.publish(topic(self._site, self._device, kind), payload, kind.qos, kind.retain)
        except ValueError:
            return None

    def _drain(self) -> None:
        with self._lock:
            while self._connected and self._waiting and len(self._flying) < _MAX_INFLIGHT:
                kind, payload = self._waiting.popleft()
                info = self._publish(kind, payload)
                if info is None or info.rc != paho.MQTT_ERR_SUCCESS:
                    self._waiting.appendleft((kind, payload))
                    return
                self._flying[info.mid] = (kind, payload)


def _words(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__

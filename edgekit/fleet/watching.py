"""Looking at one board now: ask it to speak every two seconds, and hear what it says from the broker itself."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from edgekit.errors import UsageError
from edgekit.fleet.access import present_host
from edgekit.fleet.batch import BoardKey, Rejected, decode
from edgekit_device.contract.desired import WATCH_S, Watch
from edgekit_device.contract.errors import BrokerError, BrokerUnreachableError
from edgekit_device.contract.ids import check_id
from edgekit_device.contract.telemetry import Event, Reading, Status
from edgekit_device.contract.topics import EVENT, STATUS, TELEMETRY, WATCH, topic

if TYPE_CHECKING:
    from edgekit_device.publish.broker_url import BrokerAddress

Heard: TypeAlias = Reading | Event | Status
# A board forgets a watcher after a minute; a request may be lost, since it is best effort.
ASK_AGAIN_S = WATCH_S / 3
_CONNECT_S, _LOOK_S, _MOST_HEARD = 10.0, 0.5, 1000
_REFUSED = 0x80


def board_named(text: str) -> BoardKey:
    """The board that a user calls SITE.DEVICE.

    Raises:
        UsageError: It is no such name.
    """
    site, dot, device = text.partition(".")
    if not dot:
        raise UsageError(f"{text[:140]!r} names no board; write SITE.DEVICE, for example home.porch")
    return BoardKey(check_id("site", site), check_id("device", device))


def watch(address: BrokerAddress, board: BoardKey, stop: threading.Event) -> Iterator[Heard]:
    """Ask for faster Readings as long as somebody iterates, and give what the board says.

    Nothing is stored and nothing acknowledged here: the collectors do that.

    Args:
        address: The broker.
        board: Which one.
        stop: Set it to end.

    Raises:
        BrokerUnreachableError: Nothing answers.
        BrokerError: The broker refuses, or the connection is lost.
    """
    heard: queue.Queue[Heard] = queue.Queue(_MOST_HEARD)
    connection = _Connection(address, board, lambda message: _offer(heard, message))
    asked_s = float("-inf")
    try:
        connection.open()
        while not stop.is_set():
            if connection.problem is not None:
                raise BrokerError(address.url, connection.problem)
            if time.monotonic() - asked_s >= ASK_AGAIN_S:
                connection.ask()
                asked_s = time.monotonic()
            try:
                yield heard.get(timeout=_LOOK_S)
            except queue.Empty:
                continue
    finally:
        connection.close()


def _offer(heard: queue.Queue[Heard], message: Heard) -> None:
    try:
        heard.put_nowait(message)
    except queue.Full:
        pass  # Nobody looks at it that fast.


class _Connection:
    """A connection that hears one board and may ask it for more."""

    def __init__(self, address: BrokerAddress, board: BoardKey, hear: Callable[[Heard], None]) -> None:
        self._address, self._board, self._hear = address, board, hear
        self.problem: str | None = None
        self._ready = threading.Event()
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id="", protocol=paho.MQTTv5, reconnect_on_failure=False
        )
        present_host(self._client, address, "watch")
        self._client.on_connect, self._client.on_disconnect = self._on_connect, self._on_disconnect
        self._client.on_subscribe, self._client.on_message = self._on_subscribe, self._on_message

    def open(self) -> None:
        try:
            self._client.connect(self._address.host, self._address.port, 20)
        except (OSError, ValueError) as cause:
            words = getattr(cause, "strerror", None) or str(cause)
            raise BrokerUnreachableError(self._address.url, f"{words}; is the broker up? check --broker") from cause
        self._client.loop_start()
        if not self._ready.wait(_CONNECT_S):
            raise BrokerError(self._address.url, "it does not answer a subscription")

    def ask(self) -> None:
        self._client.publish(topic(*self._board, WATCH), Watch().to_bytes(), WATCH.qos, WATCH.retain)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(self, client: Any, data: Any, flags: Any, code: Any, properties: Any) -> None:
        if code.value >= _REFUSED:
            self.problem = f"it refuses the watcher: {code}"
            self._ready.set()
        else:
            client.subscribe([(topic(*self._board, kind), kind.qos) for kind in (STATUS, TELEMETRY, EVENT)])

    def _on_subscribe(self, client: Any, data: Any, mid: int, codes: list[Any], properties: Any) -> None:
        refused = [str(code) for code in codes if code.value >= _REFUSED]
        if refused:
            self.problem = f"it refuses a subscription: {refused[0]}"
        self._ready.set()

    def _on_disconnect(self, client: Any, data: Any, flags: Any, code: Any, properties: Any) -> None:
        self.problem = self.problem or f"the connection was lost ({code})"
        self._ready.set()

    def _on_message(self, client: Any, data: Any, message: paho.MQTTMessage) -> None:
        try:
            found = decode(message.topic, bytes(message.payload))
        except UnicodeDecodeError:
            return
        if not isinstance(found, Rejected) and isinstance(found.document, Reading | Event | Status):
            self._hear(found.document)

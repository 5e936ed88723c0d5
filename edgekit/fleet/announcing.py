"""Showing a fleet in Home Assistant: the collector announces every board it hears of, and again at every birth."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from edgekit.fleet.access import present_host
from edgekit.fleet.batch import BoardKey
from edgekit_device.publish.home_assistant import INSTALL, discovery, removal, update_topics

if TYPE_CHECKING:
    from edgekit_device.publish.broker_url import BrokerAddress
    from edgekit_device.publish.home_assistant import Discovery

ANNOUNCE, REMOVE = "announce", "remove"
_REFUSED = 0x80


class Announcer:
    """A context manager with a connection of its own, so that a broker that refuses it refuses nothing else.

    Args:
        address: The broker that Home Assistant listens to as well.
        version: Of EdgeKit.
        remove: Take boards away instead.
        retry_s: Shortest and longest wait between two tries to connect.
        updates: Show update entities as well, see `home_updates`.
    """

    def __init__(
        self,
        address: BrokerAddress,
        version: str,
        *,
        remove: bool = False,
        retry_s: tuple[int, int] = (1, 30),
        updates: bool = False,
    ) -> None:
        self._address, self._version, self._remove, self._updates = address, version, remove, updates
        self._shown: dict[BoardKey, bytes] = {}
        self._wanted: list[BoardKey] = []
        self._told: set[BoardKey] = set()
        self._lock = threading.Lock()
        self._connected = False
        self.problem: str | None = None
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id="", protocol=paho.MQTTv5)
        self._client.reconnect_delay_set(*retry_s)
        present_host(self._client, address, "watch")
        self._client.on_connect, self._client.on_disconnect = self._on_connect, self._on_disconnect
        self._client.on_publish, self._client.on_message = self._on_publish, self._on_message

    def __enter__(self) -> Announcer:
        self._client.connect_async(self._address.host, self._address.port, 20)
        self._client.loop_start()
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def tell(self, boards: Iterable[BoardKey]) -> None:
        """Announce the boards that Home Assistant has not been told of; cheap to call often."""
        with self._lock:
            for board in [board for board in boards if board not in self._told]:
                if not self._connected:
                    return
                document = self._document(board)
                self._client.publish(document.topic, document.payload, 1, retain=True)
                self._told.add(board)

    def show(self, board: BoardKey, state: bytes) -> None:
        """Say how a board's update stands, where that changed."""
        with self._lock:
            if self._connected and self._shown.get(board) != state and board in self._told:
                self._client.publish(update_topics(*board).state, state, 1, retain=True)
                self._shown[board] = state

    def wanted(self) -> list[BoardKey]:
        """Boards for which somebody pressed the button since the last time."""
        with self._lock:
            found, self._wanted = self._wanted, []
            return found

    def _document(self, board: BoardKey) -> Discovery:
        if self._remove:
            return removal(*board)
        return discovery(*board, self._version, updates=self._updates)

    def _on_connect(self, client: Any, data: Any, flags: Any, code: Any, properties: Any) -> None:
        if code.value >= _REFUSED:
            self.problem = f"Home Assistant: the broker refuses the connection: {code}"
            return
        client.subscribe(discovery("a", "a", self._version).birth_topic, 0)
        if self._updates:
            client.subscribe(update_topics("+", "+").command, 1)
        with self._lock:
            # Another broker, or the same without its memory.
            self._told.clear()
            self._shown.clear()
            self._connected = True

    def _on_disconnect(self, client: Any, data: Any, flags: Any, code: Any, properties: Any) -> None:
        self._connected = False

    def _on_message(self, client: Any, data: Any, message: paho.MQTTMessage) -> None:
        parts = message.topic.split("/")
        if message.topic.startswith("edgekit/"):
            # A retained command would install again at each start; nobody presses a button that way.
            if message.payload == INSTALL.encode() and not message.retain and len(parts) == 5:
                with self._lock:
                    self._wanted.append(BoardKey(parts[2], parts[3]))
        elif message.payload == b"online":
            with self._lock:
                self._told.clear()
                self._shown.clear()

    def _on_publish(self, client: Any, data: Any, mid: int, code: Any, properties: Any) -> None:
        refused = code.value >= _REFUSED
        self.problem = f"Home Assistant: the broker refuses {ANNOUNCE}ments: {code}" if refused else None

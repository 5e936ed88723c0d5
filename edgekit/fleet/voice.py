"""The connection on which the host speaks: acks, `desired`, `watch`.

It is not the one on which messages come in. There the broker's answers to what we publish would stand in line behind
all that boards send: under load acks would starve, boards would send again, and the load would grow.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from edgekit.fleet.access import present_host
from edgekit_device.contract.topics import Kind, topic

if TYPE_CHECKING:
    from edgekit.fleet.batch import BoardKey
    from edgekit_device.publish.broker_url import BrokerAddress

MAX_QUEUED = 10_000
_KEEPALIVE_S = 20
_REFUSED = 0x80


class Voice:
    """Publishes; comes back by itself when the connection is lost.

    Args:
        address: The broker.
        client_id: Another than that of the connection for messages.
        retry_s: Shortest and longest wait between two tries to connect.
    """

    def __init__(self, address: BrokerAddress, client_id: str, retry_s: tuple[int, int]) -> None:
        self._address = address
        self.connected = False
        self.problem: str | None = None
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=paho.MQTTv5)
        self._client.reconnect_delay_set(*retry_s)
        self._client.max_queued_messages_set(MAX_QUEUED)
        present_host(self._client, address, "voice")
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_publish = self._on_publish

    def start(self) -> None:
        """Begin connecting; what is published before is refused."""
        self._client.connect_async(self._address.host, self._address.port, _KEEPALIVE_S)
        self._client.loop_start()

    def stop(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()

    def publish(self, board: BoardKey, kind: Kind, document: bytes) -> bool:
        """Publish a document of the host; False if there is no connection, or too much waits on it."""
        if not self.connected:
            return False
        try:
            info = self._client.publish(topic(board.site, board.device, kind), document, kind.qos, kind.retain)
        except ValueError:
            return False
        return info.rc == paho.MQTT_ERR_SUCCESS

    @property
    def crowded(self) -> bool:
        """Whether so much waits to leave that what is not urgent should wait elsewhere."""
        return len(self._client._out_messages) > MAX_QUEUED // 10

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything that was published is acknowledged by the broker."""
        until = time.monotonic() + timeout_s
        # paho offers no event for "queue empty"; 20 ms is far below any timeout used here.
        while self._client._out_messages and self.connected and time.monotonic() < until:
            time.sleep(0.02)
        return not self._client._out_messages

    def _on_connect(self, client: Any, data: Any, flags: Any, code: Any, properties: Any) -> None:
        self.connected = code.value < _REFUSED
        if not self.connected:
            self.problem = f"the broker refuses the connection for acks: {code}"

    def _on_disconnect(self, client: Any, data: Any, flags: Any, code: Any, properties: Any) -> None:
        self.connected = False

    def _on_publish(self, client: Any, data: Any, mid: int, code: Any, properties: Any) -> None:
        if code.value >= _REFUSED:
            self.problem = f"the broker refuses acks: {code}; boards will keep their messages"
        else:
            self.problem = None

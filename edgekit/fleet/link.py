"""The collector's MQTT 5 connection: a durable session, and acknowledgement by hand after the commit."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from edgekit_device.contract.errors import BrokerError, BrokerUnreachableError
from edgekit_device.contract.topics import ACK, EVENT, RESULT, STATUS, TELEMETRY, subscription, topic

if TYPE_CHECKING:
    from edgekit.fleet.batch import BoardKey
    from edgekit_device.contract.ack import Ack
    from edgekit_device.publish.broker_url import BrokerAddress

KEEPALIVE_S = 20
SESSION_S = 86_400
RECEIVE_MAXIMUM = 1000
_REFUSED = 0x80
_RETRY_S = (1, 30)


class Message(NamedTuple):
    """One message as it came.

    Attributes:
        session: Which connection delivered it; packet ids mean nothing on another one.
        packet: Its packet id; 0 for QoS 0.
    """

    topic: str
    payload: bytes
    session: int
    packet: int


class Link:
    """Delivers messages to a callback and acknowledges each only when told to.

    Args:
        address: The broker.
        client_id: The session's name; a collector that comes back under it gets what waited.
        deliver: Called for each message on the network thread; may block, which holds the broker back.
    """

    def __init__(self, address: BrokerAddress, client_id: str, deliver: Callable[[Message], None]) -> None:
        self._address, self._deliver = address, deliver
        self._session = 0
        self._ready = threading.Event()
        self.problem: str | None = "not connected yet"
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=client_id, protocol=paho.MQTTv5, manual_ack=True
        )
        self._client.reconnect_delay_set(*_RETRY_S)
        self._client.max_queued_messages_set(10_000)
        if address.tls:
            self._client.tls_set()
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message
        self._client.on_publish = self._on_publish

    def start(self, timeout_s: float = 10.0) -> None:
        """Connect and subscribe; after that the link comes back by itself.

        Raises:
            BrokerUnreachableError: Nothing answers.
            BrokerError: It refuses the connection or a subscription.
        """
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = SESSION_S
        properties.ReceiveMaximum = RECEIVE_MAXIMUM
        try:
            self._client.connect(
                self._address.host, self._address.port, KEEPALIVE_S, clean_start=False, properties=properties
            )
        except (OSError, ValueError) as cause:
            words = getattr(cause, "strerror", None) or str(cause)
            raise BrokerUnreachableError(self._address.url, f"{words}; is the broker up? check --broker") from cause
        self._client.loop_start()
        if not self._ready.wait(timeout_s) or self.problem:
            problem = self.problem or "no answer to the subscription"
            self.stop()
            raise BrokerError(self._address.url, problem)

    def stop(self) -> None:
        """Disconnect; the session and what waits in it stay at the broker."""
        self._client.disconnect()
        self._client.loop_stop()

    def acknowledge(self, message: Message) -> None:
        """Tell the broker that a message is stored.

        A message of an earlier connection is left alone: the broker delivers it again under another packet id.
        """
        if message.packet and message.session == self._session:
            self._client.ack(message.packet, 1)

    def publish_ack(self, board: BoardKey, ack: Ack) -> bool:
        """Publish a retained ack; False if it could not even be queued."""
        try:
            info = self._client.publish(topic(board.site, board.device, ACK), ack.to_bytes(), ACK.qos, ACK.retain)
        except ValueError:
            return False
        return info.rc == paho.MQTT_ERR_SUCCESS

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything that was published is on its way and acknowledged by the broker."""
        done = threading.Event()
        # paho offers no event for "queue empty"; 20 ms is far below any timeout used here.
        waited = 0.0
        while self._client._out_messages and waited < timeout_s:
            done.wait(0.02)
            waited += 0.02
        return not self._client._out_messages

    def _on_connect(self, client: paho.Client, data: Any, flags: Any, code: Any, properties: Any) -> None:
        if code.value >= _REFUSED:
            self.problem = f"the broker refuses the collector: {code}"
            self._ready.set()
            return
        self._session += 1
        options = {kind: SubscribeOptions(qos=kind.qos) for kind in (STATUS, TELEMETRY, EVENT, RESULT)}
        client.subscribe([(subscription(kind), option) for kind, option in options.items()])

    def _on_subscribe(self, client: Any, data: Any, mid: int, codes: list[Any], properties: Any) -> None:
        refused = [str(code) for code in codes if code.value >= _REFUSED]
        self.problem = f"the broker refuses a subscription: {refused[0]}" if refused else None
        self._ready.set()

    def _on_disconnect(self, client: Any, data: Any, flags: Any, code: Any, properties: Any) -> None:
        self._session += 1
        self.problem = f"{self._address.url}: connection lost ({code}); trying again"

    def _on_publish(self, client: Any, data: Any, mid: int, code: Any, properties: Any) -> None:
        if code.value >= _REFUSED:
            self.problem = f"the broker refuses acks: {code}; boards will keep their messages"

    def _on_message(self, client: Any, data: Any, message: paho.MQTTMessage) -> None:
        try:
            name = message.topic
        except UnicodeDecodeError:
            name = "?"
        packet = message.mid if message.qos else 0
        self._deliver(Message(name, bytes(message.payload), self._session, packet))

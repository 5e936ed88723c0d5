"""The collector's MQTT 5 connection: acknowledgement by hand after the commit, alone or on a share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from edgekit.fleet.access import present_host
from edgekit.fleet.buffered_client import Arrived, BufferedClient
from edgekit_device.contract.errors import BrokerError, BrokerUnreachableError
from edgekit_device.contract.topics import EVENT, REPORTED, RESULT, STATUS, TELEMETRY, subscription

if TYPE_CHECKING:
    from edgekit_device.publish.broker_url import BrokerAddress

KEEPALIVE_S = 20
RECEIVE_MAXIMUM = 1000
# Alone, what waits at the broker while the collector is away is the collector's. On a share it is anybody's: a
# session that outlives its collector would keep messages from the others.
SESSION_S, SHARED_SESSION_S = 86_400, 60
_REFUSED, _TAKEN_OVER = 0x80, 0x8E
_RETRY_S = (1, 30)
_BRIEF_S = 10.0


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


class LinkOptions(NamedTuple):
    """How the link presents itself.

    Attributes:
        client_id: The session's name; a collector that comes back under it gets what waited.
        share: The group among which the broker divides messages; None to get them all.
        retry_s: Shortest and longest wait between two tries to connect.
    """

    client_id: str
    share: str | None = None
    retry_s: tuple[int, int] = _RETRY_S


class Link:
    """Delivers messages to a callback and acknowledges each only when told to.

    Args:
        address: The broker.
        options: Name and share.
        deliver: Called with what came, on the network thread; may block, which holds the broker back.
        forgotten: Called on the network thread after each connection on which the broker had no session of ours:
            it may have lost what it retained as well.
    """

    def __init__(
        self,
        address: BrokerAddress,
        options: LinkOptions,
        deliver: Callable[[Sequence[Message]], None],
        forgotten: Callable[[], None] = lambda: None,
    ) -> None:
        self._address, self._options, self._deliver, self._forgotten = address, options, deliver, forgotten
        self.session = 0
        self.connected = False
        self._stopping, self._brief, self._since_s = False, 0, 0.0
        self._ready = threading.Event()
        self.problem: str | None = "not connected yet"
        self._client = BufferedClient(
            CallbackAPIVersion.VERSION2, client_id=options.client_id, protocol=paho.MQTTv5, manual_ack=True
        )
        self._client.reconnect_delay_set(*options.retry_s)
        present_host(self._client, address, "link")
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_subscribe = self._on_subscribe
        # Most come many at a time; what is larger than usual comes alone.
        self._client.on_arrived, self._client.on_message = self._on_arrived, self._on_message

    def start(self, timeout_s: float = 10.0) -> None:
        """Connect and subscribe; after that the link comes back by itself.

        Raises:
            BrokerUnreachableError: Nothing answers.
            BrokerError: It refuses the connection or a subscription.
        """
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = SHARED_SESSION_S if self._options.share else SESSION_S
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
        self._stopping = True
        self._client.disconnect()
        self._client.loop_stop()

    def acknowledge(self, messages: Iterable[Message]) -> None:
        """Tell the broker that messages are stored.

        Those of an earlier connection are left alone: the broker delivers them again under other packet ids.
        """
        session = self.session
        self._client.acknowledge([m.packet for m in messages if m.packet and m.session == session])

    def _filters(self) -> list[tuple[str, SubscribeOptions]]:
        # Retained messages never come on a share, so each collector hears every status and `reported`.
        kinds = [STATUS, REPORTED, TELEMETRY, EVENT]
        share = f"$share/{self._options.share}/" if self._options.share else ""
        if not share:
            kinds.append(RESULT)
        return [(("" if kind.retain else share) + subscription(kind), SubscribeOptions(qos=kind.qos)) for kind in kinds]

    def _on_connect(self, client: paho.Client, data: Any, flags: Any, code: Any, properties: Any) -> None:
        if code.value >= _REFUSED:
            self.problem = f"the broker refuses the collector: {code}"
            self._ready.set()
            return
        self.session += 1
        self.connected, self._since_s = True, time.monotonic()
        client.subscribe(self._filters())
        if not flags.session_present:
            self._forgotten()

    def _on_subscribe(self, client: Any, data: Any, mid: int, codes: list[Any], properties: Any) -> None:
        refused = [str(code) for code in codes if code.value >= _REFUSED]
        self.problem = f"the broker refuses a subscription: {refused[0]}" if refused else None
        self._ready.set()

    def _on_disconnect(self, client: Any, data: Any, flags: Any, code: Any, properties: Any) -> None:
        self.session += 1
        self.connected = False
        if self._stopping:
            return
        self.problem = f"{self._address.url}: connection lost ({code}); trying again"
        # Debian's mosquitto throws the elder off without a word; that a connection never lasts is all there is to see.
        self._brief = self._brief + 1 if time.monotonic() - self._since_s < _BRIEF_S else 0
        if code.value == _TAKEN_OVER or self._brief >= 2:
            name = self._options.client_id
            self.problem += f"; perhaps another collector calls itself {name}: give each its own --name"

    def _on_arrived(self, arrived: list[Arrived]) -> None:
        session = self.session
        self._deliver([Message(topic, payload, session, packet) for topic, payload, packet in arrived])

    def _on_message(self, client: Any, data: Any, message: paho.MQTTMessage) -> None:
        try:
            name = message.topic
        except UnicodeDecodeError:
            name = "?"
        packet = message.mid if message.qos else 0
        self._deliver([Message(name, bytes(message.payload), self.session, packet)])

"""What a broker must be able to do, proved by doing it before anything relies on it.

A granted subscription proves nothing: one broker grants ``$share`` and never delivers.
"""

from __future__ import annotations

import secrets
import threading
from typing import TYPE_CHECKING, Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from edgekit.errors import BrokerAbilityError
from edgekit.fleet.access import present_host
from edgekit_device.contract.errors import BrokerError, BrokerUnreachableError
from edgekit_device.contract.topics import ACK, topic

if TYPE_CHECKING:
    from edgekit_device.publish.broker_url import BrokerAddress

PROOF_SITE = "edgekit-proof"
_REFUSED, _UNSUPPORTED_VERSION, _NO_SHARES = 0x80, 0x84, 0x9E
_WAIT_S = 5.0


def prove(address: BrokerAddress, *, shared: bool) -> None:
    """Check what the collector relies on: MQTT 5, retained messages, QoS 1, shared subscriptions.

    Reason codes come with MQTT 5; that a refusal is told could only be proved with something that is refused.
    Publishes and clears one retained message below the site ``edgekit-proof``.

    Args:
        address: The broker.
        shared: Whether collectors will share one subscription.

    Raises:
        BrokerUnreachableError: Nothing answers.
        BrokerError: It refuses the connection or a subscription.
        BrokerAbilityError: An ability is missing; its name is in the error.
    """
    probe = _Probe(address)
    try:
        probe.connect()
        name = topic(PROOF_SITE, f"p{secrets.token_hex(8)}", ACK)
        probe.publish(name, b"retained", retain=True)
        probe.expect(
            name, b"retained", "retained messages", "switch retained messages on (mosquitto: retain_available)"
        )
        probe.publish(name, b"", retain=True)
        if shared:
            name = topic(PROOF_SITE, f"s{secrets.token_hex(8)}", ACK)
            probe.subscribe(f"$share/edgekit-proof-{secrets.token_hex(4)}/{name}")
            probe.publish(name, b"shared")
            probe.wait_for(
                name,
                b"shared",
                "shared subscriptions",
                "run one collector with --alone, or use a broker that has them (mosquitto 2, EMQX, HiveMQ, VerneMQ)",
            )
    finally:
        probe.close()


class _Probe:
    """One connection that does one thing at a time."""

    def __init__(self, address: BrokerAddress) -> None:
        self._address = address
        self._code: Any = None
        self._answered = threading.Event()
        self._arrived = threading.Condition()
        self._messages: list[tuple[str, bytes]] = []
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id="", protocol=paho.MQTTv5)
        present_host(self._client, address, "proof")
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = lambda *_: self._answered.set()
        for event in ("on_subscribe", "on_publish"):
            setattr(self._client, event, self._on_answer)
        self._client.on_message = self._on_message

    def connect(self) -> None:
        try:
            self._client.connect(self._address.host, self._address.port, 20, clean_start=True)
        except (OSError, ValueError) as cause:
            words = getattr(cause, "strerror", None) or str(cause)
            raise BrokerUnreachableError(self._address.url, f"{words}; is the broker up? check --broker") from cause
        self._client.loop_start()
        self._answered.wait(_WAIT_S)
        if self._code is None or self._code.value == _UNSUPPORTED_VERSION:
            raise self._missing("MQTT 5", "use a broker of MQTT 5; over 3.1.1 a refused message looks accepted")
        if self._code.value >= _REFUSED:
            raise BrokerError(self._address.url, f"it refuses the collector: {self._code}")
        if getattr(self._properties, "RetainAvailable", 1) == 0:
            raise self._missing("retained messages", "switch them on (mosquitto: retain_available)")
        if getattr(self._properties, "MaximumQoS", 2) == 0:
            raise self._missing("QoS 1", "allow it (mosquitto: max_qos)")

    def subscribe(self, name: str) -> None:
        code = self._ask(lambda: self._client.subscribe(name, 1), f"a subscription to {name}")
        if name.startswith("$share/") and code.value == _NO_SHARES:
            raise self._missing("shared subscriptions", "switch them on, or run one collector with --alone")
        if code.value >= _REFUSED:
            raise BrokerError(self._address.url, f"it refuses a subscription: {code}")

    def publish(self, name: str, payload: bytes, *, retain: bool = False) -> None:
        code = self._ask(lambda: self._client.publish(name, payload, 1, retain), "a message")
        if code.value >= _REFUSED:
            raise BrokerError(self._address.url, f"it refuses the collector's messages: {code}")

    def expect(self, name: str, payload: bytes, ability: str, remedy: str) -> None:
        self.subscribe(name)
        self.wait_for(name, payload, ability, remedy)

    def wait_for(self, name: str, payload: bytes, ability: str, remedy: str) -> None:
        with self._arrived:
            if not self._arrived.wait_for(lambda: (name, payload) in self._messages, _WAIT_S):
                raise self._missing(ability, remedy)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _ask(self, question: Any, what: str) -> Any:
        self._answered.clear()
        self._code = None
        question()
        self._answered.wait(_WAIT_S)
        if self._code is None:
            raise BrokerError(self._address.url, f"it does not answer {what}")
        return self._code

    def _missing(self, ability: str, remedy: str) -> BrokerAbilityError:
        return BrokerAbilityError(self._address.url, ability, remedy)

    def _on_connect(self, client: Any, data: Any, flags: Any, code: Any, properties: Any) -> None:
        self._code, self._properties = code, properties
        self._answered.set()

    def _on_answer(self, client: Any, data: Any, mid: int, codes: Any, properties: Any) -> None:
        self._code = codes[0] if isinstance(codes, list) else codes
        self._answered.set()

    def _on_message(self, client: Any, data: Any, message: paho.MQTTMessage) -> None:
        with self._arrived:
            self._messages.append((message.topic, bytes(message.payload)))
            self._arrived.notify_all()

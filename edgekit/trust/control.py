"""mosquitto's dynamic-security commands, given over MQTT 5 as the administrator."""

from __future__ import annotations

import json
import secrets
import ssl
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from edgekit.trust.rules import CONTROL
from edgekit_device.contract.errors import BrokerError, BrokerUnreachableError

if TYPE_CHECKING:
    from edgekit.trust.fleet_folder import Fleet

_BATCH = 100
_WAIT_S = 15.0
_REFUSED = 0x80
# A command that finds its work done already: the registry may tell a change twice.
_HARMLESS = ("already exists", "not found")


class Control:
    """One connection as administrator; opened when first used, and again after it was lost.

    Args:
        fleet: Whose broker; the administrator's password is read from its folder.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._client: paho.Client | None = None
        self._answer = threading.Condition()
        self._answers: dict[str, list[str]] = {}
        self._ready: str | None = None

    def apply(self, commands: Sequence[dict[str, Any]]) -> None:
        """Give commands in order and wait for the broker's answer to each.

        Raises:
            BrokerUnreachableError: No broker answers.
            BrokerError: It refuses the administrator, or a command for a reason that is not harmless.
        """
        for begin in range(0, len(commands), _BATCH):
            self._batch(commands[begin : begin + _BATCH])

    def close(self) -> None:
        """Disconnect."""
        client, self._client = self._client, None
        if client is not None:
            client.disconnect()
            client.loop_stop()

    def _batch(self, commands: Sequence[dict[str, Any]]) -> None:
        client = self._connected()
        # Each command carries the token, so that no answer to another batch is taken for this one's.
        token = secrets.token_hex(8)
        document = {"commands": [{**command, "correlationData": token} for command in commands]}
        with self._answer:
            self._answers[token] = []
        client.publish(f"{CONTROL}/v1", json.dumps(document).encode(), 1)
        with self._answer:
            done = self._answer.wait_for(lambda: len(self._answers[token]) >= len(commands), _WAIT_S)
            answers = self._answers.pop(token)
        if not done:
            self.close()
            raise BrokerUnreachableError(self._url, "the broker does not answer the administrator")
        problems = [text for text in answers if text and not text.lower().endswith(_HARMLESS)]
        if problems:
            raise BrokerError(self._url, f"it refuses a change of accounts: {problems[0]}")

    @property
    def _url(self) -> str:
        settings = self._fleet.settings
        return f"mqtts://{settings.listen or '127.0.0.1'}:{settings.port}"

    def _connected(self) -> paho.Client:
        if self._client is not None and self._client.is_connected():
            return self._client
        self.close()
        settings, account = self._fleet.settings, self._fleet.account("administrator")
        client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=account.user, protocol=paho.MQTTv5, reconnect_on_failure=False
        )
        client.username_pw_set(account.user, account.password)
        context = ssl.create_default_context(cafile=str(self._fleet.authority_file))
        if settings.require_certificate:
            # The broker's own certificate is a server's; the host makes one for the administrator beside it.
            context.load_cert_chain(self._fleet.host_certificate())
        client.tls_set_context(context)
        client.on_connect, client.on_subscribe, client.on_message = (
            self._on_connect,
            self._on_subscribe,
            self._on_message,
        )
        self._ready = None
        try:
            client.connect(settings.listen or "127.0.0.1", settings.port, 30)
        except (OSError, ValueError) as cause:
            raise BrokerUnreachableError(self._url, f"{cause}; is it running? edgekit fleet broker") from cause
        client.loop_start()
        self._client = client
        until = time.monotonic() + _WAIT_S
        with self._answer:
            self._answer.wait_for(lambda: self._ready is not None, until - time.monotonic())
            problem = "no answer" if self._ready is None else self._ready
        if problem:
            self.close()
            raise BrokerError(self._url, f"it refuses the administrator: {problem}")
        return client

    def _on_connect(self, client: paho.Client, data: Any, flags: Any, code: Any, properties: Any) -> None:
        if code.value >= _REFUSED:
            self._say(str(code))
        else:
            client.subscribe(f"{CONTROL}/v1/response", 1)

    def _on_subscribe(self, client: Any, data: Any, mid: int, codes: list[Any], properties: Any) -> None:
        refused = [str(code) for code in codes if code.value >= _REFUSED]
        self._say(refused[0] if refused else "")

    def _on_message(self, client: Any, data: Any, message: paho.MQTTMessage) -> None:
        try:
            responses = json.loads(message.payload)["responses"]
            found = [(str(item.get("correlationData")), str(item.get("error") or "")) for item in responses]
        except (ValueError, KeyError, TypeError, AttributeError):
            return
        with self._answer:
            for token, error in found:
                if token in self._answers:
                    self._answers[token].append(error)
            self._answer.notify_all()

    def _say(self, ready: str) -> None:
        with self._answer:
            self._ready = ready
            self._answer.notify_all()

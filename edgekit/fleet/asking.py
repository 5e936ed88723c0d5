"""Asking a board over MQTT: one request, and the answer to it and to no other.

Boards sit behind NAT, so nobody can go there; the answer comes on the connection that the board made itself.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from edgekit.errors import EdgeKitError
from edgekit.fleet.access import present_host
from edgekit.fleet.batch import BoardKey
from edgekit_device.contract.asking import DOCTOR, LOGS, PICTURE, Answer, Request
from edgekit_device.contract.errors import BrokerError, BrokerUnreachableError, ContractError
from edgekit_device.contract.topics import ANSWER, REQUEST, parse, topic

if TYPE_CHECKING:
    from edgekit_device.publish.broker_url import BrokerAddress

# A board gives up a little earlier, and says so.
WAIT_S = {LOGS: 10.0, PICTURE: 12.0, DOCTOR: 75.0}
MOST_AT_ONCE = 8
_CONNECT_S, _REFUSED = 10.0, 0x80


class BoardSilentError(EdgeKitError):
    """A board did not answer in time.

    Usual causes: it is away, it runs a version that cannot be asked, or it was asked more often than it answers.
    """

    def __init__(self, board: BoardKey, seconds: float) -> None:
        super().__init__(
            f"{board.site}.{board.device}: no answer in {seconds:.0f} s; it is away, of an earlier version, or "
            "was asked more than six times in a minute; see: edgekit fleet top"
        )
        self.board, self.seconds = board, seconds


class AskedTooOftenError(EdgeKitError):
    """Too many requests wait for answers here."""

    def __init__(self, board: BoardKey) -> None:
        super().__init__(f"{board.site}.{board.device}: it is being asked already, or many boards are; try again soon")
        self.board = board


class _Wait:
    """Somebody waits for one answer."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.answered = threading.Event()
        self.answer: Answer | None = None


class Asker:
    """Asks boards, one request a board at a time; safe for several threads. Connects when it is first needed.

    Args:
        address: The broker.
        purpose: Which of the host's accounts it uses; two programs that ask need two.
    """

    def __init__(self, address: BrokerAddress, purpose: str = "ask") -> None:
        self._address, self._purpose = address, purpose
        self._lock, self._room = threading.Lock(), threading.BoundedSemaphore(MOST_AT_ONCE)
        self._client: paho.Client | None = None
        self._connected = threading.Event()
        self._problem: str | None = None
        self._waiting: dict[BoardKey, _Wait] = {}
        self._granted: dict[int, str] = {}
        self._news = threading.Condition(self._lock)

    def ask(self, board: BoardKey, what: str, wait_s: float | None = None) -> Answer:
        """Ask, and wait for the answer.

        Args:
            board: Whom.
            what: One of the contract's words.
            wait_s: How long; as long as such an answer may take if None.

        Raises:
            BoardSilentError: No answer came.
            AskedTooOftenError: It is being asked already.
            BrokerError: The broker refuses.
            BrokerUnreachableError: Nothing answers at the broker's address.
        """
        wait_s = WAIT_S[what] if wait_s is None else wait_s
        request = Request(secrets.token_hex(16), what)
        with self._place(board, request) as wait:
            client = self._open()
            name = topic(*board, ANSWER)
            try:
                code, packet = client.subscribe(name, ANSWER.qos)
                if code != paho.MQTT_ERR_SUCCESS or packet is None:
                    raise BrokerError(self._address.url, "the connection was lost")
                self._await_subscription(packet)
                client.publish(topic(*board, REQUEST), request.to_bytes(), REQUEST.qos, REQUEST.retain)
                if not wait.answered.wait(wait_s) or wait.answer is None:
                    raise BoardSilentError(board, wait_s)
                return wait.answer
            finally:
                client.unsubscribe(name)

    def close(self) -> None:
        """Disconnect."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.disconnect()
            client.loop_stop()

    @contextmanager
    def _place(self, board: BoardKey, request: Request) -> Iterator[_Wait]:
        if not self._room.acquire(blocking=False):
            raise AskedTooOftenError(board)
        try:
            wait = _Wait(request)
            with self._lock:
                if board in self._waiting:
                    raise AskedTooOftenError(board)
                self._waiting[board] = wait
            try:
                yield wait
            finally:
                with self._lock:
                    del self._waiting[board]
        finally:
            self._room.release()

    def _open(self) -> paho.Client:
        with self._lock:
            if self._client is None:
                self._client = self._connect()
            client = self._client
        if not self._connected.wait(_CONNECT_S):
            raise BrokerError(self._address.url, self._problem or "it does not answer")
        return client

    def _connect(self) -> paho.Client:
        name = (
            f"edgekit-{self._purpose}-{secrets.token_hex(8)}"  # An empty one is refused when a connection comes back.
        )
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=paho.MQTTv5)
        present_host(client, self._address, self._purpose)
        client.on_connect, client.on_disconnect = self._on_connect, self._on_disconnect
        client.on_subscribe, client.on_message = self._on_subscribe, self._on_message
        try:
            client.connect(self._address.host, self._address.port, 20, clean_start=True)
        except (OSError, ValueError) as cause:
            words = getattr(cause, "strerror", None) or str(cause)
            raise BrokerUnreachableError(self._address.url, f"{words}; is the broker up? check --broker") from cause
        client.loop_start()
        return client

    def _await_subscription(self, packet: int) -> None:
        with self._news:
            came = self._news.wait_for(lambda: packet in self._granted, _CONNECT_S)
            refusal = self._granted.pop(packet, "no word")
        if not came or refusal:
            raise BrokerError(
                self._address.url, f"it refuses the answers: {refusal}; edgekit fleet up renews its rules"
            )

    def _on_connect(self, client: Any, data: Any, flags: Any, code: Any, properties: Any) -> None:
        if code.value >= _REFUSED:
            self._problem = f"it refuses whoever asks: {code}"
        else:
            self._problem = None
            self._connected.set()

    def _on_subscribe(self, client: Any, data: Any, mid: int, codes: list[Any], properties: Any) -> None:
        with self._news:
            if len(self._granted) > 10 * MOST_AT_ONCE:
                self._granted.clear()  # Of those who did not wait.
            self._granted[mid] = "".join(str(code) for code in codes if code.value >= _REFUSED)
            self._news.notify_all()

    def _on_disconnect(self, client: Any, data: Any, flags: Any, code: Any, properties: Any) -> None:
        self._connected.clear()

    def _on_message(self, client: Any, data: Any, message: paho.MQTTMessage) -> None:
        try:
            address, answer = parse(message.topic), Answer.from_bytes(bytes(message.payload))
        except (ContractError, UnicodeDecodeError):
            return
        if address is None or address.kind is not ANSWER:
            return
        with self._lock:
            wait = self._waiting.get(BoardKey(address.site, address.device))
        if wait is not None and (answer.number, answer.what) == (wait.request.number, wait.request.what):
            wait.answer = answer
            wait.answered.set()

"""paho-mqtt driven by an asyncio loop: thousands of connections in one process.

paho's own loop waits with select(), which stops at 1,024 sockets, and takes a thread for each client. Its
`loop_read`, `loop_write` and `loop_misc` do not; asyncio's selector (epoll) calls them.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from edgekit.fleet.buffered_client import BufferedClient

if TYPE_CHECKING:
    import ssl

    from edgekit_device.contract.topics import Kind
    from edgekit_device.publish.broker_url import BrokerAddress

_REFUSED = 0x80


class Connection:
    """One MQTT 5 client. All callbacks come on the loop's thread.

    Args:
        address: The broker.
        client_id: The session's name; it ends with the connection.
        loop: Which drives it.
        executor: Where the blocking part of connecting runs: name lookup, TCP and TLS.
        context: For TLS.
    """

    def __init__(
        self,
        address: BrokerAddress,
        client_id: str,
        loop: asyncio.AbstractEventLoop,
        executor: Executor,
        context: ssl.SSLContext | None,
    ) -> None:
        self._address, self._loop, self._executor = address, loop, executor
        self._accepted: asyncio.Future[None] | None = None
        self.connected = False
        self.on_lost: Callable[[str], None] = lambda reason: None
        self.on_message: Callable[[str, bytes], None] = lambda topic, payload: None
        self.on_sent: Callable[[int, bool], None] = lambda packet, accepted: None
        self._client = client = BufferedClient(
            CallbackAPIVersion.VERSION2, client_id=client_id, protocol=paho.MQTTv5, reconnect_on_failure=False
        )
        client.max_inflight_messages_set(100)
        if address.tls:
            client.tls_set_context(context)
        client.on_connect, client.on_disconnect = self._on_connect, self._on_disconnect
        client.on_publish, client.on_message = self._on_publish, self._on_message
        client.on_socket_open = self._on_socket_open
        client.on_socket_close = self._on_socket_close
        client.on_socket_register_write = self._on_register_write
        client.on_socket_unregister_write = self._on_unregister_write

    def will(self, name: str, payload: bytes, kind: Kind) -> None:
        """Set the Last Will of the next connection."""
        self._client.will_set(name, payload, kind.qos, kind.retain)

    async def connect(self, keepalive_s: int, timeout_s: float = 15.0) -> None:
        """Connect and wait for the broker's word.

        Raises:
            OSError: Nothing answers, or the broker refuses.
        """
        self._accepted = self._loop.create_future()
        try:
            await self._loop.run_in_executor(
                self._executor, lambda: self._client.connect(self._address.host, self._address.port, keepalive_s)
            )
            await asyncio.wait_for(self._accepted, timeout_s)
        except (OSError, ValueError, TimeoutError) as cause:
            self.cut()
            raise OSError(getattr(cause, "strerror", None) or str(cause) or type(cause).__name__) from cause
        finally:
            self._accepted = None

    def subscribe(self, name: str) -> None:
        """Ask for a topic at QoS 1."""
        self._client.subscribe(name, 1)

    def publish(self, name: str, payload: bytes, kind: Kind) -> int | None:
        """Send; its packet id, or None if the connection cannot take it."""
        try:
            info = self._client.publish(name, payload, kind.qos, kind.retain)
        except ValueError:
            return None
        return info.mid if info.rc == paho.MQTT_ERR_SUCCESS else None

    def tick(self) -> None:
        """Keepalive; to be called about once a second."""
        if self.connected:
            self._client.loop_misc()

    def leave(self) -> None:
        """Disconnect in order."""
        self._client.disconnect()

    def cut(self) -> None:
        """Drop the connection as a lost network does: the broker says the Last Will."""
        found: Any = self._client.socket()
        if found is not None:
            try:
                found.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # It was gone already.
            self._client.loop_read()

    def _on_socket_open(self, client: Any, data: Any, sock: Any) -> None:
        self._loop.call_soon_threadsafe(self._watch, sock)

    def _watch(self, sock: Any) -> None:
        if sock.fileno() >= 0:
            self._loop.add_reader(sock, self._readable)

    def _readable(self) -> None:
        self._client.loop_read()

    def _on_socket_close(self, client: Any, data: Any, sock: Any) -> None:
        number = sock.fileno()
        if number >= 0:
            # paho calls back on the thread that closes: here that is the loop's, or the executor's while connecting.
            self._loop.remove_reader(number)
            self._loop.remove_writer(number)

    def _on_register_write(self, client: Any, data: Any, sock: Any) -> None:
        self._loop.call_soon_threadsafe(self._watch_writing, sock)

    def _watch_writing(self, sock: Any) -> None:
        if sock.fileno() < 0 or not self._client.want_write():
            return
        self._client.loop_write()
        if sock.fileno() >= 0 and self._client.want_write():
            self._loop.add_writer(sock, self._client.loop_write)

    def _on_unregister_write(self, client: Any, data: Any, sock: Any) -> None:
        number = sock.fileno()
        if number >= 0:
            self._loop.remove_writer(number)

    def _on_connect(self, client: Any, data: Any, flags: Any, code: Any, properties: Any) -> None:
        if self._accepted is None or self._accepted.done():
            return
        if code.value >= _REFUSED:
            self._accepted.set_exception(OSError(f"the broker refuses: {code}"))
        else:
            self.connected = True
            self._accepted.set_result(None)

    def _on_disconnect(self, client: Any, data: Any, flags: Any, code: Any, properties: Any) -> None:
        was, self.connected = self.connected, False
        if self._accepted is not None and not self._accepted.done():
            self._loop.call_soon_threadsafe(self._fail, self._accepted, str(code))
        if was:
            self.on_lost(str(code))

    @staticmethod
    def _fail(waiting: asyncio.Future[None], reason: str) -> None:
        if not waiting.done():
            waiting.set_exception(OSError(reason))

    def _on_publish(self, client: Any, data: Any, mid: int, code: Any, properties: Any) -> None:
        self.on_sent(mid, code.value < _REFUSED)

    def _on_message(self, client: Any, data: Any, message: paho.MQTTMessage) -> None:
        self.on_message(message.topic, bytes(message.payload))

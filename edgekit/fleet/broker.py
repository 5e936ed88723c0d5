"""An MQTT 5 broker for one machine, on loopback only, that pip installs (iotcore, which is rumqttd).

Loopback always: it cannot keep one board from speaking for another. Its default listener would be 0.0.0.0, so it
never starts without the configuration written here.
"""

from __future__ import annotations

import errno
import importlib.util
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from edgekit.errors import EmbeddedBrokerError, MissingPackageError, PortTakenError
from edgekit.fleet import broker_process
from edgekit_device.publish.broker_url import BrokerAddress

HOST = "127.0.0.1"
MAX_PAYLOAD_BYTES = 256 << 10  # A Reading with thousands of dropped ranges stays below 64 KiB.
_START_S, _STOP_S, _PROBE_S = 15.0, 5.0, 1.0
_TRIES = 5


def broker_toml(port: int) -> str:
    """The broker's whole configuration: one MQTT 5 listener on loopback, no other protocol, no console.

    Args:
        port: TCP port.
    """
    return f"""id = 0

[router]
id = 0
max_connections = 10010
max_outgoing_packet_count = 200
max_segment_size = 16777216
max_segment_count = 10

[v5.1]
name = "mqtt5"
listen = "{HOST}:{port}"
next_connection_delay_ms = 1

[v5.1.connections]
connection_timeout_ms = 60000
max_payload_size = {MAX_PAYLOAD_BYTES}
max_inflight_count = 500
dynamic_filters = true
"""


class EmbeddedBroker:
    """A context manager: inside it a broker answers at `address`, after it nothing is left.

    Args:
        port: TCP port; 0 chooses a free one.
    """

    def __init__(self, port: int = 0) -> None:
        self._asked = port
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.address = BrokerAddress(HOST, port, tls=False)

    def __enter__(self) -> EmbeddedBroker:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """``mqtt://127.0.0.1:PORT``."""
        return self.address.url

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start, and return once an MQTT 5 CONNECT succeeds.

        Raises:
            PortTakenError: Another program listens on the port that was asked for.
            EmbeddedBrokerError: It did not come up.
            MissingPackageError: iotcore is not installed.
        """
        if importlib.util.find_spec("iotcore") is None:
            raise MissingPackageError("iotcore", "the embedded broker", "pip install 'edgekit[fleet]'")
        for attempt in range(_TRIES):
            port = self._asked or _free_port()
            self.address = BrokerAddress(HOST, port, tls=False)
            try:
                _refuse_taken_port(port)
                self._launch(port)
                return
            except EmbeddedBrokerError:
                self.stop()
                # A free port can be taken between finding and using it; one that was asked for cannot change.
                if self._asked or attempt == _TRIES - 1:
                    raise
            except BaseException:
                self.stop()
                raise

    def stop(self) -> None:
        """Stop the broker and remove its folder; may be called twice."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdin:
                process.stdin.close()
        folder, self._folder = self._folder, None
        if folder is not None:
            folder.cleanup()

    def _launch(self, port: int) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="edgekit-broker-")
        config = Path(self._folder.name) / "broker.toml"
        config.write_text(broker_toml(port), encoding="utf-8")
        log = Path(self._folder.name) / "broker.log"
        with log.open("wb") as output:
            # -P: the folder of this package must not shadow the broker's own modules.
            self._process = subprocess.Popen(
                [sys.executable, "-P", broker_process.__file__, str(config)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
            )
        until = time.monotonic() + _START_S
        while time.monotonic() < until:
            if self._process.poll() is not None:
                last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
                raise EmbeddedBrokerError(self.url, f"it ended with {self._process.returncode} {' '.join(last)}")
            if answers(self.address):
                return
            time.sleep(0.02)
        raise EmbeddedBrokerError(self.url, f"no MQTT 5 answer within {_START_S:.0f} s")


def answers(address: BrokerAddress, timeout_s: float = _PROBE_S) -> bool:
    """Whether a real MQTT 5 CONNECT is accepted there.

    Args:
        address: Broker without TLS.
        timeout_s: How long to wait for the answer.
    """
    import paho.mqtt.client as paho
    from paho.mqtt.enums import CallbackAPIVersion

    accepted = threading.Event()

    def connected(client: Any, data: Any, flags: Any, code: Any, properties: Any) -> None:
        if code.value < 0x80:
            accepted.set()

    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    client.on_connect = connected
    try:
        client.connect(address.host, address.port, keepalive=5)
        until = time.monotonic() + timeout_s
        while not accepted.is_set() and time.monotonic() < until:
            if client.loop(0.05) != paho.MQTT_ERR_SUCCESS:
                break
    except OSError:
        return False
    finally:
        client.disconnect()
        client.loop(0.01)
    return accepted.is_set()


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _refuse_taken_port(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as cause:
            if cause.errno == errno.EADDRINUSE:
                raise PortTakenError(HOST, port) from cause
            raise EmbeddedBrokerError(f"{HOST}:{port}", f"{cause.strerror}; choose another port") from cause

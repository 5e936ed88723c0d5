"""Enrolment and renewal over HTTPS: the standard library's server, four paths, small bodies, short patience."""

from __future__ import annotations

import json
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from edgekit.errors import CertificateRequestError, EnrolmentRefusedError, FleetError, PortTakenError
from edgekit_device.contract.documents import dump, load
from edgekit_device.contract.enrolment import (
    AUTHORITY_PATH,
    CHALLENGE_PATH,
    COLLECT_PATH,
    ENROLL_PATH,
    JOIN_PATH,
    RENEW_PATH,
    REVEAL_PATH,
)
from edgekit_device.contract.errors import ContractError, EdgeKitError

if TYPE_CHECKING:
    from edgekit.trust.enrolment import Enrolment
    from edgekit.trust.fleet_folder import Fleet
    from edgekit.trust.joining import Joining

MAX_BODY_BYTES = 16 << 10
# From the first byte of TLS to the last of the answer; a board needs a fraction of a second.
_PATIENCE_S = 10.0
_MOST_AT_ONCE = 32


class EnrolmentServer:
    """Serves `Enrolment` on the fleet's enrolment port, in threads of its own.

    Args:
        fleet: Whose certificate it shows.
        enrolment: What answers.
        joining: Boards that ask without a token; None answers no such path.
        port: Another port than the settings'; 0 chooses a free one.
    """

    def __init__(
        self, fleet: Fleet, enrolment: Enrolment, port: int | None = None, joining: Joining | None = None
    ) -> None:
        self._fleet = fleet
        settings = fleet.settings
        place = (settings.listen, settings.enroll_port if port is None else port)
        server = type("_Dual", (_Server,), {"address_family": _family(settings.listen)})
        try:
            self._server = server(place, _handler(fleet, enrolment, joining), self._context())
        except OSError as cause:
            raise PortTakenError(place[0] or "0.0.0.0", place[1]) from cause  # noqa: S104 - words for a person
        self._thread = threading.Thread(target=self._server.serve_forever, name="enrolment", daemon=True)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Serve in the background."""
        self._thread.start()

    def reload(self) -> None:
        """Show the broker's certificate as it is now."""
        self._server.context = self._context()

    def stop(self) -> None:
        """Stop serving."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()

    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self._fleet.broker_file)
        return context


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    # A second server on the port would take half of the boards.
    allow_reuse_port = False

    def __init__(self, place: tuple[str, int], handler: type[BaseHTTPRequestHandler], context: ssl.SSLContext) -> None:
        self.context = context
        self._room = threading.Semaphore(_MOST_AT_ONCE)
        super().__init__(place, handler)

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6 and not self.server_address[0]:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        # HTTPServer's own asks the name service for this machine's name.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "edgekit", self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        # A connection that is silent, or drips, ends with its time; the handshake is done here, not while accepting.
        cut = threading.Timer(_PATIENCE_S, _cut, (request,))
        cut.daemon = True
        cut.start()
        try:
            request.settimeout(_PATIENCE_S)
            secure = self.context.wrap_socket(request, server_side=True)
            super().process_request_thread(secure, client_address)
        except OSError:
            self.shutdown_request(request)
        finally:
            cut.cancel()
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: a connection that broke is no news, and a trace could hold what was said on it."""


def _cut(request: socket.socket) -> None:
    try:
        request.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


def _family(listen: str) -> int:
    if ":" in listen:
        return socket.AF_INET6
    return socket.AF_INET6 if not listen and socket.has_dualstack_ipv6() else socket.AF_INET


def _handler(fleet: Fleet, enrolment: Enrolment, joining: Joining | None) -> type[BaseHTTPRequestHandler]:
    verbs: dict[str, Callable[[Mapping[str, Any], str], dict[str, Any]]] = {
        ENROLL_PATH: lambda document, address: enrolment.enroll(document),
        CHALLENGE_PATH: lambda document, address: enrolment.challenge(document),
        RENEW_PATH: lambda document, address: enrolment.renew(document),
    }
    if joining is not None:
        verbs |= {
            JOIN_PATH: joining.ask,
            REVEAL_PATH: lambda document, address: joining.reveal(document),
            COLLECT_PATH: lambda document, address: joining.collect(document),
        }

    class Handler(BaseHTTPRequestHandler):
        server_version, sys_version = "edgekit", ""

        def do_GET(self) -> None:
            if self.path != AUTHORITY_PATH:
                self._answer(404, {"message": "no such path"})
                return
            self._send(200, fleet.authority_file.read_bytes(), "application/x-pem-file")

        def do_POST(self) -> None:
            verb = verbs.get(self.path)
            length = self.headers.get("Content-Length", "")
            if verb is None:
                self._answer(404, {"message": "no such path"})
            elif not length.isascii() or not length.isdigit() or int(length) > MAX_BODY_BYTES:
                # Read a little of it, or the answer would be lost in a connection that breaks.
                self.rfile.read(min(int(length), 4 * MAX_BODY_BYTES) if length.isascii() and length.isdigit() else 0)
                self._answer(413, {"message": f"a body of at most {MAX_BODY_BYTES} bytes is needed"})
            else:
                self._answer(*_decide(verb, self.rfile.read(int(length)), self.client_address[0]))

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: what is asked here is nobody else's business."""

        def _answer(self, code: int, document: Mapping[str, Any]) -> None:
            self._send(code, dump({"schema": 1, **document}), "application/json")

        def _send(self, code: int, body: bytes, kind: str) -> None:
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(body)

    return Handler


def _decide(
    verb: Callable[[Mapping[str, Any], str], dict[str, Any]], body: bytes, address: str
) -> tuple[int, dict[str, Any]]:
    try:
        return 200, verb(load("request", body), address)
    except EnrolmentRefusedError as error:
        return 403, {"message": str(error)}
    except (ContractError, CertificateRequestError) as error:
        return 400, {"message": str(error)}
    except (FleetError, EdgeKitError, OSError, json.JSONDecodeError):
        # Paths and reasons of the host are not the network's business; its own log line says which it was.
        return 503, {"message": "the fleet's host cannot answer now; try again"}

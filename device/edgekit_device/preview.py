"""The preview page: the newest picture as MJPEG over HTTP, in the worker, only while somebody looks.

Whoever reads slowly waits alone: each connection has its own thread, a limit on its sends, and the newest picture.
"""

from __future__ import annotations

import base64
import hashlib
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, urlsplit

from edgekit_device.preview_studio import PICTURES_PER_S, Studio

if TYPE_CHECKING:
    from edgekit_device.preview_address import PreviewAddress

MOST_STREAMS = 4
_MOST_CONNECTIONS = 16
_SEND_TIMEOUT_S = 5.0
_SNAPSHOT_WAIT_S = 2.0
_AGAIN_S = 5.0
_STYLE = (
    "body{margin:0;background:#181818;color:#ddd;font:15px system-ui,sans-serif;text-align:center}"
    "img{width:min(100%,800px);margin:16px auto;display:block}p{margin:8px}"
)
_PAGE = (
    "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
    "<title>EdgeKit preview</title><style>{style}</style>"
    "<img src='{stream}' alt='What the camera sees, with label, score and frames per second'>"
    "<p>EdgeKit preview: at most {rate:.0f} pictures a second; inference runs at its own rate.</p></html>"
)
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; img-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'; style-src "
        f"'sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'"
    ),
    # Another site's page on this machine may not show the camera inside itself.
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "EdgeKit", ""
    timeout = _SEND_TIMEOUT_S
    server: _Server

    def do_GET(self) -> None:
        address, parts = self.server.address, urlsplit(self.path)
        token = parse_qs(parts.query).get("token", [""])[0]
        if not address.allows_host(self.headers.get("Host")):
            self._refuse(HTTPStatus.FORBIDDEN, "this Host is not one of the board's names or addresses")
        elif self.headers.get("Sec-Fetch-Site") == "cross-site" and self.headers.get("Sec-Fetch-Dest") != "document":
            self._refuse(HTTPStatus.FORBIDDEN, "another site's page asked")
        elif not address.allows_token(token):
            self._refuse(HTTPStatus.UNAUTHORIZED, "the address needs ?token=...; edgekit-device run printed it")
        elif parts.path == "/":
            stream = f"stream.mjpg?token={quote(token)}" if address.token else "stream.mjpg"
            page = _PAGE.format(style=_STYLE, stream=stream, rate=PICTURES_PER_S)
            self._answer(HTTPStatus.OK, "text/html; charset=utf-8", page.encode())
        elif parts.path == "/snapshot.jpg":
            self._snapshot()
        elif parts.path == "/stream.mjpg":
            self._stream()
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "there is /, /stream.mjpg and /snapshot.jpg")

    def _answer(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        for name, value in {**_HEADERS, "Content-Type": kind, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        self.close_connection = True
        self._answer(status, "text/plain; charset=utf-8", f"{why}\n".encode())

    def _snapshot(self) -> None:
        studio = self.server.studio
        studio.look(1)
        try:
            _, jpeg = studio.next_picture(studio.newest, _SNAPSHOT_WAIT_S)
        finally:
            studio.look(-1)
        self._answer(HTTPStatus.OK, "image/jpeg", jpeg)

    def _stream(self) -> None:
        if not self.server.streams.acquire(blocking=False):
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, f"{MOST_STREAMS} look already")
            return
        studio = self.server.studio
        studio.look(1)
        try:
            self.close_connection = True
            self.send_response(HTTPStatus.OK)
            for name, value in {**_HEADERS, "Content-Type": "multipart/x-mixed-replace; boundary=frame"}.items():
                self.send_header(name, value)
            self.end_headers()
            number = studio.newest
            while not studio.closing:
                following, jpeg = studio.next_picture(number, 1.0)
                if following == number:
                    continue
                number = following
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                self.wfile.write(head.encode() + jpeg + b"\r\n")
        finally:
            studio.look(-1)
            self.server.streams.release()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a request line holds the token."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 8

    def __init__(self, address: PreviewAddress, studio: Studio) -> None:
        self.address, self.studio = address, studio
        self.streams = threading.BoundedSemaphore(MOST_STREAMS)
        self._connections = threading.BoundedSemaphore(_MOST_CONNECTIONS)
        super().__init__((address.host, address.port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """One thread a connection, up to a limit."""
        if not self._connections.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve one connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._connections.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no news."""


class Preview:
    """The page, from opening its port to closing it.

    Attributes:
        port: Where it listens.
        studio: Where pictures are made.
    """

    def __init__(
        self, address: PreviewAddress, trouble: Callable[[], str | None], pictures_per_s: float = PICTURES_PER_S
    ) -> None:
        """Open the port.

        Raises:
            OSError: The port is taken or may not be used.
        """
        self.studio = Studio(trouble, pictures_per_s)
        self._server = _Server(address, self.studio)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="preview-http", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self.studio.start()
        self._thread.start()

    def close(self) -> None:
        """Stop answering and give the port back."""
        self.studio.close()
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()


def serve_when_free(
    address: PreviewAddress,
    trouble: Callable[[], str | None],
    found: Callable[[Preview], None],
    failed: Callable[[str], None],
) -> None:
    """Open the page in the background; a port that is taken is said once and tried again until it is free.

    Args:
        address: Where.
        trouble: What the camera suffers from now.
        found: Takes the page once it answers.
        failed: Takes the reason of the first failure.
    """

    def open_it() -> None:
        said = False
        while True:
            try:
                preview = Preview(address, trouble)
            except OSError as error:
                if not said:
                    failed(f"{address.host}:{address.port}: {error.strerror}; tried again every {_AGAIN_S:.0f} s")
                said = True
                time.sleep(_AGAIN_S)
                continue
            preview.start()
            found(preview)
            return

    threading.Thread(target=open_it, name="preview-opening", daemon=True).start()

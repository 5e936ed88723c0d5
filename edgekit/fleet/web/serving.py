"""Serving the dashboard from a thread. The port is taken before all else starts, so a taken one is said at once."""

from __future__ import annotations

import errno
import logging
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from edgekit.errors import DashboardPortError, MissingPackageError

if TYPE_CHECKING:
    from types import TracebackType

_START_S, _STOP_S = 20.0, 6.0


class Certificate(NamedTuple):
    """For TLS.

    Attributes:
        chain: PEM file.
        key: PEM file, 0600.
    """

    chain: Path
    key: Path


def listen(host: str, port: int) -> socket.socket:
    """Take a port.

    Args:
        host: Address to listen on.
        port: TCP port; 0 chooses a free one.

    Raises:
        DashboardPortError: It is taken, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except (OSError, OverflowError) as cause:
        listener.close()
        taken = getattr(cause, "errno", None) == errno.EADDRINUSE
        problem = "the port is taken" if taken else getattr(cause, "strerror", None) or str(cause)
        raise DashboardPortError(host, port, problem) from cause
    return listener


def require_packages() -> None:
    """Say what is missing before anything starts.

    Raises:
        MissingPackageError: A package of the [fleet] extra is not installed.
    """
    import importlib.util

    for package in ("fastapi", "jinja2", "uvicorn", "argon2"):
        if importlib.util.find_spec(package) is None:
            raise MissingPackageError(package, "the dashboard", "pip install 'edgekit[fleet]'")


class Server:
    """A context manager: inside it the dashboard answers.

    Args:
        app: What to serve.
        listener: A port taken by `listen`; closed at the end.
        certificate: For TLS; None for plain HTTP on loopback.
    """

    def __init__(self, app: Any, listener: socket.socket, certificate: Certificate | None = None) -> None:
        import uvicorn

        self._listener, self._place = listener, listener.getsockname()[:2]
        # The access log would hold the token of the URL.
        config = uvicorn.Config(
            app,
            log_level="error",
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_graceful_shutdown=2,
            timeout_keep_alive=30,
            proxy_headers=False,
            lifespan="off",
            ssl_certfile=str(certificate.chain) if certificate else None,
            ssl_keyfile=str(certificate.key) if certificate else None,
        )
        # A browser that leaves in the middle of a stream is no error.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listener]}, name="dashboard", daemon=True
        )

    def __enter__(self) -> Server:
        self._thread.start()
        until = time.monotonic() + _START_S
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > until:
                self._listener.close()
                raise DashboardPortError(self._place[0], self._place[1], "the server did not start")
            time.sleep(0.01)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        self._thread.join(_STOP_S)
        self._listener.close()

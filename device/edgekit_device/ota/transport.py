"""Bytes over HTTP under limits: a deadline, a least rate, an exact length, a range that is the one asked for.

A timeout between two bytes stops nobody who sends two bytes a second. So a watchdog shuts the socket at the deadline,
through headers and handshake too, and the rate is looked at while the body comes. One request, one connection.
"""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from edgekit_device.ota.errors import (
    EndlessDataError,
    FloodError,
    MissingFileError,
    OverTheAirError,
    PartialFileError,
    RepositoryUnreachableError,
    RequestDroppedError,
    SlowRetrievalError,
    WrongRangeError,
)
from edgekit_device.publish.tls import words_of

CHUNK_BYTES = 64 << 10
_RANGE = re.compile(r"bytes ([0-9]{1,15})-([0-9]{1,15})/([0-9]{1,15})", re.ASCII)


@dataclass(frozen=True)
class Limits:
    """How long and how slow a transfer may be.

    Attributes:
        connect_s: Until there is a connection, and between two bytes.
        answer_s: Until the headers are here, handshake and all; a file of metadata must be whole by then too.
        least_bytes_per_s: Slower over `window_s` is taken for an attack.
        window_s: Seconds over which the rate is looked at.
        max_bytes_per_s: No faster than that; None for as fast as it goes.
        most_requests: Of one errand.
    """

    connect_s: float = 10.0
    answer_s: float = 30.0
    least_bytes_per_s: int = 1024
    window_s: float = 20.0
    max_bytes_per_s: int | None = None
    most_requests: int = 1024

    def deadline_s(self, length: int) -> float:
        """The longest that a file of so many bytes may take, all tries together."""
        return self.answer_s + length / self.least_bytes_per_s


class Pace:
    """Holds a transfer between its least and its highest rate; times are monotonic."""

    def __init__(self, file: str, limits: Limits) -> None:
        self._file, self._limits = file, limits
        self._begun_s = self._window_s = time.monotonic()
        self._bytes = self._window_bytes = 0

    def took(self, count: int) -> None:
        """So many bytes came: wait if that was too fast, refuse if it is too slow.

        Raises:
            SlowRetrievalError: Slower than the least rate for a whole window.
        """
        self._bytes += count
        self._window_bytes += count
        limits, now_s = self._limits, time.monotonic()
        if now_s - self._window_s >= limits.window_s:
            rate = self._window_bytes / (now_s - self._window_s)
            if rate < limits.least_bytes_per_s:
                said = f"came at {rate:.0f} bytes a second, the least is {limits.least_bytes_per_s}"
                raise SlowRetrievalError(self._file, said)
            self._window_s, self._window_bytes = now_s, 0
        if limits.max_bytes_per_s:
            ahead_s = self._bytes / limits.max_bytes_per_s - (now_s - self._begun_s)
            if ahead_s > 0:
                time.sleep(ahead_s)

    @property
    def chunk_bytes(self) -> int:
        """How much to take at once: small enough that a slow link is not used in bursts."""
        most = self._limits.max_bytes_per_s
        return CHUNK_BYTES if most is None else max(1024, min(CHUNK_BYTES, most // 4))


class Transport:
    """Requests of one errand.

    Args:
        limits: For each of them.
        context: TLS of https addresses.
    """

    def __init__(self, limits: Limits | None = None, context: ssl.SSLContext | None = None) -> None:
        self.limits, self._context = limits or Limits(), context
        self._asked = 0
        self.received_bytes = 0

    def read(self, url: str, most_bytes: int) -> bytes:
        """A small file, whole.

        Args:
            url: Where.
            most_bytes: Longer is refused; not a byte more is kept.

        Raises:
            OverTheAirError: Its class says what happened.
        """
        file, until_s = name_of(url), time.monotonic() + self.limits.answer_s
        found = bytearray()
        with self._answer(url, 0, until_s) as answer:
            _refuse_code(answer, file, whole_only=True)
            said = _length(answer)
            if said is not None and said > most_bytes:
                raise EndlessDataError(file, f"is {said} bytes long, at most {most_bytes} were expected")
            for chunk in self._chunks(answer, file, until_s):
                found += chunk
                if len(found) > most_bytes:
                    raise EndlessDataError(file, f"goes on after the {most_bytes} bytes that were expected")
            if said is not None and len(found) < said:
                raise PartialFileError(file, f"ends after {len(found)} of {said} bytes")
        return bytes(found)

    def stream(self, url: str, offset: int, length: int, until_s: float) -> Iterator[tuple[int, bytes]]:
        """The rest of a large file from an offset on, in pieces of (where it begins, bytes), never beyond its length.

        A server that knows no ranges begins at 0 again; that shows in the first place given.

        Args:
            url: Where.
            offset: Bytes that are here already; less than length.
            length: Of the whole file, exactly.
            until_s: Deadline, monotonic.

        Raises:
            OverTheAirError: Its class says what happened; what was given before is good.
        """
        file = name_of(url)
        with self._answer(url, offset, until_s) as answer:
            _refuse_code(answer, file, whole_only=offset == 0)
            place = _place(answer, file, offset, length)
            said = _length(answer)
            if said is not None and place + said != length:
                kind = EndlessDataError if place + said > length else PartialFileError
                raise kind(file, f"is {place + said} bytes long where {length} were promised")
            for chunk in self._chunks(answer, file, until_s):
                room = length - place
                if len(chunk) > room:
                    if room:
                        yield place, chunk[:room]
                    raise EndlessDataError(file, f"goes on after the {length} bytes that were promised")
                yield place, chunk
                place += len(chunk)
            if place < length:
                raise PartialFileError(file, f"ends after {place} of {length} bytes")

    def _chunks(self, answer: http.client.HTTPResponse, file: str, until_s: float) -> Iterator[bytes]:
        pace = Pace(file, self.limits)
        while True:
            chunk = answer.read1(pace.chunk_bytes)
            if time.monotonic() >= until_s:
                raise SlowRetrievalError(file, "did not come within its deadline")
            if not chunk:
                return
            self.received_bytes += len(chunk)
            pace.took(len(chunk))
            yield chunk

    @contextmanager
    def _answer(self, url: str, offset: int, until_s: float) -> Iterator[http.client.HTTPResponse]:
        file = name_of(url)
        self._asked += 1
        if self._asked > self.limits.most_requests:
            raise FloodError(file, f"would be request {self._asked} of one update; no more are made")
        link = _Link(url, self.limits.connect_s, self._context)
        # Headers have a time of their own: that of a large file is hours.
        dog = _watchdog(link, min(until_s, time.monotonic() + self.limits.answer_s))
        try:
            link.ask(offset)
            with link.getresponse() as answer:
                dog.cancel()
                if link.was_cut:  # Headers that were cut look like headers that have ended.
                    raise SlowRetrievalError(file, "did not come within its deadline")
                dog = _watchdog(link, until_s)
                yield answer
        except OverTheAirError:
            raise
        except (OSError, http.client.HTTPException, ValueError) as cause:
            raise _named(cause, file, link) from cause
        finally:
            dog.cancel()
            link.close()


class _Link(http.client.HTTPConnection):
    """One connection, whose socket can be shut while it shakes hands."""

    def __init__(self, url: str, timeout_s: float, context: ssl.SSLContext | None) -> None:
        parts = urlsplit(url)
        tls = parts.scheme == "https"
        super().__init__(parts.hostname or "", parts.port or (443 if tls else 80), timeout=timeout_s)
        self._tls = (context or ssl.create_default_context()) if tls else None
        self._path = parts.path or "/"
        self.was_cut = False

    def connect(self) -> None:
        raw = socket.create_connection((self.host, self.port), self.timeout)
        if self._tls is None:
            self.sock = raw
            return
        try:
            # Not on connecting: the watchdog must be able to reach the socket before the handshake.
            secure = self._tls.wrap_socket(raw, server_hostname=self.host, do_handshake_on_connect=False)
        except BaseException:
            raw.close()
            raise
        self.sock = secure
        secure.do_handshake()

    def ask(self, offset: int) -> None:
        """Ask for the file, from an offset on."""
        headers = {"Connection": "close", "Accept-Encoding": "identity", "User-Agent": "edgekit-device"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
        self.request("GET", self._path, headers=headers)

    def cut(self) -> None:
        """End it from another thread."""
        self.was_cut = True
        with suppress(OSError, AttributeError):
            self.sock.shutdown(socket.SHUT_RDWR)


def _watchdog(link: _Link, until_s: float) -> threading.Timer:
    """Cuts a connection at a time, monotonic, unless it is cancelled before."""
    dog = threading.Timer(max(0.0, until_s - time.monotonic()), link.cut)
    dog.daemon = True
    dog.start()
    return dog


def name_of(url: str) -> str:
    """What to call a file in messages: the last part of its address."""
    return urlsplit(url).path.rsplit("/", 1)[-1][:200] or "the repository"


def _named(cause: Exception, file: str, link: _Link) -> OverTheAirError:
    if link.was_cut:
        return SlowRetrievalError(file, "did not come within its deadline")
    if isinstance(cause, TimeoutError):
        return SlowRetrievalError(file, f"nothing came for {link.timeout:.0f} s")
    if isinstance(cause, http.client.IncompleteRead):
        return PartialFileError(file, "ends before its length")
    if isinstance(cause, http.client.RemoteDisconnected | ConnectionResetError | BrokenPipeError):
        return RequestDroppedError(file, "the connection was closed without an answer, or in the middle of one")
    if isinstance(cause, http.client.HTTPException | ValueError):
        return RequestDroppedError(file, f"what answers does not speak HTTP ({type(cause).__name__})")
    return RepositoryUnreachableError(file, f"{link.host}:{link.port}: {words_of(cause, link.host)}")


def _refuse_code(answer: http.client.HTTPResponse, file: str, *, whole_only: bool) -> None:
    code = answer.status
    if code == 200 or (code == 206 and not whole_only):
        return
    if code in (206, 416):
        raise WrongRangeError(file, f"the server answers with code {code} to what was not asked")
    if code >= 500 or code in (408, 429):
        raise RepositoryUnreachableError(file, f"the server answers with code {code}")
    elsewhere = f" and sends elsewhere ({(answer.getheader('Location') or '')[:100]!r})" if 300 <= code < 400 else ""
    raise MissingFileError(file, f"the server answers with code {code}{elsewhere}", code)


def _place(answer: http.client.HTTPResponse, file: str, offset: int, length: int) -> int:
    """Where the body begins."""
    if answer.status == 200:
        return 0
    said = answer.getheader("Content-Range") or ""
    found = _RANGE.fullmatch(said)
    if found is None:
        raise WrongRangeError(file, f"the server does not say where it goes on ({said[:60]!r})")
    first, last, total = (int(text) for text in found.groups())
    if first != offset or last != length - 1 or total != length:
        raise WrongRangeError(file, f"asked for bytes {offset}-{length - 1} of {length}, the server sends {said}")
    return first


def _length(answer: http.client.HTTPResponse) -> int | None:
    text = (answer.getheader("Content-Length") or "").strip()
    return int(text) if text.isdigit() and len(text) < 19 else None

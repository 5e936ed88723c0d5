"""A board answers what the host asks of it: one request at a time, few a minute, and only these three.

Nothing of a request reaches a file name, a program or its arguments: its one word chooses among what stands here.
"""

from __future__ import annotations

import base64
import binascii
import collections
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit_device.contract.asking import (
    DOCTOR,
    DONE,
    FAILED,
    LOGS,
    MAX_ANSWER_BYTES,
    MAX_FINDINGS,
    MAX_PICTURE_BYTES,
    PICTURE,
    REFUSED,
    Answer,
    Check,
)
from edgekit_device.contract.clock import utc_text
from edgekit_device.diagnosis.finding import STATES, UNKNOWN
from edgekit_device.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgekit_device.contract.asking import Request
    from edgekit_device.log_ring import LogRing

MOST_A_MINUTE = 6
_MINUTE_S, _PICTURE_S, _DOCTOR_S = 60.0, 6.0, 60.0
_MOST_DOCTOR_BYTES = 64 << 10
_TEXT = 1000
NO_PICTURES = (
    "this board gives no pictures; on the board, write `pictures = true` into /etc/edgekit/device.toml and restart it"
)


@dataclass(frozen=True)
class Desk:
    """What answers are made from, and where they go.

    Attributes:
        log: What the supervisor said.
        send: Publishes an answer.
        note: Says an event of the board: every answer leaves one, so the board itself tells who was curious.
        ask_worker: Asks the worker for a picture with a number; False if there is no worker.
        pictures: Whether this board's owner allows pictures.
        root: Folder that stands for the board's ``/``.
        secrets: What must not be in a text, beside what looks like a secret.
    """

    log: LogRing
    send: Callable[[bytes], None]
    note: Callable[[str, str], None]
    ask_worker: Callable[[str], bool]
    pictures: bool = False
    root: Path = Path("/")
    secrets: tuple[str, ...] = ()


class Answering:
    """Used by the supervisor's thread; `tick` is called often and never waits.

    Args:
        desk: What there is to answer with.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._pending: Request | None = None
        self._until_s = 0.0
        self._times: collections.deque[float] = collections.deque(maxlen=MOST_A_MINUTE)
        self._doctor: _Doctor | None = None

    def hear(self, request: Request, now_s: float) -> None:
        """Take a request. Beyond a few a minute nothing is said at all, so that asking cannot be used to flood.

        Args:
            request: From the host.
            now_s: Monotonic.
        """
        if self._pending is not None and self._pending.number == request.number:
            return
        if len(self._times) == MOST_A_MINUTE and now_s - self._times[0] < _MINUTE_S:
            return
        self._times.append(now_s)
        if self._pending is not None:
            self._say(request, REFUSED, "another request is being answered; ask again in a moment")
        elif request.what == LOGS:
            self._pending = request
            self._finish(DONE, lines=self._desk.log.last(self._desk.secrets))
        elif request.what == DOCTOR:
            self._pending, self._until_s = request, now_s + _DOCTOR_S
            self._doctor = _Doctor(self._desk.root, _DOCTOR_S)
        elif not self._desk.pictures:
            self._pending = request
            self._finish(REFUSED, NO_PICTURES)
        else:
            self._pending, self._until_s = request, now_s + _PICTURE_S
            if not self._desk.ask_worker(request.number):
                self._finish(FAILED, "nothing serves now: there is no picture")

    def hear_picture(self, message: Mapping[str, Any]) -> None:
        """Take what the worker made; a picture nobody waits for is forgotten."""
        pending = self._pending
        if pending is None or pending.what != PICTURE or message.get("id") != pending.number:
            return
        try:
            jpeg = base64.b64decode(message.get("jpeg") or "", validate=True)
        except (binascii.Error, TypeError, ValueError):
            jpeg = b""
        if not jpeg or len(jpeg) > MAX_PICTURE_BYTES:
            self._finish(FAILED, str(message.get("reason") or "the picture is too large"))
        else:
            self._finish(DONE, picture=jpeg)

    def tick(self, now_s: float) -> None:
        """Finish what is ready, give up what is late.

        Args:
            now_s: Monotonic.
        """
        if self._pending is None:
            return
        if self._doctor is not None and self._doctor.done:
            findings, reason = self._doctor.findings(self._desk.secrets)
            self._finish(FAILED if reason else DONE, reason, findings=findings)
        elif now_s > self._until_s + (5.0 if self._doctor else 0.0):
            self._finish(FAILED, "it was not ready in time")

    def close(self) -> None:
        """End a doctor that still looks."""
        if self._doctor is not None:
            self._doctor.end()
            self._doctor = None

    def _finish(self, outcome: str, reason: str | None = None, **parts: Any) -> None:
        request, self._pending = self._pending, None
        self.close()
        if request is not None:
            self._say(request, outcome, reason, **parts)
            # The board's own word of it, in its own sequence: nobody on the host can ask unseen.
            self._desk.note("asked", f"{request.what}: {outcome}")

    def _say(self, request: Request, outcome: str, reason: str | None = None, **parts: Any) -> None:
        reason = redact(reason, self._desk.secrets)[:_TEXT] if reason else None
        data = Answer(request.number, request.what, utc_text(), outcome, reason, **parts).to_bytes()
        if len(data) > MAX_ANSWER_BYTES:
            why = "the answer is too large for one message"
            data = Answer(request.number, request.what, utc_text(), FAILED, why).to_bytes()
        self._desk.send(data)


class _Doctor:
    """`edgekit-device doctor` in a process of its own: it loads what the supervisor never does, and may hang."""

    def __init__(self, root: Path, limit_s: float) -> None:
        words = [sys.executable, "-m", "edgekit_device", "doctor", "--root", str(root), "--json"]
        self._process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self._until_s = time.monotonic() + limit_s
        self._said = b""
        self._late = False
        self._thread = threading.Thread(target=self._read, name="doctor", daemon=True)
        self._cut = threading.Timer(limit_s, self._give_up)
        self._cut.daemon = True
        self._cut.start()
        self._thread.start()

    @property
    def done(self) -> bool:
        return not self._thread.is_alive()

    def findings(self, secrets: tuple[str, ...]) -> tuple[tuple[Check, ...], str | None]:
        """What it found, or why it found nothing."""
        if self._late:
            return (), "the doctor took too long"
        try:
            rows = json.loads(self._said)["findings"][:MAX_FINDINGS]
            return tuple(_check(row, secrets) for row in rows), None
        except (ValueError, KeyError, TypeError, RecursionError):
            return (), f"the doctor ended with code {self._process.returncode} and said nothing"

    def end(self) -> None:
        self._cut.cancel()
        self._process.kill()
        self._thread.join(5.0)

    def _give_up(self) -> None:
        self._late = True
        self._process.kill()

    def _read(self) -> None:
        stream = self._process.stdout
        if stream is not None:
            with stream:
                self._said = stream.read(_MOST_DOCTOR_BYTES)
        self._process.kill()
        self._process.wait()


def _check(row: Mapping[str, Any], secrets: tuple[str, ...]) -> Check:
    def clean(text: str) -> str:
        return "".join(c if c.isprintable() else " " for c in redact(text, secrets))[:_TEXT]

    remedy, state = row["remedy"], row["state"] if row["state"] in STATES else UNKNOWN
    return Check(str(row["check"])[:64], state, clean(str(row["detail"])), clean(remedy) if remedy else None)

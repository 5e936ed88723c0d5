"""Who is logged in, and what is tried too often. Sessions live in this process: a stolen database holds none."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from edgekit.fleet.web.roles import Role

IDLE_S, MOST_S = 12 * 3600.0, 7 * 86_400.0
_MOST_SESSIONS = 10_000


@dataclass
class Session:
    """One browser, or one program with a token.

    Attributes:
        sites: The only ones it may see; empty is all.
        csrf: What each change must bring along.
        program: It came with a token in a header: it reads, and has no cookie to be abused.
        streams: How many event streams it holds open.
    """

    user: str
    role: Role
    sites: frozenset[str] = frozenset()
    csrf: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    program: bool = False
    ended: bool = False
    streams: int = 0
    began_s: float = 0.0
    seen_s: float = 0.0

    def may_see(self, site: str) -> bool:
        """Whether boards of this site are shown to it."""
        return not self.sites or site in self.sites


class Sessions:
    """Every session by the hash of its secret.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._known: OrderedDict[bytes, Session] = OrderedDict()

    def begin(self, user: str, role: Role, sites: frozenset[str] = frozenset()) -> tuple[str, Session]:
        """A new session and its secret, which only the browser keeps."""
        secret, now = secrets.token_urlsafe(32), self._clock()
        session = Session(user, role, sites, began_s=now, seen_s=now)
        with self._lock:
            self._known[_hash(secret)] = session
            while len(self._known) > _MOST_SESSIONS:
                self._known.popitem(last=False)[1].ended = True
        return secret, session

    def find(self, secret: str | None) -> Session | None:
        """The session of a secret, if it still holds."""
        if not secret or len(secret) > 200:
            return None
        now = self._clock()
        with self._lock:
            session = self._known.get(_hash(secret))
            if session is None:
                return None
            if session.ended or now - session.seen_s > IDLE_S or now - session.began_s > MOST_S:
                session.ended = True
                del self._known[_hash(secret)]
                return None
            session.seen_s = now
            return session

    def end(self, secret: str | None) -> None:
        """Log out; streams of this session end within a second or two."""
        with self._lock:
            session = self._known.pop(_hash(secret), None) if secret else None
            if session is not None:
                session.ended = True

    def users(self) -> set[str]:
        """Who is logged in."""
        with self._lock:
            return {session.user for session in self._known.values()}

    def held_by(self, user: str) -> list[Session]:
        """Sessions of somebody."""
        with self._lock:
            return [session for session in self._known.values() if session.user == user]

    def end_all(self, user: str) -> None:
        """Log somebody out everywhere: their role changed, or they may not come any more."""
        with self._lock:
            for key in [key for key, session in self._known.items() if session.user == user]:
                self._known.pop(key).ended = True


class Attempts:
    """At most so many tries in a time, per name; others are not held up by them.

    Args:
        most: Tries.
        per_s: In so many seconds.
        clock: Monotonic seconds.
    """

    def __init__(self, most: int = 5, per_s: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._per_s, self._clock = most, per_s, clock
        self._lock = threading.Lock()
        self._tries: OrderedDict[str, list[float]] = OrderedDict()

    def allowed(self, name: str) -> bool:
        """Count a try; False if it is one too many."""
        now = self._clock()
        with self._lock:
            recent = [when for when in self._tries.pop(name, []) if now - when < self._per_s]
            fine = len(recent) < self._most
            if fine:
                recent.append(now)
            self._tries[name] = recent
            while len(self._tries) > 20_000:
                self._tries.popitem(last=False)
            return fine


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()

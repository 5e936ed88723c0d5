"""Who belongs to the fleet: accounts and one-time tokens, in one SQLite file. It is the truth; the broker is told.

Passwords and tokens are kept as hashes. Every change raises a revision, by which a running broker hears of it.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from edgekit.errors import AlreadyEnrolledError, RegistryError, UnknownAccountError
from edgekit.trust.dynamic_security import Account, Hashed
from edgekit.trust.rules import BOARD

ACTIVE, ROTATING, REVOKED = "active", "rotating", "revoked"
TOKEN_S = 15 * 60
_SCHEMA = """
CREATE TABLE IF NOT EXISTS accounts (
    name TEXT PRIMARY KEY, role TEXT NOT NULL, site TEXT NOT NULL, device TEXT NOT NULL, state TEXT NOT NULL,
    public_key BLOB, until_s INTEGER, salt BLOB NOT NULL, digest BLOB NOT NULL, iterations INTEGER NOT NULL,
    made_s INTEGER NOT NULL, changed_s INTEGER NOT NULL, revision INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS by_revision ON accounts (revision);
CREATE TABLE IF NOT EXISTS tokens (
    id TEXT PRIMARY KEY, digest BLOB NOT NULL, name TEXT NOT NULL, until_s INTEGER NOT NULL, used_s INTEGER);
CREATE TABLE IF NOT EXISTS acts (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at_s INTEGER NOT NULL, who TEXT NOT NULL, what TEXT NOT NULL,
    name TEXT NOT NULL);
"""
# Acts wait here until a running `fleet up` takes them into its audit log; where none ever runs, the newest stay.
_MOST_ACTS = 10_000


class Member(NamedTuple):
    """One row of the registry.

    Attributes:
        account: What the broker knows.
        state: ``active``, ``rotating`` (its password is void, it will fetch another by itself) or ``revoked``.
        public_key: Of a board, DER; None for accounts of the host.
        until_s: When its certificate ends, seconds since 1970; None for accounts of the host.
        made_s: When it was enrolled.
        changed_s: When it was last renewed, rotated or revoked.
        revision: Grows with every change of any row.
    """

    account: Account
    state: str
    public_key: bytes | None
    until_s: int | None
    made_s: int
    changed_s: int
    revision: int


class Act(NamedTuple):
    """Something that was done to an account, for the audit log; numbers grow."""

    number: int
    at_s: int
    who: str
    what: str
    name: str


class Registry:
    """Safe for several processes; one connection an operation.

    Args:
        path: The file; made with mode 0600 if it is missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            with self._open() as db:
                db.executescript(_SCHEMA)
        except OSError as cause:
            raise RegistryError(str(path), cause.strerror or str(cause)) from cause

    # -- tokens ----------------------------------------------------------------------------------------------

    def offer(self, name: str, now_s: float, by: str = "?", good_s: int = TOKEN_S) -> tuple[str, str]:
        """Make a one-time token for a board; earlier ones for the same board are void.

        Args:
            name: ``SITE.DEVICE``.
            now_s: Seconds since 1970.
            by: Who asks for it, for the audit log.
            good_s: How long it is good.

        Returns:
            (id, secret). Only a hash of the secret is kept.
        """
        number, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
        with self._open() as db:
            db.execute("DELETE FROM tokens WHERE name = ? OR until_s < ?", (name, int(now_s) - 86_400))
            row = (number, _token_digest(secret), name, int(now_s) + good_s)
            db.execute("INSERT INTO tokens (id, digest, name, until_s) VALUES (?, ?, ?, ?)", row)
            _note(db, now_s, by, "board invited", name)
        return number, secret

    def spend(self, number: str, secret: str, name: str, now_s: float) -> bool:
        """Use a token up; True once, for the right secret and board, in time."""
        with self._open() as db:
            row = db.execute("SELECT digest FROM tokens WHERE id = ?", (number,)).fetchone()
            # Hashed and compared even where there is no such token: the time taken tells nothing.
            right = hmac.compare_digest(row[0] if row else bytes(32), _token_digest(secret))
            if not (row and right):
                return False
            done = db.execute(
                "UPDATE tokens SET used_s = ? WHERE id = ? AND used_s IS NULL AND until_s >= ? AND name = ?",
                (int(now_s), number, int(now_s), name),
            )
            return done.rowcount == 1

    # -- accounts --------------------------------------------------------------------------------------------

    def put(
        self, account: Account, public_key: bytes | None, until_s: int | None, now_s: float, what: str = ""
    ) -> None:
        """Enrol, or renew: from now on this key and this password are the account's.

        Args:
            account: Whose.
            public_key: Of a board, DER.
            until_s: When its certificate ends, seconds since 1970.
            now_s: Seconds since 1970.
            what: How the audit log calls it; empty notes nothing there.
        """
        with self._open() as db:
            self._put(db, account, public_key, until_s, int(now_s))
            if what:
                _note(db, now_s, f"{account.name} (board)", what, account.name)

    def put_many(self, accounts: Iterable[Account], now_s: float) -> None:
        """Put accounts without keys, in one transaction."""
        with self._open() as db:
            for account in accounts:
                self._put(db, account, None, None, int(now_s))

    def _put(
        self, db: sqlite3.Connection, account: Account, public_key: bytes | None, until_s: int | None, now: int
    ) -> None:
        hashed = account.hashed
        db.execute(
            "INSERT INTO accounts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET "
            "role = excluded.role, state = excluded.state, public_key = excluded.public_key, "
            "until_s = excluded.until_s, salt = excluded.salt, digest = excluded.digest, "
            "iterations = excluded.iterations, changed_s = excluded.changed_s, revision = excluded.revision",
            (
                *(account.name, account.role, account.site, account.device, ACTIVE, public_key, until_s),
                *(hashed.salt, hashed.digest, hashed.iterations, now, now, self._next(db)),
            ),
        )

    def set_state(self, name: str, state: str, now_s: float, by: str = "?") -> None:
        """Revoke or rotate.

        Args:
            name: Whose account.
            state: ``revoked`` or ``rotating``.
            now_s: Seconds since 1970.
            by: Who wants it, for the audit log.

        Raises:
            UnknownAccountError: No such account.
            AlreadyEnrolledError: It is revoked, and only a new enrolment brings it back.
        """
        with self._open() as db:
            row = db.execute("SELECT state FROM accounts WHERE name = ?", (name,)).fetchone()
            if row is None:
                raise UnknownAccountError(name)
            if row[0] == REVOKED and state != REVOKED:
                raise AlreadyEnrolledError(name, REVOKED)
            db.execute(
                "UPDATE accounts SET state = ?, changed_s = ?, revision = ? WHERE name = ?",
                (state, int(now_s), self._next(db), name),
            )
            if state == REVOKED:
                db.execute("DELETE FROM tokens WHERE name = ?", (name,))
            _note(db, now_s, by, "board revoked" if state == REVOKED else "board rotated", name)

    def find(self, name: str) -> Member | None:
        """One member, or None."""
        with self._open() as db:
            row = db.execute("SELECT * FROM accounts WHERE name = ?", (name,)).fetchone()
        return _member(row) if row else None

    def members(self, since: int = 0) -> list[Member]:
        """Members by revision.

        Args:
            since: Only what changed after this revision.
        """
        with self._open() as db:
            rows = db.execute("SELECT * FROM accounts WHERE revision > ? ORDER BY revision", (since,)).fetchall()
        return [_member(row) for row in rows]

    # -- what was done ---------------------------------------------------------------------------------------

    def acts(self, limit: int = 500) -> list[Act]:
        """What was done and nobody has taken over yet, oldest first."""
        with self._open() as db:
            rows = db.execute("SELECT id, at_s, who, what, name FROM acts ORDER BY id LIMIT ?", (limit,)).fetchall()
        return [Act(*row) for row in rows]

    def forget_acts(self, up_to: int) -> None:
        """They stand elsewhere now."""
        with self._open() as db:
            db.execute("DELETE FROM acts WHERE id <= ?", (up_to,))

    def copy_to(self, path: Path) -> None:
        """A consistent copy, also while others write."""
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_TRUNC, 0o600))
        # Not in a transaction of our own: a backup would wait for that one for ever.
        source, target = sqlite3.connect(self.path, timeout=10.0), sqlite3.connect(path)
        try:
            source.backup(target)
        except sqlite3.Error as cause:
            raise RegistryError(str(self.path), str(cause)) from cause
        finally:
            source.close()
            target.close()

    @staticmethod
    def _next(db: sqlite3.Connection) -> int:
        found: int = db.execute("SELECT COALESCE(MAX(revision), 0) + 1 FROM accounts").fetchone()[0]
        return found

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """One transaction, down to the disk."""
        try:
            db = sqlite3.connect(self.path, timeout=10.0, isolation_level=None)
        except sqlite3.Error as cause:
            raise RegistryError(str(self.path), str(cause)) from cause
        try:
            db.execute("PRAGMA synchronous = FULL")
            db.execute("BEGIN IMMEDIATE")
            yield db
            if db.in_transaction:
                db.execute("COMMIT")
        except sqlite3.Error as cause:
            raise RegistryError(str(self.path), str(cause)) from cause
        finally:
            # Closing rolls back what was not committed.
            db.close()


def _note(db: sqlite3.Connection, now_s: float, who: str, what: str, name: str) -> None:
    row = (int(now_s), who, what, name)
    number = db.execute("INSERT INTO acts (at_s, who, what, name) VALUES (?, ?, ?, ?)", row).lastrowid
    db.execute("DELETE FROM acts WHERE id <= ?", ((number or 0) - _MOST_ACTS,))


def _token_digest(secret: str) -> bytes:
    # 256 random bits need no slow hash.
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def _member(row: tuple[object, ...]) -> Member:
    name, role, site, device, state, public_key, until_s, salt, digest, iterations, made_s, changed_s, revision = row
    hashed = Hashed(salt, digest, iterations)  # type: ignore[arg-type]
    account = Account(name, role, site, device, hashed, state == ACTIVE)  # type: ignore[arg-type]
    return Member(account, state, public_key, until_s, made_s, changed_s, revision)  # type: ignore[arg-type]


def is_board(member: Member) -> bool:
    """Whether it is a board, and not an account of the host."""
    return member.account.role == BOARD

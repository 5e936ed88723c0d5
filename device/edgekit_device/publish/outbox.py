"""Messages on disk: one SQLite file with compressed batches, written rarely and durably.

Used by one thread. Every failure of the disk becomes an `OutboxError`; nothing here decides what happens then.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from edgekit_device.contract.ack import Ranges, merge_ranges
from edgekit_device.contract.errors import OutboxCorruptError, OutboxDiskError, OutboxError
from edgekit_device.publish.envelope import pack, unpack
from edgekit_device.publish.messages import Batch, Message

NAME = "outbox.db"
KEPT_CORRUPT = 2
_VERSION = 1
_APPLICATION = 0x65646765
_PAGE_BYTES = 4096
_ROW_BYTES = 160
_CHECKPOINT_PAGES = 256
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_TABLES = """
CREATE TABLE batches (
    number INTEGER PRIMARY KEY AUTOINCREMENT, boot TEXT NOT NULL, sequence TEXT NOT NULL, unsure INTEGER NOT NULL,
    delivered INTEGER NOT NULL, made_at REAL, documents BLOB NOT NULL
);
CREATE TABLE dropped (boot TEXT PRIMARY KEY, sequence TEXT NOT NULL) WITHOUT ROWID;
"""

_INSERT = "INSERT INTO batches (boot, sequence, unsure, delivered, made_at, documents) VALUES (?, ?, ?, ?, ?, ?)"


class Outbox:
    """An open outbox file.

    Args:
        folder: Made if it is missing.

    Raises:
        OutboxDiskError: The disk refuses, or another run has the file.
        OutboxCorruptError: The file is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self._connection: sqlite3.Connection | None = None
        try:
            with _named(self.path):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                # Handed from the thread that opens it to the one that closes it, never shared.
                self._connection = sqlite3.connect(
                    self.path, timeout=0.5, isolation_level=None, check_same_thread=False
                )
                self._prepare(self._connection)
        except OutboxError:
            self.close()
            raise

    def index(self) -> tuple[list[Batch], dict[str, Ranges]]:
        """What lies here: batches, oldest first, without their documents, and what was dropped and not yet told."""
        with _named(self.path):
            rows = self._db.execute(
                "SELECT number, boot, sequence, length(documents), unsure, made_at, delivered FROM batches "
                "ORDER BY number"
            ).fetchall()
            dropped = self._db.execute("SELECT boot, sequence FROM dropped").fetchall()
        return (
            [
                # When it was delivered is not known any more: long enough ago for any evidence that it was lost.
                Batch(n, boot, _ranges(text), size_of(length), bool(u), at, 0.0 if delivered else None)
                for n, boot, text, length, u, at, delivered in rows
            ],
            {boot: _ranges(text) for boot, text in dropped},
        )

    def write(self, groups: Iterable[tuple[Sequence[Message], float | None]]) -> list[tuple[int, int]]:
        """Write groups of messages of one boot each, durably and in one transaction.

        Args:
            groups: Messages, and the wall-clock time of the oldest or None.

        Returns:
            (number, size in bytes) of each batch.
        """
        made = []
        with _named(self.path), self._transaction():
            for messages, made_at in groups:
                blob = pack(messages)
                sequence = merge_ranges((m.key.seq, m.key.seq) for m in messages)
                unsure = any(m.unsure for m in messages)
                delivered = all(m.delivered_s is not None for m in messages)
                row = (messages[0].key.boot, json.dumps(sequence), unsure, delivered, made_at, blob)
                cursor = self._db.execute(_INSERT, row)
                made.append((cursor.lastrowid or 0, size_of(len(blob))))
        return made

    def read(self, number: int) -> list[Message]:
        """The messages of one batch; empty if it is gone or unreadable."""
        with _named(self.path):
            row = self._db.execute("SELECT documents FROM batches WHERE number = ?", (number,)).fetchone()
        try:
            return unpack(row[0]) if row else []
        except ValueError:
            return []

    def rewrite(self, number: int, messages: Sequence[Message]) -> None:
        """Replace the documents of a batch, before any of them was sent."""
        unsure = any(m.unsure for m in messages)
        with _named(self.path), self._transaction():
            change = "UPDATE batches SET documents = ?, unsure = ? WHERE number = ?"
            self._db.execute(change, (pack(messages), unsure, number))

    def change(
        self, remove: Iterable[int], dropped: Mapping[str, Ranges] | None, delivered: Iterable[int] = ()
    ) -> None:
        """Delete batches and note what is still to be told, in one transaction.

        Args:
            remove: Numbers of batches.
            delivered: Batches that the broker has by now.
            dropped: The whole of what is to be told; None leaves it.
        """
        with _named(self.path), self._transaction():
            self._db.executemany("DELETE FROM batches WHERE number = ?", [(number,) for number in remove])
            have = [(number,) for number in delivered]
            self._db.executemany("UPDATE batches SET delivered = 1 WHERE number = ?", have)
            if dropped is not None:
                self._db.execute("DELETE FROM dropped")
                rows = [(boot, json.dumps(ranges)) for boot, ranges in dropped.items()]
                self._db.executemany("INSERT INTO dropped VALUES (?, ?)", rows)

    def shrink(self) -> None:
        """Give the room of deleted batches back to the disk."""
        with _named(self.path):
            self._db.execute("PRAGMA incremental_vacuum").fetchall()
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        """Close the file; may be called twice."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    @property
    def _db(self) -> sqlite3.Connection:
        if self._connection is None:
            raise OutboxDiskError(str(self.path), "the outbox is closed")
        return self._connection

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise

    def _prepare(self, connection: sqlite3.Connection) -> None:
        def pragma(words: str) -> object:
            row = connection.execute(f"PRAGMA {words}").fetchone()
            return row[0] if row else None

        pragma("auto_vacuum = INCREMENTAL")
        # One process alone: no shared memory file, whose pages a full tmpfs could not back.
        pragma("locking_mode = EXCLUSIVE")
        pragma("journal_mode = WAL")
        # FULL: what was committed survives a power cut; NORMAL would lose the last commits of a WAL.
        pragma("synchronous = FULL")
        pragma(f"wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        pragma(f"journal_size_limit = {_CHECKPOINT_PAGES * _PAGE_BYTES}")
        if pragma("quick_check") != "ok":
            raise OutboxCorruptError(str(self.path), "the file is damaged")
        version, tables = pragma("user_version"), pragma("schema_version")
        if tables == 0:
            connection.executescript(
                f"BEGIN IMMEDIATE; {_TABLES} PRAGMA application_id = {_APPLICATION}; "
                f"PRAGMA user_version = {_VERSION}; COMMIT;"
            )
        elif version != _VERSION or pragma("application_id") != _APPLICATION:
            raise OutboxCorruptError(str(self.path), "the file is not an outbox of this version")


def size_of(documents_bytes: int) -> int:
    """Room that a batch takes on disk, rounded up: large blobs fill whole pages.

    Args:
        documents_bytes: Length of its compressed documents.
    """
    size = documents_bytes + _ROW_BYTES
    return size if size < _PAGE_BYTES // 4 else -(-size // _PAGE_BYTES) * _PAGE_BYTES


def set_aside(path: Path, now: datetime | None = None) -> Path:
    """Move a damaged outbox out of the way; the newest two are kept for whoever wants to look.

    Raises:
        OutboxDiskError: The disk refuses.
    """
    moment = now or datetime.now(UTC)
    aside = path.with_name(f"{path.name}.corrupt-{moment:%Y%m%dT%H%M%S%f}Z")
    try:
        path.replace(aside)
        # A log of the damaged file must not be replayed into the new one.
        for ending in ("-wal", "-shm", "-journal"):
            path.with_name(path.name + ending).unlink(missing_ok=True)
        for old in sorted(path.parent.glob(f"{path.name}.corrupt-*"))[:-KEPT_CORRUPT]:
            old.unlink(missing_ok=True)
    except OSError as cause:
        raise OutboxDiskError(str(path), os.strerror(cause.errno or 0)) from cause
    return aside


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as cause:
        # Without a code it is the driver's own complaint: text that is not UTF-8, for one.
        code = getattr(cause, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
        if code in _DAMAGE:
            raise OutboxCorruptError(str(path), str(cause)) from cause
        raise OutboxDiskError(str(path), str(cause)) from cause
    except (ValueError, TypeError) as cause:
        raise OutboxCorruptError(str(path), str(cause)) from cause
    except OSError as cause:
        raise OutboxDiskError(str(path), cause.strerror or str(cause)) from cause


def _ranges(text: str) -> Ranges:
    return merge_ranges((int(low), int(high)) for low, high in json.loads(text))

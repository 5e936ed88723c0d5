"""The dashboard's own tables, beside the store's in the same database: users, alerts, silences."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, MetaData, String, Table, Text, select

from edgekit.errors import StoreSchemaError
from edgekit.fleet import database
from edgekit.fleet.store import Store

VERSION = 1
metadata = MetaData()
_KEY = BigInteger().with_variant(Integer, "sqlite")

version = Table("dashboard_version", metadata, Column("version", Integer, primary_key=True, autoincrement=False))

users = Table(
    "dashboard_users",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("role", String(16), nullable=False),
    Column("sites", Text, nullable=False),  # Comma-separated; empty is every site.
    Column("password", Text, nullable=False),  # Argon2id, in its own encoded form.
    Column("created", BigInteger, nullable=False),
    Column("disabled", Boolean, nullable=False),
)

alerts = Table(
    "dashboard_alerts",
    metadata,
    Column("id", _KEY, primary_key=True),
    Column("site", String(63), nullable=False),
    Column("device", String(63), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("severity", String(16), nullable=False),
    Column("text", Text, nullable=False),
    Column("since", BigInteger, nullable=False),
    Column("raised", BigInteger, nullable=False),
    Column("ended", BigInteger),
    Column("acknowledged_by", String(64)),
    Index("dashboard_alerts_by_end", "ended"),
    Index("dashboard_alerts_by_board", "site", "device", "raised"),
)

silences = Table(
    "dashboard_silences",
    metadata,
    Column("site", String(63), primary_key=True),
    Column("device", String(63), primary_key=True),
    Column("kind", String(32), primary_key=True),
    Column("until", BigInteger, nullable=False),
    Column("by", String(64), nullable=False),
)


def settle(store: Store) -> None:
    """Make the tables where they are missing.

    Raises:
        StoreSchemaError: They are of a later version.
        StoreUnavailableError: The database does not answer.
    """
    with store.writing() as connection:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(1164200811)")
        metadata.create_all(connection)
        found = connection.execute(select(version.c.version)).scalars().all()
        if not found:
            connection.execute(version.insert().values(version=VERSION))
        elif max(found) > VERSION:
            raise StoreSchemaError(
                database.shown(connection.engine),
                f"has dashboard tables of version {max(found)}, this version knows {VERSION}",
                "upgrade edgekit on this machine",
            )

"""Which tables a database has: made in an empty one, brought up from an earlier version, refused from a later one."""

from __future__ import annotations

from sqlalchemy import Connection, inspect, select

from edgekit.errors import MissingPackageError, StoreSchemaError
from edgekit.fleet.tables import SCHEMA_VERSION, metadata, schema_version

# Any number that no other program uses on the same database: two collectors must not make the tables at once.
_LOCK = 0x45_64_67_65_4B_69_74


def settle(connection: Connection, shown: str) -> None:
    """Make the tables what this version needs.

    Args:
        connection: A transaction that may write.
        shown: The database's name for messages.

    Raises:
        StoreSchemaError: The tables are newer than this version, or of another program.
        MissingPackageError: The tables are older, and Alembic is not installed.
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
    names = set(inspect(connection).get_table_names())
    if schema_version.name not in names:
        ours = names & set(metadata.tables)
        if ours:
            raise StoreSchemaError(shown, f"has tables of another program ({min(ours)})", "name a database of its own")
        metadata.create_all(connection)
        connection.execute(schema_version.insert().values(version=SCHEMA_VERSION))
        return
    found = connection.execute(select(schema_version.c.version)).scalars().all()
    if found == [SCHEMA_VERSION]:
        return
    if len(found) == 1 and 1 <= found[0] < SCHEMA_VERSION:
        _upgrade(connection, found[0])
        return
    newer = any(version > SCHEMA_VERSION for version in found)
    raise StoreSchemaError(
        shown,
        f"has schema {', '.join(map(str, found)) or 'none'}, this version knows {SCHEMA_VERSION}",
        "upgrade edgekit on this machine" if newer else "name another database",
    )


def _upgrade(connection: Connection, known: int) -> None:
    try:
        from edgekit.fleet.migrations import upgrade

        upgrade(connection, known)
    except ModuleNotFoundError as cause:
        raise MissingPackageError("alembic", "an older store", "pip install 'edgekit[fleet]'") from cause

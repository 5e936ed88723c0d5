"""How a database of an earlier schema becomes one of this: Alembic, one file a schema in versions/."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy import Connection


def upgrade(connection: Connection, known: int, to: int | None = None) -> None:
    """Bring the tables up, in the transaction that is open.

    The version is in the table schema_version, which was there before Alembic: each migration writes it itself.

    Args:
        connection: To a database of schema `known`.
        known: Its schema; 0 for an empty database.
        to: Which schema; the newest if None.
    """
    from alembic.operations import Operations
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory(str(Path(__file__).parent))
    steps: list[Any] = list(scripts.iterate_revisions(str(to) if to else "head", str(known) if known else "base"))
    with Operations.context(MigrationContext.configure(connection)):
        for step in reversed(steps):
            step.module.upgrade()

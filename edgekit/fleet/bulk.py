"""Statements that run for thousands of rows a second: compiled once, fed with plain tuples.

SQLAlchemy compiles a statement once too, but builds a dictionary and a list for each row of it: more work than the
database has with the row.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Connection,
    Insert,
    Integer,
    bindparam,
    cast,
    column,
    func,
    literal_column,
    select,
)
from sqlalchemy.engine import Dialect


class Bulk:
    """One statement for many rows.

    Args:
        statement: An INSERT, UPDATE or DELETE.
        columns: What a row holds, in order: the names of the statement's parameters.
        dialect: Of the database.
    """

    def __init__(self, statement: Any, columns: Sequence[str], dialect: Dialect) -> None:
        self._columns, self._arrays = tuple(columns), False
        if isinstance(statement, Insert) and dialect.name != "sqlite":
            # A server is asked once for all rows; row by row, each asking and answer costs more than storing it.
            kinds = [statement.table.c[name].type for name in columns]
            arrays = [bindparam(name, type_=ARRAY(kind)) for name, kind in zip(columns, kinds, strict=True)]
            row = func.unnest(*arrays).table_valued(*map(column, columns)).render_derived("listed")
            statement = statement.from_select(list(columns), select(*row.c))
            self._arrays = True
        compiled = statement.compile(dialect=dialect, column_keys=None if self._arrays else list(columns))
        self._text = str(compiled)
        order = compiled.positiontup
        places = None if order is None else [self._columns.index(name) for name in order]
        self._named = places is None
        self._pick = None if places is None or places == list(range(len(columns))) else itemgetter(*places)

    def run(self, connection: Connection, rows: Sequence[Sequence[Any]]) -> None:
        """Run it for each row; for none, do nothing. No two rows of an INSERT may have one key."""
        if not rows:
            return
        values: Any
        if self._arrays:
            values = dict(zip(self._columns, map(list, zip(*rows, strict=True)), strict=True))
        elif self._named:
            values = [dict(zip(self._columns, row, strict=True)) for row in rows]
        else:
            values = list(rows) if self._pick is None else [self._pick(row) for row in rows]
        connection.exec_driver_sql(self._text, values)


def listed(names: Sequence[str], dialect: Dialect) -> Any:
    """A table of whole numbers that comes as parameters, however many rows it has: one text, prepared once.

    Args:
        names: Its columns.
        dialect: Of the database.
    """
    if dialect.name == "sqlite":
        each = func.json_each(bindparam("rows")).table_valued("value").alias("each_row")
        picked = [
            cast(func.json_extract(each.c.value, literal_column(f"'$[{place}]'")), Integer).label(name)
            for place, name in enumerate(names)
        ]
        return select(*picked).select_from(each).cte("listed")
    arrays = [bindparam(name, type_=ARRAY(BigInteger)) for name in names]
    return func.unnest(*arrays).table_valued(*(column(name, BigInteger) for name in names)).render_derived("listed")


def listing(names: Sequence[str], rows: Sequence[Sequence[int]], dialect: Dialect) -> dict[str, Any]:
    """The parameters of `listed` for these rows."""
    if dialect.name == "sqlite":
        return {"rows": "[" + ",".join([f"[{','.join(map(str, row))}]" for row in rows]) + "]"}
    return dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))

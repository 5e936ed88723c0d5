"""Pieces of HTML for a report: whatever comes from a file goes through `text` and can be nothing but text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape

# Characters that XML forbids, and those that turn the direction of what follows.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")

_SPACE, _MINUS = "\u00a0", "\u2212"


def text(value: object) -> str:
    """Anything as text of a page: markup escaped, control characters shown as a box."""
    return escape(_FORBIDDEN.sub("\ufffd", str(value)), quote=True)


def number(value: float | None, digits: int = 1, unit: str = "") -> str:
    """A figure with its unit; a dash where there is none."""
    if value is None:
        return "–"
    return f"{value:,.{digits}f}{_SPACE + unit if unit else ''}".replace("-", _MINUS)


def percent(share: float | None, digits: int = 1) -> str:
    """A share as 98.6 %, or a dash."""
    return number(None if share is None else 100 * share, digits, "%")


def megabytes(size: float) -> str:
    """Bytes as MB (10^6), kB below one."""
    return number(size / 1e6, 2, "MB") if size >= 1e6 else number(size / 1e3, 1, "kB")


def tile(name: str, figure: str, note: str = "", mood: str = "") -> str:
    """One figure that is to be seen first, its unit smaller; arguments are markup."""
    value, _, unit = figure.partition(_SPACE)
    small = f"<i>{_SPACE}{unit}</i>" if unit else ""
    return f'<div class="tile {mood or "plain"}"><dt>{name}</dt><dd>{value}{small}<small>{note}</small></dd></div>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[int] = (), long: int = -1) -> str:
    """A table that becomes one block a row on a phone.

    Args:
        head: Names of the columns, text.
        rows: Cells, markup.
        right: Columns of figures.
        long: The column that needs a line of its own on a phone.
    """
    figures = set(right)
    names = [text(name) for name in head]

    def cell(tag: str, at: int, inside: str, key: str = "") -> str:
        style = ' class="n"' if at in figures else ' class="long"' if at == long else ""
        named = f' data-k="{key}"' if key else ""
        return f"<{tag}{style}{named}>{inside}</{tag}>"

    top = "".join(cell("th", at, name) for at, name in enumerate(names))
    body = "".join(
        "<tr>" + "".join(cell("td", at, inside, names[at]) for at, inside in enumerate(row)) + "</tr>" for row in rows
    )
    return f'<table class="rows"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>'


def section(key: str, title: str, lead: str, body: str) -> str:
    """One part of the page; `lead` and `body` are markup."""
    intro = f'<p class="lead">{lead}</p>' if lead else ""
    return f'<section id="{key}"><h2>{text(title)}</h2>{intro}{body}</section>'


def absent(command: str) -> str:
    """What stands where nothing was measured."""
    steps = "".join(f"<code>{text(step.strip())}</code>" for step in command.split(";"))
    return f'<div class="absent"><p>Not known yet. This provides it:</p>{steps}</div>'

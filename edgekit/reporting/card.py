"""A model card's Markdown as HTML: headings, paragraphs, lists, tables, code and bold. Links stay text."""

from __future__ import annotations

import re

from edgekit.reporting.markup import text

_RULE = re.compile(r"^\|?[\s:|-]+\|?$")
_CODE = re.compile(r"`([^`]+)`")
_BOLD = re.compile(r"\*\*([^*]+)\*\*")
_LINK = re.compile(r"\[([^\]]+)\]\([^)]*\)")
# The page has headings of its own above the card's.
_DEEPER = 2
_DEEPEST = 6


def markdown_html(source: str) -> str:
    """Render a card. Markup in it is shown, not obeyed.

    Args:
        source: Markdown of any origin.
    """
    blocks, lines = [], source.splitlines()
    at = 0
    while at < len(lines):
        line = lines[at].strip()
        if not line:
            at += 1
        elif line.startswith("#"):
            blocks.append(_heading(line))
            at += 1
        elif line.startswith("```"):
            end = next((i for i in range(at + 1, len(lines)) if lines[i].strip().startswith("```")), len(lines))
            blocks.append(f"<pre>{text(chr(10).join(lines[at + 1 : end]))}</pre>")
            at = end + 1
        else:
            kind = _kind(line)
            end = at + 1
            while end < len(lines) and lines[end].strip() and _continues(kind, lines[end]):
                end += 1
            blocks.append(_block(kind, [found.strip() for found in lines[at:end]]))
            at = end
    return "".join(blocks)


def _kind(line: str) -> str:
    return "table" if line.startswith("|") else "list" if line.startswith(("- ", "* ")) else "text"


def _continues(kind: str, line: str) -> bool:
    line = line.strip()
    if line.startswith(("#", "```")):
        return False
    return _kind(line) in ((kind, "text") if kind == "list" else (kind,))


def _heading(line: str) -> str:
    depth = min(_DEEPEST, len(line) - len(line.lstrip("#")) + _DEEPER)
    return f"<h{depth}>{_inline(line.lstrip('#').strip())}</h{depth}>"


def _block(kind: str, lines: list[str]) -> str:
    if kind == "list":
        items: list[str] = []
        for line in lines:
            if line.startswith(("- ", "* ")):
                items.append(line[2:])
            else:
                items[-1] += f" {line}"
        return "<ul>" + "".join(f"<li>{_inline(item)}</li>" for item in items) + "</ul>"
    if kind == "table":
        rows = [
            [_inline(cell.strip()) for cell in line.strip("|").split("|")] for line in lines if not _RULE.match(line)
        ]
        cells = ("".join(f"<td>{cell}</td>" for cell in row) for row in rows if any(row))
        return '<table class="card"><tbody>' + "".join(f"<tr>{row}</tr>" for row in cells) + "</tbody></table>"
    return f"<p>{_inline(' '.join(lines))}</p>"


def _inline(source: str) -> str:
    found = _LINK.sub(r"\1", source)
    parts = _CODE.split(found)
    # Every second part stood between backticks.
    return "".join(
        f"<code>{text(part)}</code>" if at % 2 else _BOLD.sub(r"<strong>\1</strong>", text(part))
        for at, part in enumerate(parts)
    )

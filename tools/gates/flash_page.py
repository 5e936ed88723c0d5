"""docs/results/flash.md: a page of sections, each written by the tool that measured it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from tools.results import RESULTS

PAGE = RESULTS / "flash.md"


def put_section(heading: str, lines: Sequence[str]) -> None:
    """Write one section with today's date; the others stay as they are.

    Args:
        heading: ``## Words``; a section that has it already is replaced where it stands.
        lines: What comes below.
    """
    text = PAGE.read_text("utf-8") if PAGE.exists() else "# Flash: what was measured\n"
    section = "\n".join([heading, "", f"Measured {datetime.now(UTC):%Y-%m-%d}.", "", *lines]).rstrip() + "\n"
    before, found, rest = text.partition(heading + "\n")
    after = rest.partition("\n## ")[2]
    text = before.rstrip() + "\n\n" + section + (f"\n## {after.rstrip()}\n" if found and after else "")
    PAGE.write_text(text, "utf-8")

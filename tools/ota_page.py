"""docs/results/ota.md: a section for each gate and bench of updates over the air, written by the one that measured."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from tools.results import RESULTS, commit, machine

PAGE = RESULTS / "ota.md"
_HEAD = "# Updates over the air: what was measured\n"


def write_section(title: str, text: str) -> None:
    """Put a section into the page in the place of the one that has its title.

    Args:
        title: Of the section.
        text: Markdown without a heading.
    """
    page = PAGE.read_text("utf-8") if PAGE.exists() else _HEAD
    made = f"## {title}\n\nAt {commit()}, {datetime.now(UTC):%Y-%m-%d}, {machine()}.\n\n{text.strip()}\n"
    sections = re.split(r"(?m)^(?=## )", page)
    place = next((n for n, found in enumerate(sections) if found.startswith(f"## {title}\n")), None)
    if place is None:
        sections = [*(found.rstrip("\n") + "\n\n" for found in sections), made]
    else:
        sections[place] = made + ("\n" if place < len(sections) - 1 else "")
    PAGE.write_text("".join(sections).rstrip("\n") + "\n", "utf-8")

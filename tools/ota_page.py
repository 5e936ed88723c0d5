"""docs/results/ota.md: a section for each gate and bench of updates over the air, written by the one that measured.

python -m tools.ota_page      # sections of gates that leave only their record, from gates.json
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

from tools.results import RESULTS, commit, machine

PAGE = RESULTS / "ota.md"
_HEAD = "# Updates over the air: what was measured\n"
RECORDED = {
    "A9": "A rollout that is bad everywhere (gate A9)",
    "A1-RUNTIME": "Faults at every system call of a runtime release (gate A1-RUNTIME)",
    "A8-RUNTIME": "Bad runtimes (gate A8-RUNTIME)",
}


def write_section(title: str, text: str, at: str | None = None) -> None:
    """Put a section into the page in the place of the one that has its title.

    Args:
        title: Of the section.
        text: Markdown without a heading.
        at: Commit and day that were measured; now by default.
    """
    page = PAGE.read_text("utf-8") if PAGE.exists() else _HEAD
    at = at or f"{commit()}, {datetime.now(UTC):%Y-%m-%d}"
    body = text.strip("\n")
    made = f"## {title}\n\nAt {at}, {machine()}.\n\n{body}\n"
    sections = re.split(r"(?m)^(?=## )", page)
    place = next((n for n, found in enumerate(sections) if found.startswith(f"## {title}\n")), None)
    if place is None:
        sections = [*(found.rstrip("\n") + "\n\n" for found in sections), made]
    else:
        sections[place] = made + ("\n" if place < len(sections) - 1 else "")
    PAGE.write_text("".join(sections).rstrip("\n") + "\n", "utf-8")


def write_recorded(name: str, record: dict[str, Any]) -> None:
    """The section of a gate, from its record.

    Args:
        name: One of `RECORDED`.
        record: As `tools/run_gates.py` keeps it.
    """
    lines = [f"    make gates ONLY={name}", "", f"{record['figure']}."]
    if isinstance(record["detail"], str):
        lines += ["", record["detail"]]
    write_section(RECORDED[name], "\n".join(lines), f"{record['commit']}, {record['date']}")


if __name__ == "__main__":
    for name, record in json.loads((RESULTS / "gates.json").read_text("utf-8")).items():
        if name in RECORDED:
            write_recorded(name, record)

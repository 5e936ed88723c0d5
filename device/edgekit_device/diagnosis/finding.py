"""One thing that was looked at, and how it stands."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass

OK, WARN, FAIL, UNKNOWN = "ok", "warn", "fail", "unknown"
STATES = (OK, WARN, FAIL, UNKNOWN)
_WIDTH = 79
_INDENT = 21


@dataclass(frozen=True)
class Finding:
    """How one thing stands.

    Attributes:
        check: What was looked at: one word, for scripts.
        state: One of STATES: `warn` works but not as well or as surely as it could, `fail` keeps the board from its
            work, `unknown` could not be looked at.
        detail: What was found.
        remedy: The command that mends it; None where nothing is to be mended.
    """

    check: str
    state: str
    detail: str
    remedy: str | None = None

    def to_json(self) -> dict[str, str | None]:
        """The finding as it stands in ``--json``."""
        return asdict(self)


def table(findings: Sequence[Finding]) -> str:
    """The findings for a person, at most 79 columns but for a remedy, which is never broken: it is to be copied."""
    lines = []
    for finding in findings:
        mark = finding.state if finding.state == OK else finding.state.upper()
        head = f"{mark:<8}{finding.check:<13}"
        lines += textwrap.wrap(
            finding.detail, _WIDTH, initial_indent=head, subsequent_indent=" " * _INDENT, break_on_hyphens=False
        ) or [head]
        if finding.remedy:
            lines.append(f"{'':<8}-> {finding.remedy}")
    return "\n".join(lines)


def summary(findings: Sequence[Finding]) -> str:
    """The last line: how many of each."""
    counts = {state: sum(f.state == state for f in findings) for state in STATES}
    named = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
    return f"{len(findings)} checks: {named}"

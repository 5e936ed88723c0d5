"""The last lines that this supervisor said, kept for whoever asks; the system's own journal is never read."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable

from edgekit_device.contract.asking import MAX_LINE, MAX_LINES, Line
from edgekit_device.contract.clock import utc_text
from edgekit_device.redaction import redact

# JSON may take six bytes a character; what is older is left out of an answer.
_MOST_BYTES = 96 << 10


class LogRing:
    """Says a line and remembers it; called from any thread.

    Args:
        say: Where lines go.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._lines: collections.deque[Line] = collections.deque(maxlen=MAX_LINES)

    def __call__(self, text: str) -> None:
        """Say one line."""
        self._lines.append(Line(utc_text(), text[: 4 * MAX_LINE]))
        self._say(text)

    def last(self, known: Iterable[str] = ()) -> tuple[Line, ...]:
        """The newest lines that fit into an answer, oldest first, without secrets.

        Args:
            known: Secrets that this process knows.
        """
        secrets, found, room = tuple(known), [], _MOST_BYTES
        for at, text in reversed(tuple(self._lines)):
            clean = "".join(c if c.isprintable() else " " for c in redact(text, secrets))[:MAX_LINE]
            room -= len(clean.encode()) + len(at) + 8
            if room < 0:
                break
            found.append(Line(at, clean))
        return tuple(reversed(found))

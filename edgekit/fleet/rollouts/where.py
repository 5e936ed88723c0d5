"""Which boards are meant: ``kind=pi5 and (site=berlin or site=ham*) and not release=lite0-1.0.0``. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import TypeAlias

from edgekit.errors import near_miss
from edgekit.fleet.rollouts.errors import WhereError

# What a board can be chosen by.
FIELDS = ("site", "device", "kind", "release", "delegate", "state")
_TOKEN = re.compile(r"\s*(?:(\(|\)|!=|=)|([^\s()=!]+))")
_MOST_CHARACTERS, _MOST_DEPTH = 1000, 20

Facts: TypeAlias = Mapping[str, str | None]
Choice: TypeAlias = Callable[[Facts], bool]


def parse_where(text: str) -> Choice:
    """Read an expression; the empty one means every board.

    Args:
        text: ``FIELD=VALUE`` or ``FIELD!=VALUE``, joined by ``and``, ``or``, ``not`` and parentheses; ``*`` in a value
            stands for anything. What a board never said equals no value.

    Returns:
        A function of a board's facts, by the names in FIELDS.

    Raises:
        WhereError: It cannot be read, or names an unknown field.
    """
    if not text.strip():
        return lambda facts: True
    if len(text) > _MOST_CHARACTERS:
        raise WhereError(text, f"is longer than {_MOST_CHARACTERS} characters")
    reader = _Reader(text)
    found = reader.either(0)
    if reader.next:
        raise WhereError(text, f"{reader.next!r} is left over")
    return found


class _Reader:
    """Recursive descent: ``or`` binds least, then ``and``, then ``not``."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens: list[str] = []
        place = 0
        while text[place:].strip():
            match = _TOKEN.match(text, place)
            if match is None:
                raise WhereError(text, f"{text[place:].strip()[:20]!r} means nothing here")
            self._tokens.append(match[1] or match[2])
            place = match.end()

    @property
    def next(self) -> str:
        return self._tokens[0] if self._tokens else ""

    def either(self, depth: int) -> Choice:
        if depth > _MOST_DEPTH:
            raise WhereError(self._text, f"has more than {_MOST_DEPTH} parentheses in one another")
        parts = [self._both(depth)]
        while self._takes("or"):
            parts.append(self._both(depth))
        return lambda facts: any(part(facts) for part in parts)

    def _both(self, depth: int) -> Choice:
        parts = [self._one(depth)]
        while self._takes("and"):
            parts.append(self._one(depth))
        return lambda facts: all(part(facts) for part in parts)

    def _one(self, depth: int) -> Choice:
        denied = False
        while self._takes("not"):
            denied = not denied
        if self._takes("("):
            inside = self.either(depth + 1)
            if not self._takes(")"):
                raise WhereError(self._text, "a parenthesis is not closed")
        else:
            inside = self._comparison()
        return (lambda facts: not inside(facts)) if denied else inside

    def _comparison(self) -> Choice:
        name = self._word("a field")
        if name not in FIELDS:
            raise WhereError(
                self._text, f"{name[:30]!r} is no field{near_miss(name, FIELDS)} (known: {', '.join(FIELDS)})"
            )
        sign = self.next
        if not (self._takes("=") or self._takes("!=")):
            raise WhereError(self._text, f"after {name} comes = or !=")
        value = self._word(f"a value for {name}")
        equal = sign == "="

        def matches(facts: Facts) -> bool:
            said = facts.get(name)
            return (said is not None and fnmatchcase(said, value)) is equal

        return matches

    def _word(self, what: str) -> str:
        if not self._tokens or self.next in ("(", ")", "=", "!="):
            raise WhereError(self._text, f"{what} is missing")
        return self._tokens.pop(0)

    def _takes(self, token: str) -> bool:
        if self.next == token:
            self._tokens.pop(0)
            return True
        return False

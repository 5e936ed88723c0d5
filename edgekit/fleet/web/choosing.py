"""Which boards the wall shows, in which order: pure functions of a picture, the findings and what was asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple
from urllib.parse import urlencode

from edgekit.fleet.alerts_judging import CRITICAL, SEVERITIES, Finding
from edgekit.fleet.batch import BoardKey
from edgekit.fleet.web.board_now import BoardNow
from edgekit.fleet.web.wall import Picture

PER_PAGE = 60
GROUPS = ("none", "site", "release")
STANDINGS = ("needs", "online", "offline", "stopped")


@dataclass(frozen=True)
class Asked:
    """What the wall is asked for, as it stands in the URL.

    Attributes:
        words: Every one must stand in site, device, label, rung, release or trouble.
        show: One of STANDINGS, or empty for all.
        group: One of GROUPS.
        page: From 1.
    """

    words: str = ""
    show: str = ""
    group: str = "none"
    site: str = ""
    release: str = ""
    page: int = 1

    def url(self, path: str = "/", **changed: str | int) -> str:
        """The same wall with something changed, as a URL; what is as usual stands not in it."""
        other = replace(self, page=1)
        other = replace(other, **changed)  # type: ignore[arg-type]
        usual = Asked()
        names = {"words": "q"}
        pairs = {names.get(name, name): value for name, value in vars(other).items() if value != getattr(usual, name)}
        return f"{path}?{urlencode(pairs)}" if pairs else path


class Card(NamedTuple):
    """One board on the wall."""

    board: BoardNow
    standing: str
    findings: tuple[Finding, ...]

    @property
    def severity(self) -> str:
        """``critical``, ``warning``, ``notice``, or ``fine``; ``quiet`` for a board that was stopped or never spoke."""
        if self.findings:
            return self.findings[0].severity
        return "fine" if self.standing == "online" else "quiet"


class Group(NamedTuple):
    """Boards below one heading.

    Attributes:
        total: Boards of the group, on all pages.
        needing: Of these, how many need somebody.
    """

    name: str
    cards: tuple[Card, ...]
    total: int
    needing: int


class Shown(NamedTuple):
    """A page of the wall.

    Attributes:
        counts: Boards by standing, and ``needs``, ``all``, over everything this person may see.
        found: Boards that fit what was asked for.
        pages: How many pages they fill.
    """

    groups: tuple[Group, ...]
    counts: Mapping[str, int]
    found: int
    page: int
    pages: int
    sites: tuple[str, ...]
    releases: tuple[str, ...]


def choose(
    picture: Picture,
    findings: Mapping[BoardKey, tuple[Finding, ...]],
    asked: Asked,
    may_see: Callable[[str], bool],
) -> Shown:
    """What is wrong first, then by name.

    Args:
        picture: The fleet.
        findings: What is wrong now.
        asked: Filter, group, page.
        may_see: Whether boards of a site are shown to whoever asks.
    """
    cards = [
        Card(board, board.standing(picture.now_ms), findings.get(key, ()))
        for key, board in picture.boards.items()
        if may_see(key.site)
    ]
    counts = Counter(_class(card) for card in cards)
    counts["all"], counts["needs"] = len(cards), sum(bool(card.findings) for card in cards)
    words = asked.words.lower().split()
    fitting = [card for card in cards if _fits(card, asked, words)]
    name_of = _group_name(asked.group)
    # A group with trouble comes before one without; inside it, what is worst.
    needing = Counter(name_of(card) for card in fitting if card.findings)
    fitting.sort(key=lambda card: (_worst_first(needing, name_of(card)), name_of(card), *_rank(card)))
    totals = Counter(name_of(card) for card in fitting)
    pages = max(1, -(-len(fitting) // PER_PAGE))
    page = min(max(1, asked.page), pages)
    groups = _grouped(fitting[(page - 1) * PER_PAGE : page * PER_PAGE], name_of, totals, needing)
    return Shown(
        groups=tuple(groups),
        counts=counts,
        found=len(fitting),
        page=page,
        pages=pages,
        sites=tuple(sorted({card.board.site for card in cards})[:200]),
        releases=tuple(sorted({card.board.release for card in cards if card.board.release})[:200]),
    )


def _class(card: Card) -> str:
    return "offline" if card.standing == "silent" else card.standing


def _fits(card: Card, asked: Asked, words: Sequence[str]) -> bool:
    if asked.show == "needs" and not card.findings:
        return False
    if asked.show in STANDINGS[1:] and _class(card) != asked.show:
        return False
    if (asked.site and card.board.site != asked.site) or (asked.release and card.board.release != asked.release):
        return False
    if not words:
        return True
    board = card.board
    text = " ".join(
        [board.site, board.device, board.label or "", board.delegate or "", board.release or "", card.standing]
        + [f"{finding.kind} {finding.text}" for finding in card.findings]
    ).lower()
    return all(word in text for word in words)


def _rank(card: Card) -> tuple[int, int, str, str]:
    # Offline boards cannot be helped from here; a board that is there and sees nothing can.
    order = {CRITICAL: 0, **{name: n for n, name in enumerate(SEVERITIES)}, "quiet": 3, "fine": 4}[card.severity]
    return order, 0 if card.standing == "online" else 1, card.board.site, card.board.device


def _group_name(group: str) -> Callable[[Card], str]:
    if group == "site":
        return lambda card: card.board.site
    if group == "release":
        return lambda card: card.board.release or "unknown release"
    return lambda card: ""


def _worst_first(needing: Mapping[str, int], name: str) -> int:
    return 0 if needing.get(name) else 1


def _grouped(
    cards: Iterable[Card], name_of: Callable[[Card], str], totals: Mapping[str, int], needing: Mapping[str, int]
) -> list[Group]:
    groups: dict[str, list[Card]] = {}
    for card in cards:
        groups.setdefault(name_of(card), []).append(card)
    return [Group(name, tuple(some), totals[name], needing.get(name, 0)) for name, some in groups.items()]

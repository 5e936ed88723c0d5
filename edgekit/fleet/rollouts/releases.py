"""What runs where, how each release does by kind of board, and what is worse than the release before, in sentences."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

from edgekit.fleet.rollouts import records
from edgekit.fleet.rollouts.figures import LEAST_FRAMES, SLACK_MS, Figures, distance
from edgekit.fleet.rollouts.looking import Look, Standing, past
from edgekit.fleet.rollouts.state import NEW

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from edgekit.fleet.store import Store

# Figures are of so many boards of a release and kind at most; counts are of all.
SAMPLE = 100
# A sentence is worth less than a gate: it is said from here on.
_SLOWER, _LATER, _OTHER, _LESS_SURE = 0.95, 1.10, 0.25, 0.08
_ROLLOUTS = 20


class Before(NamedTuple):
    """The same boards with the release they had before, from the rollout that changed it."""

    release: str
    boards: int
    old: Figures
    new: Figures


@dataclass(frozen=True)
class Row:
    """One release on one kind of board.

    Attributes:
        kind: Of hardware; empty where boards do not say.
        boards: How many run it.
        online: Of these.
        figures: How it does, over the last day's newest Readings.
        measured: Boards that these are of.
        before: Compared with, where a rollout brought it.
        sentences: What is worse than before; empty if nothing is.
    """

    release: str
    kind: str
    boards: int
    online: int
    figures: Figures
    measured: int
    before: Before | None
    sentences: tuple[str, ...]

    def labels(self, most: int = 3) -> list[tuple[str, float]]:
        """The most seen classes, by index, with their share."""
        total = sum(self.figures.mix.values())
        top = sorted(self.figures.mix.items(), key=lambda item: -item[1])[:most]
        return [(name, count / total) for name, count in top] if total else []


def rows(store: Store, now_ms: int, may_see: Callable[[str], bool] = lambda site: True) -> list[Row]:
    """Every release that runs, the most spread first.

    Args:
        store: Whose boards.
        now_ms: The host's clock.
        may_see: Whether boards of a site count.
    """
    with store.reading() as connection:
        standing = {n: b for n, b in Look().boards(connection).items() if b.release and may_see(b.board.site)}
        groups: dict[tuple[str, str], list[int]] = defaultdict(list)
        for number, board in standing.items():
            groups[board.release or "", board.kind or ""].append(number)
        baselines = _baselines(connection, standing)
        found = []
        for (release, kind), numbers in groups.items():
            # Those with a past first: without one there is nothing to compare with.
            some = sorted(numbers, key=lambda n: (n not in baselines, standing[n].state != "online", n))[:SAMPLE]
            measured = {n: past(connection, n, release, now_ms) for n in some}
            measured = {n: figures for n, figures in measured.items() if figures.readings}
            found.append(_row(release, kind, [standing[n] for n in numbers], measured, baselines))
    return sorted(found, key=lambda row: (-row.boards, row.release, row.kind))


def merged(some: Iterable[Figures]) -> Figures:
    """Figures of several boards as one; each board counts alike, whatever it sent."""
    each = [figures for figures in some if figures.readings]
    mix: dict[str, int] = {}
    margins = [0] * 16
    for figures in each:
        for name, count in figures.mix.items():
            mix[name] = mix.get(name, 0) + count
        for place, count in enumerate(figures.margins):
            margins[place] += count
    return Figures(
        sum(figures.readings for figures in each),
        _mean(figures.fps for figures in each),
        _mean(figures.p95_ms for figures in each),
        _mean(figures.temp_c for figures in each),
        mix,
        tuple(margins) if any(margins) else (),
    )


def sentences(release: str, kind: str, before: Before) -> tuple[str, ...]:
    """What is worse than before on the same boards."""
    old, new = before.old, before.new
    where = f"on {before.boards} board{'s' if before.boards != 1 else ''}{f' of kind {kind}' if kind else ''}"
    said = []
    slow = []
    if old.fps and new.fps is not None and new.fps < _SLOWER * old.fps:
        slow.append(f"{new.fps:.1f} FPS instead of {old.fps:.1f}")
    if old.p95_ms and new.p95_ms and new.p95_ms > _LATER * old.p95_ms and new.p95_ms - old.p95_ms > SLACK_MS:
        slow.append(f"p95 {new.p95_ms:.1f} ms instead of {old.p95_ms:.1f}")
    if slow:
        said.append(f"{release} is slower than {before.release} {where}: {', '.join(slow)}.")
    if min(sum(old.mix.values()), sum(new.mix.values())) >= LEAST_FRAMES:
        apart = distance(old.mix, new.mix)
        if apart > _OTHER:
            share = f"{100 * apart:.0f} % of the frames get another label"
            said.append(f"{release} sees something else than {before.release} {where}: {share}.")
    if old.margin is not None and new.margin is not None and old.margin - new.margin > _LESS_SURE:
        fell = f"the mean margin fell from {old.margin:.2f} to {new.margin:.2f}"
        said.append(f"{release} is less sure than {before.release} {where}: {fell}.")
    return tuple(said)


def _row(
    release: str,
    kind: str,
    boards: Sequence[Standing],
    measured: Mapping[int, Figures],
    baselines: Mapping[int, tuple[str, str, Figures]],
) -> Row:
    same = {n: baselines[n] for n in measured if n in baselines and baselines[n][0] == release}
    before = None
    if same:
        earlier = max({b[1] for b in same.values()}, key=lambda name: sum(b[1] == name for b in same.values()))
        numbers = [n for n, b in same.items() if b[1] == earlier]
        before = Before(
            earlier, len(numbers), merged(same[n][2] for n in numbers), merged(measured[n] for n in numbers)
        )
    return Row(
        release,
        kind,
        len(boards),
        sum(board.state == "online" for board in boards),
        merged(measured.values()),
        len(measured),
        before,
        sentences(release, kind, before) if before else (),
    )


def _baselines(connection: Connection, standing: Mapping[int, Standing]) -> dict[int, tuple[str, str, Figures]]:
    """(release, the one before, how that did) of boards whose release came by a rollout; the newest counts."""
    found: dict[int, tuple[str, str, Figures]] = {}
    for rollout in records.read_rollouts(connection, limit=_ROLLOUTS):
        for member in records.read_members(connection, rollout.number):
            board = standing.get(member.number)
            ours = member.wish == NEW and member.baseline is not None and member.before is not None
            if ours and board is not None and board.release == rollout.bundle and member.number not in found:
                assert member.baseline is not None
                assert member.before is not None
                if member.baseline.readings:
                    found[member.number] = (rollout.bundle, member.before, member.baseline)
    return found


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None

"""What was asked for: waves, tolerances, gates, the maintenance window. Pure values, kept as one JSON document."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from edgekit.errors import UsageError
from edgekit_device.contract.desired import MAX_JITTER_S, MIN_BYTES_PER_S, Desired
from edgekit_device.contract.errors import ContractError

WAVES = ("1", "10%", "50%", "100%")
_SHARE = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,3})?)%", re.ASCII)
_COUNT = re.compile(r"[0-9]{1,7}", re.ASCII)
_MOST_WAVES = 20


@dataclass(frozen=True)
class Limits:
    """When a board does worse with the new release than it did with the old one; None asks nothing.

    Attributes:
        fps: Least share of the old release's FPS on the same board.
        p95: Most times its latency p95, end to end.
        mix: Most share of frames that get another label: total variation distance of the two label mixes.
        margin: Most by which the mean top-2 margin may fall; margins are 0 to 1.
    """

    fps: float | None = 0.8
    p95: float | None = 1.5
    mix: float | None = 0.5
    margin: float | None = 0.15


@dataclass(frozen=True)
class Plan:
    """How a release goes out.

    Attributes:
        waves: Cumulative; a count or a share of the boards that were chosen.
        max_failures: The rollout stops by itself above that: a count, or a share of the boards it has touched.
        where: Which boards; empty for all.
        min_reports: A wave is over only after so many of its boards reported how they do; the wave's size if smaller.
        readings: So many Readings of the new release are judged per board.
        board_timeout_s: A board that has not got so far by then has failed; only time inside the window counts.
        window: Boards are told, download and try only between these times of day, UTC.
        max_bytes_per_s: A board downloads no faster.
        jitter_s: A board begins at a random moment within so many seconds.
        force: Boards try again what they rejected before.
        limits: Against the old release.
    """

    waves: tuple[str, ...] = WAVES
    max_failures: str = "20%"
    where: str = ""
    min_reports: int = 1
    readings: int = 3
    board_timeout_s: float = 1800.0
    window: tuple[str, str] | None = None
    max_bytes_per_s: int | None = None
    jitter_s: float = 0.0
    force: bool = False
    limits: Limits = field(default_factory=Limits)

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Plan:
        """Read what `to_json` wrote; what a later version added is left out."""
        known = {f.name for f in fields(cls)}
        found = {key: value for key, value in values.items() if key in known}
        found["limits"] = Limits(**{f.name: values["limits"].get(f.name) for f in fields(Limits)})
        found["waves"] = tuple(values["waves"])
        found["window"] = tuple(values["window"]) if values.get("window") else None
        return cls(**found)


def check_plan(plan: Plan) -> Plan:
    """Return a plan that can be followed.

    Raises:
        UsageError: A value is out of range.
    """
    if not 1 <= len(plan.waves) <= _MOST_WAVES:
        raise UsageError(f"--waves takes 1 to {_MOST_WAVES} waves, e.g. {','.join(WAVES)}")
    for wave in plan.waves:
        _amount("--waves", wave, least=1e-9)
    _amount("--max-failures", plan.max_failures, least=0)
    if plan.min_reports < 1 or plan.readings < 1:
        raise UsageError("--min-reports and --readings take 1 or more")
    if not 1 <= plan.board_timeout_s <= 30 * 86_400:
        raise UsageError("--board-timeout takes 1 to 2592000 seconds")
    if not 0 <= plan.jitter_s <= MAX_JITTER_S:
        raise UsageError(f"--jitter takes 0 to {MAX_JITTER_S:.0f} seconds")
    if plan.max_bytes_per_s is not None and plan.max_bytes_per_s < MIN_BYTES_PER_S:
        raise UsageError(f"--max-rate takes {MIN_BYTES_PER_S} bytes per second or more")
    try:
        Desired.from_bytes(Desired(window=plan.window).to_bytes())
    except ContractError as cause:
        raise UsageError(f"--window takes two times of day, UTC, such as 02:00-04:30 ({cause})") from cause
    return plan


def parse_waves(text: str) -> tuple[str, ...]:
    """``1,10%,50%,100%`` as a tuple."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def parse_window(text: str | None) -> tuple[str, str] | None:
    """``02:00-04:30`` as a pair."""
    if not text:
        return None
    begin, _, end = text.partition("-")
    return begin.strip(), end.strip()


def parse_limits(text: str) -> Limits:
    """Read ``fps=0.9,mix=off``; what is not named is as usual.

    Raises:
        UsageError: No such gate, or no number above 0.
    """
    found, known = Limits(), [f.name for f in fields(Limits)]
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = part.partition("=")
        if name not in known:
            raise UsageError(f"--gates {part[:60]!r}: no such gate; known: {', '.join(known)}")
        try:
            number = None if value == "off" else float(value)
        except ValueError:
            number = -1.0
        if number is not None and not 0 < number < 1e6:
            raise UsageError(f"--gates {part[:60]!r}: {name} takes a number above 0, or off")
        found = replace(found, **{name: number})
    return found


def wave_sizes(waves: Sequence[str], boards: int) -> tuple[int, ...]:
    """How many boards may have been touched by the end of each wave: rounded down, at least one, never fewer.

    Args:
        waves: As in a plan.
        boards: How many were chosen.
    """
    sizes: list[int] = []
    for wave in waves:
        share = _SHARE.fullmatch(wave)
        # In thousandths, so that 29 % of 100 is 29 and not the 28 of 28.999999999999996.
        size = boards * round(float(share[1]) * 1000) // 100_000 if share else int(wave)
        sizes.append(max(min(max(size, 1), boards), sizes[-1] if sizes else 0))
    return tuple(sizes)


def too_many(max_failures: str, failed: int, touched: int) -> bool:
    """Whether so many failures stop a rollout.

    Args:
        max_failures: As in a plan.
        failed: Boards that failed.
        touched: Boards that were told to update.
    """
    share = _SHARE.fullmatch(max_failures)
    if share is None:
        return failed > int(max_failures)
    return failed * 100_000 > touched * round(float(share[1]) * 1000)


def _amount(option: str, text: str, least: float) -> None:
    share = _SHARE.fullmatch(text)
    if share is None and not _COUNT.fullmatch(text):
        raise UsageError(f"{option} {text[:40]!r}: write a count such as 5, or a share such as 10%")
    number = float(share[1]) if share else int(text)
    if number < least or (share and number > 100):
        raise UsageError(f"{option} {text[:40]!r}: a share is at most 100%, and a wave is not empty")

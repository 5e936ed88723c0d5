"""What is wrong with one board now: a pure function of what is known of it, its release's baseline and the rules."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

from edgekit.fleet.alerts_rules import Rules
from edgekit.fleet.web.baselines import NOTHING, Baseline
from edgekit.fleet.web.board_now import BoardNow

CRITICAL, WARNING, NOTICE = "critical", "warning", "notice"
SEVERITIES = (CRITICAL, WARNING, NOTICE)
# Five degrees apart, so that a board at the limit is not hot and cool by turns.
_COOLER_C = 5.0


class Finding(NamedTuple):
    """One thing that is wrong now.

    Attributes:
        kind: One of `alerts_rules.KINDS`.
        severity: ``critical``, ``warning`` or ``notice``.
        text: What, with the figures; may quote the board.
    """

    kind: str
    severity: str
    text: str


def judge(
    board: BoardNow,
    rules: Rules,
    now_ms: int,
    baseline: Baseline = NOTHING,
    standing_kinds: frozenset[str] = frozenset(),
) -> tuple[Finding, ...]:
    """Everything that is wrong with a board now, worst first.

    Args:
        board: What is known of it.
        rules: The limits.
        now_ms: The host's clock; UTC, ms since 1970.
        baseline: What its release promises.
        standing_kinds: What was wrong before: it stops being wrong a little later than it began (hysteresis).
    """
    found: list[Finding] = []
    for kind, look in _LOOKS.items():
        if kind not in rules.off:
            finding = look(board, rules, now_ms, baseline, kind in standing_kinds)
            if finding is not None:
                found.append(finding)
    return tuple(sorted(found, key=lambda f: SEVERITIES.index(f.severity)))


def psi(seen: Mapping[str, float], expected: Mapping[str, float]) -> float:
    """Population stability index of two mixes: 0 when equal; above 0.25 is commonly called a major shift.

    Args:
        seen: Frames per class.
        expected: Images per class.
    """
    total_seen, total_expected = sum(seen.values()), sum(expected.values())
    if total_seen <= 0 or total_expected <= 0:
        return 0.0
    # A class nobody saw must not make the index infinite: half a frame is the least.
    names = seen.keys() | expected.keys()
    index = 0.0
    for name in names:
        a = max(seen.get(name, 0.0), 0.5) / total_seen
        b = max(expected.get(name, 0.0), 0.5) / total_expected
        index += (a - b) * math.log(a / b)
    return index


def expected_fps(board: BoardNow, baseline: Baseline) -> float | None:
    """What a board should reach: its bundle's bench, or its camera's pace where that is slower."""
    paces = [pace for pace in (baseline.fps_on(board.delegate), board.capture_fps) if pace]
    return min(paces) if paces else None


def _offline(board: BoardNow, rules: Rules, now_ms: int, baseline: Baseline, before: bool) -> Finding | None:
    standing = board.standing(now_ms)
    if standing == "offline":
        return Finding("offline", CRITICAL, f"offline{f' ({board.reason})' if board.reason else ''}")
    if standing == "silent":
        seconds = (now_ms - (board.received_ms or 0)) / 1000
        return Finding("offline", CRITICAL, f"says it is online, and sent nothing for {duration(seconds)}")
    return None


def _camera(board: BoardNow, rules: Rules, now_ms: int, baseline: Baseline, before: bool) -> Finding | None:
    if board.standing(now_ms) != "online":
        return None
    if board.reason and board.reason.startswith("camera_"):
        return Finding("camera", CRITICAL, board.reason.replace("_", " ", 1))
    if board.fps == 0 and board.at_ms is not None:
        return Finding("camera", CRITICAL, "no new frame: the camera is frozen, missing or has not begun")
    return None


def _fps_low(board: BoardNow, rules: Rules, now_ms: int, baseline: Baseline, before: bool) -> Finding | None:
    expected = expected_fps(board, baseline)
    if board.standing(now_ms) != "online" or not board.fps or expected is None:
        return None
    share = rules.fps_share * (1.05 if before else 1.0)
    if board.fps >= share * expected:
        return None
    of = "its bundle's bench" if expected == baseline.fps_on(board.delegate) else "its camera's pace"
    return Finding("fps_low", WARNING, f"{board.fps:.1f} FPS, {100 * board.fps / expected:.0f} % of {of}")


def _hot(board: BoardNow, rules: Rules, now_ms: int, baseline: Baseline, before: bool) -> Finding | None:
    if board.standing(now_ms) != "online":
        return None
    if board.throttled:
        return Finding("hot", WARNING, f"{', '.join(board.throttled)} now{_at(board.temp_c)}")
    limit = rules.hot_c - (_COOLER_C if before else 0.0)
    if board.temp_c is not None and board.temp_c >= limit:
        return Finding("hot", WARNING, f"{board.temp_c:.0f} °C, the limit is {rules.hot_c:.0f}")
    return None


def _rung_lost(board: BoardNow, rules: Rules, now_ms: int, baseline: Baseline, before: bool) -> Finding | None:
    if board.standing(now_ms) != "online" or not board.delegate_reason:
        return None
    return Finding("rung_lost", WARNING, f"runs on {board.delegate}: {board.delegate_reason}")


def _gaps(board: BoardNow, rules: Rules, now_ms: int, baseline: Baseline, before: bool) -> Finding | None:
    if not board.missing:
        return None
    return Finding("gaps", WARNING, f"{board.missing} messages of the last day are missing")


def _outbox(board: BoardNow, rules: Rules, now_ms: int, baseline: Baseline, before: bool) -> Finding | None:
    if not board.dropped:
        return None
    return Finding("outbox_overflow", WARNING, f"it dropped {board.dropped} messages: its outbox was full")


def _update(board: BoardNow, rules: Rules, now_ms: int, baseline: Baseline, before: bool) -> Finding | None:
    return Finding("update_failed", CRITICAL, board.update_failed) if board.update_failed else None


def _mix(board: BoardNow, rules: Rules, now_ms: int, baseline: Baseline, before: bool) -> Finding | None:
    if not baseline.mix or sum(board.mix.values()) < rules.mix_frames:
        return None
    index = psi(board.mix, baseline.mix)
    if index < rules.mix_psi * (0.8 if before else 1.0):
        return None
    return Finding("label_mix", NOTICE, f"what it sees is far from the bundle's baseline (PSI {index:.2f})")


_Look = Callable[[BoardNow, Rules, int, Baseline, bool], Finding | None]
_LOOKS: Mapping[str, _Look] = {
    "offline": _offline,
    "camera": _camera,
    "fps_low": _fps_low,
    "hot": _hot,
    "rung_lost": _rung_lost,
    "gaps": _gaps,
    "outbox_overflow": _outbox,
    "update_failed": _update,
    "label_mix": _mix,
}


def _at(temp_c: float | None) -> str:
    return f" at {temp_c:.0f} °C" if temp_c is not None else ""


def duration(seconds: float) -> str:
    """How long, in the unit that fits: ``40 s``, ``12 min``, ``3 h``, ``5 d``."""
    if seconds < 100:
        return f"{max(0.0, seconds):.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 172_800 else f"{seconds / 86_400:.0f} d"

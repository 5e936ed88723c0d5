"""The fleet for Prometheus: names with units, and labels that boards cannot multiply."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from edgekit.fleet.alerts_judging import Finding
from edgekit.fleet.alerts_rules import KINDS
from edgekit.fleet.batch import BoardKey
from edgekit.fleet.web.board_now import BoardNow
from edgekit.fleet.web.wall import Picture

# A series a board and measure: beyond this only totals are given, and edgekit_boards_left_out says how many.
MOST_BOARDS = 2000
_MOST_VALUES = 50
_OTHER = "other"
_MEASURES: Mapping[str, tuple[str, Callable[[BoardNow], float | None]]] = {
    "edgekit_board_fps": ("New frames per second that got a result.", lambda b: b.fps),
    "edgekit_board_capture_fps": ("New frames per second of the camera.", lambda b: b.capture_fps),
    "edgekit_board_latency_p50_seconds": ("Median latency of a frame.", lambda b: _seconds(b.p50_ms)),
    "edgekit_board_latency_p95_seconds": ("95th percentile of the same.", lambda b: _seconds(b.p95_ms)),
    "edgekit_board_temperature_celsius": ("Temperature of the processor.", lambda b: b.temp_c),
    "edgekit_board_throttled": ("1 while it is throttled or under-powered.", lambda b: float(bool(b.throttled))),
    "edgekit_board_rung_lost": ("1 while a better delegate is missing.", lambda b: float(bool(b.delegate_reason))),
    "edgekit_board_missing_messages": ("Messages of the last day that never came.", lambda b: float(b.missing)),
    "edgekit_board_dropped_messages": ("Messages of the last day it dropped.", lambda b: float(b.dropped)),
    "edgekit_board_disk_free_bytes": ("Space left on its disk.", lambda b: _float(b.disk_free_bytes)),
    "edgekit_board_resident_memory_bytes": ("Memory of its processes.", lambda b: _float(b.rss_bytes)),
}


def metrics(
    picture: Picture,
    findings: Mapping[BoardKey, tuple[Finding, ...]],
    standing: Mapping[tuple[str, str], int],
    may_see: Callable[[str], bool] = lambda site: True,
) -> str:
    """The text format, version 0.0.4.

    Args:
        picture: The fleet.
        findings: What is wrong now.
        standing: Alerts that stand, by (kind, severity).
        may_see: Whether boards of a site are told.
    """
    boards = [board for key, board in sorted(picture.boards.items()) if may_see(key.site)]
    lines: list[str] = []
    standings = Counter(board.standing(picture.now_ms) for board in boards)
    _family(lines, "edgekit_boards", "Boards by standing.", (
        (_labels(state=state), float(standings.get(state, 0)))
        for state in ("online", "silent", "stopped", "offline", "unknown")
    ))  # fmt: skip
    releases = _bounded(board.release or "unknown" for board in boards)
    _family(lines, "edgekit_boards_by_release", "Boards by release.", (
        (_labels(release=value), float(n)) for value, n in releases.items()
    ))  # fmt: skip
    rungs = _bounded(board.delegate or "unknown" for board in boards)
    _family(lines, "edgekit_boards_by_rung", "Boards by delegate.", (
        (_labels(rung=value), float(n)) for value, n in rungs.items()
    ))  # fmt: skip
    troubles = Counter(f.kind for key, some in findings.items() if may_see(key.site) for f in some)
    _family(lines, "edgekit_findings", "Troubles found now, held long or not.", (
        (_labels(kind=kind), float(troubles.get(kind, 0))) for kind in KINDS
    ))  # fmt: skip
    _family(lines, "edgekit_alerts", "Alerts that stand.", (
        (_labels(kind=kind, severity=severity), float(n)) for (kind, severity), n in sorted(standing.items())
    ))  # fmt: skip
    told = boards[:MOST_BOARDS]
    _family(
        lines, "edgekit_boards_left_out", "Boards without series of their own.", (("", float(len(boards) - len(told))),)
    )
    _family(lines, "edgekit_board_up", "1 while it is online and sends.", (
        (_labels(site=b.site, device=b.device), float(b.standing(picture.now_ms) == "online")) for b in told
    ))  # fmt: skip
    _family(lines, "edgekit_board_reading_age_seconds", "Since its last Reading was stored.", (
        (_labels(site=b.site, device=b.device), (picture.now_ms - b.received_ms) / 1000)
        for b in told if b.received_ms is not None
    ))  # fmt: skip
    for name, (help_text, measure) in _MEASURES.items():
        values = ((b, measure(b)) for b in told)
        _family(lines, name, help_text, (
            (_labels(site=b.site, device=b.device), value) for b, value in values if value is not None
        ))  # fmt: skip
    return "\n".join(lines) + "\n"


def _family(lines: list[str], name: str, help_text: str, values: Iterable[tuple[str, float]]) -> None:
    lines += [f"# HELP {name} {help_text}", f"# TYPE {name} gauge"]
    lines += [f"{name}{labels} {value:.10g}" for labels, value in values]


def _bounded(values: Iterable[str]) -> dict[str, int]:
    """Counts of the most frequent values; a board that invents names only makes ``other`` grow."""
    counted = Counter(values)
    kept = dict(counted.most_common(_MOST_VALUES))
    rest = counted.total() - sum(kept.values())
    if rest:
        kept[_OTHER] = kept.get(_OTHER, 0) + rest
    return dict(sorted(kept.items()))


def _labels(**labels: str) -> str:
    inner = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{inner}}}" if inner else ""


def _escaped(value: str) -> str:
    short = value[:128].replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return "".join(c if c.isprintable() else "?" for c in short)


def _seconds(value_ms: float | None) -> float | None:
    return None if value_ms is None else value_ms / 1000


def _float(value: float | None) -> float | None:
    return None if value is None else float(value)

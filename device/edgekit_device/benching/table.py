"""The figures of a bench for a person, at most 80 columns wide. Pure."""

from __future__ import annotations

import textwrap
from typing import Any

_HEAD = "rung     layout   cold capture preproc invoke    p95 result    FPS    CPU  temp"
_UNITS = "                    ms      ms      ms     ms     ms     ms    1/s   ms/f     C"


def table(document: dict[str, Any]) -> list[str]:
    """The lines.

    Args:
        document: As ``--json`` prints it.
    """
    lines = [f"{document['bundle']} on {document['cores']} cores; frames: {document['source']}", "", _HEAD, _UNITS]
    for row in document["rows"]:
        lines += _row(row)
    lines += [
        "",
        "layout: threads of one interpreter, or interpreters x threads. cold: the first",
        "inference. Medians, p95 of invoke. result: capture to result of a live source.",
        "CPU: processor time of the whole process per frame.",
    ]
    lines += _notes(document["rows"])
    for figure in document["litert"]:
        threads = f"{figure['threads']} thread{'s' if figure['threads'] > 1 else ''}"
        if "problem" in figure:
            lines += textwrap.wrap(f"LiteRT's {figure['tool']}, {threads}: no figure; {figure['problem']}", 80)
        else:
            lines.append(f"LiteRT's {figure['tool']}, {threads}: {figure['statistic']} {figure['invoke_ms']:.2f} ms")
    return lines


def _row(row: dict[str, Any]) -> list[str]:
    head = f"{row['rung']:<9}{row['layout']:<6}"
    if "problem" in row:
        words = f"{head} {row['problem']}"
        return [words if len(words) <= 80 else words[:77] + "..."]
    after = row["after"]["cpu_temp_c"]
    cells = (
        _cell(row["cold_ms"], 7),
        _cell((row["capture_ms"] or {}).get("p50"), 8),
        _cell(row["preprocess_ms"]["p50"], 8),
        _cell(row["invoke_ms"]["p50"], 7),
        _cell(row["invoke_ms"]["p95"], 7),
        _cell((row["capture_to_result_ms"] or {}).get("p50"), 7),
        _cell(row["fps"], 7, 1),
        _cell(row["cpu_ms_per_frame"], 7),
        _cell(after, 6, 1),
    )
    return [head + "".join(cells)]


def _cell(value: float | None, width: int, digits: int = 2) -> str:
    if value is None:
        return f"{'-':>{width}}"
    return f"{value:>{width}.{digits if value < 1000 else 0}f}"


def _notes(rows: list[dict[str, Any]]) -> list[str]:
    """What the figures alone do not say: a board that slows down, one that throttles, frames lost."""
    notes = []
    for row in rows:
        if "problem" in row:
            continue
        name, (first, *_, last) = f"{row['rung']} {row['layout']}", row["fps_by_third"]
        if last < 0.9 * first:
            notes.append(f"! {name}: {first:.1f} FPS in the first third, {last:.1f} in the last")
        if row["after"]["throttled"]:
            notes.append(f"! {name}: throttled now: {', '.join(row['after']['throttled'])}")
        if row["dropped"]:
            notes.append(f"! {name}: {row['dropped']} of {row['frames'] + row['dropped']} frames dropped")
    return notes

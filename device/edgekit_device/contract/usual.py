"""The usual Reading, checked in one go: a collector reads thousands a second.

Field by field, each with an error of its own, costs twice as much. What is unusual in any way is left to that.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from operator import itemgetter
from typing import Any

_NAMES = ("site", "device", "boot", "at")
_NUMBERS = ("window_s", "fps", "capture_fps", "inference_fps")
_INTEGERS = ("seq", "frames_dropped")
_COUNTED = ("threads", "rss_bytes", "disk_free_bytes")
_MEASURED = ("cpu_temp_c", "soc_power_w", "energy_per_inference_mj", "score", "load_1m")
_WORDS = ("source", "bundle", "delegate", "delegate_reason", "label")
_LISTED = ("throttled_now", "throttled_since_boot")
_BINNED = ("entropy_hist", "margin_hist")
_GROUPS = (_NAMES, _NUMBERS, _INTEGERS, _COUNTED, _MEASURED, _WORDS, _LISTED, _BINNED)
_TAKE = tuple(itemgetter(*group) for group in _GROUPS)
_KNOWN = frozenset(name for group in _GROUPS for name in group) | {
    "schema", "clock", "latency_ms", "class_counts", "dropped_ranges",
}  # fmt: skip
_IDS = re.compile(r"[ -.0-~]{0,63}/[ -.0-~]{0,63}/[0-9a-f]{32}/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII)
_TEXT, _FLOAT, _WHOLE = {str}, {float}, {int}
_FLOAT_OR_NONE, _WHOLE_OR_NONE = {float, type(None)}, {int, type(None)}
_MOST_SEQUENCE, _MOST_INTEGER, _MOST_NUMBER = 2**53 - 1, 2**63 - 1, 1e300
_MOST_BINS, _MOST_NAMES, _MOST_WORD, _MOST_DIGITS = 256, 64, 1024, 6


def usual_reading(values: Mapping[str, Any], clocks: tuple[str, ...]) -> dict[str, Any] | None:
    """The fields of a Reading whose every field is there and of the usual kind; None leaves it to the full reading.

    Args:
        values: A parsed document whose schema was checked.
        clocks: What ``clock`` may be.

    Returns:
        What `telemetry.Reading` is made of, equal to what its own reading would give; without ``extra``.
    """
    try:
        ids, numbers, integers, counted, measured, words, listed, binned = [take(values) for take in _TAKE]
        site, device, boot, at = ids
        counts, latency = values["class_counts"], values["latency_ms"]
        if (
            len(values) != len(_KNOWN)
            or values["dropped_ranges"] != []
            or values["clock"] not in clocks
            or {*map(type, ids)} != _TEXT
            or not _IDS.fullmatch(f"{site}/{device}/{boot}/{at}")
            or {*map(type, numbers)} != _FLOAT
            or not 0.0 <= min(numbers) <= max(numbers) <= _MOST_NUMBER
            or {*map(type, integers)} != _WHOLE
            or not 0 <= min(integers) <= max(integers) <= _MOST_SEQUENCE
            or not {*map(type, counted)} <= _WHOLE_OR_NONE
            or not all(map(_is_count, counted))
            or not {*map(type, measured)} <= _FLOAT_OR_NONE
            or not all(map(_is_finite, measured))
            or not (values["load_1m"] is None or values["load_1m"] >= 0.0)
            or values["source"] is None
            or not all(map(_is_word, words))
            or not all(map(_are_names, listed))
            or not all(map(_are_bins, binned))
            or not _are_bins(list(counts.values()))
            or not ("".join(counts).isascii() and all(map(str.isdigit, counts)))
            or max(map(len, counts), default=0) > _MOST_DIGITS
        ):
            return None
        steps = {}
        for step, quantiles in latency.items():
            kept = {"p50": quantiles["p50"], "p95": quantiles["p95"], "p99": quantiles["p99"]}
            times = kept.values()
            if len(step) > 64 or {*map(type, times)} != _FLOAT or not 0.0 <= min(times) <= max(times) <= _MOST_NUMBER:
                return None
            steps[step] = kept
    except (KeyError, AttributeError, TypeError):
        return None
    found = dict(values)
    del found["schema"]
    found["latency_ms"] = steps
    found["dropped_ranges"] = ()
    for name, names in zip(_LISTED, listed, strict=True):
        found[name] = None if names is None else tuple(names)
    found["entropy_hist"], found["margin_hist"] = map(tuple, binned)
    return found


def _is_count(number: Any) -> bool:
    return number is None or 0 <= number <= _MOST_INTEGER


def _is_finite(number: Any) -> bool:
    return number is None or -_MOST_NUMBER <= number <= _MOST_NUMBER


def _is_word(text: Any) -> bool:
    return text is None or (type(text) is str and len(text) <= _MOST_WORD and text.isascii() and "\0" not in text)


def _are_names(names: Any) -> bool:
    if not names:
        return names is None or type(names) is list
    return (
        type(names) is list and len(names) <= _MOST_NAMES and all(name is not None and _is_word(name) for name in names)
    )


def _are_bins(counts: Any) -> bool:
    if not counts:
        return type(counts) is list
    if type(counts) is not list or len(counts) > _MOST_BINS or {*map(type, counts)} != _WHOLE:
        return False
    return bool(0 <= min(counts) <= max(counts) <= _MOST_INTEGER)

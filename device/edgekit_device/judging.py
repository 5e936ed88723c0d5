"""Whether a model that was tried may stay. Pure: figures in, words out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

from edgekit_device.contract.errors import UsageError


@dataclass(frozen=True)
class Rules:
    """The limits of a trial.

    Attributes:
        window_s: How long the new model serves before it is committed; only time with frames counts.
        capacity: Least share of the old model's inferences a second (1000 / invoke p50).
        latency: Most times the old model's invoke p95.
        memory: Most times the old model's peak memory in its self-test.
        slack_ms: A difference of latency below this is none: a toy of 0.1 ms may take 0.2.
        label_shift: From this share of frames on, another label is worth a warning.
        label_shift_fails: Then it is rejected for it as well.
        baseline_frames: Frames that the old model is measured on.
        shadow_frames: Frames that both models see before the new one serves.
        settle_s: No longer than this, with frames, is waited for either.
        proof_s: Time limit of the golden self-test in a child, of each rung.
        load_s: Time limit of loading the new model beside the old one.
    """

    window_s: float = 45.0
    capacity: float = 0.8
    latency: float = 1.5
    memory: float = 2.0
    slack_ms: float = 1.0
    label_shift: float = 0.5
    label_shift_fails: bool = False
    baseline_frames: int = 30
    shadow_frames: int = 20
    settle_s: float = 5.0
    proof_s: float = 20.0
    load_s: float = 20.0


class Measured(NamedTuple):
    """How a model does on this board.

    Attributes:
        frames: Inferences measured.
        p50_ms: Median time of one, ms.
        p95_ms: 95 % take no longer, ms.
    """

    frames: int
    p50_ms: float
    p95_ms: float


def parse_rules(text: str, rules: Rules | None = None) -> Rules:
    """Read ``NAME=VALUE,...``, e.g. ``window_s=10,label_shift_fails=1``.

    Raises:
        UsageError: No such limit, or not a number above 0.
    """
    rules = rules or Rules()
    known = {f.name: type(getattr(rules, f.name)) for f in fields(Rules)}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = part.partition("=")
        if name not in known:
            raise UsageError(f"--trial {part!r}: no such limit; known: {', '.join(known)}")
        try:
            number = float(value)
        except ValueError:
            number = -1.0
        if not 0 <= number < 1e6:
            raise UsageError(f"--trial {part!r}: {name} takes a number, 0 or more")
        rules = replace(rules, **{name: known[name](number)})
    return rules


def judge_speed(old: Measured, new: Measured, rules: Rules) -> str | None:
    """What speaks against a model's speed; None if nothing does.

    Args:
        old: The model that served before, without anything beside it.
        new: The model on trial, serving.
        rules: The limits.
    """
    if not old.frames or not new.frames:
        return None
    if new.p50_ms - old.p50_ms > rules.slack_ms and old.p50_ms / new.p50_ms < rules.capacity:
        share = old.p50_ms / new.p50_ms
        return (
            f"capacity: {1000 / new.p50_ms:.1f} inferences/s are {share:.2f} of the {1000 / old.p50_ms:.1f} of the "
            f"model before (least {rules.capacity:g}; invoke p50 {new.p50_ms:.1f} ms, was {old.p50_ms:.1f})"
        )
    if new.p95_ms - old.p95_ms > rules.slack_ms and new.p95_ms > rules.latency * old.p95_ms:
        return (
            f"latency: invoke p95 {new.p95_ms:.1f} ms is {new.p95_ms / old.p95_ms:.2f} times the {old.p95_ms:.1f} ms "
            f"of the model before (most {rules.latency:g})"
        )
    return None


def judge_memory(old_bytes: int, new_bytes: int, rules: Rules) -> str | None:
    """What speaks against a model's memory; None if nothing does.

    Args:
        old_bytes: Peak of the self-test of the model that served before; 0 if unknown.
        new_bytes: The same of the model on trial.
        rules: The limits.
    """
    if not old_bytes or new_bytes <= rules.memory * old_bytes:
        return None
    return (
        f"memory: its self-test took {new_bytes >> 20} MiB, {new_bytes / old_bytes:.1f} times the "
        f"{old_bytes >> 20} MiB of the model before (most {rules.memory:g})"
    )


def label_shift(old: Mapping[str, int], new: Mapping[str, int]) -> float:
    """Share of frames that one model labels in another proportion: total variation distance, 0..1.

    Args:
        old: Frames by label.
        new: The same frames by the other model's labels.
    """
    before, after = sum(old.values()), sum(new.values())
    if not before or not after:
        return 0.0
    names = {*old, *new}
    return sum(abs(old.get(name, 0) / before - new.get(name, 0) / after) for name in names) / 2

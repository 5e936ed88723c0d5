"""Readings with the spread of real ones: numbers that move, labels that change."""

from __future__ import annotations

import random

from edgekit_device.contract.clock import utc_text
from edgekit_device.contract.telemetry import Event, Reading

BOOT = "9f" * 16
_LABELS = ("tabby", "tiger cat", "Egyptian cat", "lynx", "red fox", "espresso")
_START_S = 1_795_341_600.0


def reading(seq: int, boot: str = BOOT, clock: str = "synced", at_s: float | None = None) -> Reading:
    """The Reading of one second."""
    rng = random.Random(seq)

    def near(value: float, spread: float = 0.05) -> float:
        return round(value * rng.uniform(1 - spread, 1 + spread), 3)

    frames = rng.randint(25, 31)
    counts = {str(rng.randint(0, 999)): rng.randint(1, frames) for _ in range(rng.randint(1, 6))}
    return Reading(
        site="home",
        device="porch",
        boot=boot,
        seq=seq,
        at=utc_text(_START_S + seq if at_s is None else at_s),
        clock=clock,
        window_s=near(1.0, 0.01),
        fps=near(29.8),
        capture_fps=near(30.0),
        inference_fps=near(29.8),
        frames_dropped=rng.randint(0, 3),
        latency_ms={
            step: {"p50": near(base), "p95": near(base * 1.2), "p99": near(base * 1.5)}
            for step, base in (("preprocess", 0.4), ("invoke", 12.1), ("end_to_end", 12.9))
        },
        source="camera:0",
        bundle="lite0-1.0.0",
        delegate="xnnpack",
        delegate_reason="edgetpu: library missing",
        threads=4,
        cpu_temp_c=near(61.2),
        throttled_now=(),
        throttled_since_boot=("undervoltage",),
        rss_bytes=93_000_000 + rng.randint(0, 1_000_000),
        load_1m=near(1.2),
        disk_free_bytes=12_000_000_000 - seq * 4096,
        label=rng.choice(_LABELS),
        score=round(rng.random(), 4),
        class_counts=counts,
        entropy_hist=tuple(rng.randint(0, 9) for _ in range(16)),
        margin_hist=tuple(rng.randint(0, 9) for _ in range(16)),
    )


def event(seq: int, boot: str = BOOT) -> Event:
    """An event in the same sequence."""
    return Event(boot, seq, utc_text(_START_S + seq), "delegate_fallback", "edgetpu: library missing", {})

"""Readings as a board would send them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from edgekit_device.contract.telemetry import Event, Reading, Status

BOOT = "9f" * 16
# Yesterday: a store counts what is older than a week as late and leaves it out of its roll-ups, so that a date written
# here would hold for one week only.
_START = datetime.now(UTC).replace(hour=10, minute=0, second=0, microsecond=0) - timedelta(days=1)

_READING = Reading(
    site="home",
    device="porch",
    boot=BOOT,
    seq=0,
    at="",
    clock="synced",
    window_s=1.0,
    fps=29.8,
    capture_fps=30.0,
    inference_fps=29.8,
    frames_dropped=1,
    latency_ms={
        "preprocess": {"p50": 0.4, "p95": 0.6, "p99": 0.9},
        "invoke": {"p50": 12.0, "p95": 14.0, "p99": 15.0},
        "end_to_end": {"p50": 12.5, "p95": 14.6, "p99": 16.0},
    },
    source="synthetic",
    bundle="toy-1.0.0",
    delegate="xnnpack",
    delegate_reason=None,
    threads=2,
    label="tabby",
    score=0.83,
)


def at(seq: int) -> str:
    """One message a second."""
    return (_START + timedelta(seconds=seq)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def reading(seq: int, device: str = "porch", boot: str = BOOT, **more: object) -> Reading:
    """The Reading of one second."""
    return replace(_READING, seq=seq, device=device, boot=boot, at=at(seq), **more)  # type: ignore[arg-type]


def event(seq: int, boot: str = BOOT) -> Event:
    """One event in the same sequence."""
    return Event(boot, seq, at(seq), "delegate_fallback", "edgetpu: library missing", {})


def status(state: str = "online", boot: str = BOOT) -> Status:
    """A status of one boot."""
    return Status(state, boot, "toy-1.0.0", "xnnpack")

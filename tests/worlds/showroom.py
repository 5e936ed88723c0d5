"""A fleet to look at: most boards fine, the others with a trouble each, through the real contract and store."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from edgekit.fleet.batch import Batch, BoardKey, at_ms
from edgekit.fleet.store import Store
from edgekit_device.contract.clock import utc_text
from edgekit_device.contract.desired import Desired
from edgekit_device.contract.reported import Reported
from edgekit_device.contract.telemetry import Event, Reading, Status
from edgekit_device.contract.topics import EVENT, REPORTED, STATUS, TELEMETRY, topic

WINDOW_S = 30.0


@dataclass
class ShownBoard:
    """One board of the showroom.

    Attributes:
        quirk: What is wrong with it; empty for nothing.
    """

    site: str
    device: str
    quirk: str = ""
    release: str = "lite0-1.1.0"
    label: str = "tabby"
    delegate: str = "xnnpack"
    fps: float = 30.0
    p50_ms: float = 12.5
    temp_c: float = 58.0
    events: list[tuple[float, str, str]] = field(default_factory=list)

    @property
    def boot(self) -> str:
        return f"{abs(hash((self.site, self.device))):032x}"[-32:]


def boards() -> list[ShownBoard]:
    """Two dozen boards on four sites."""
    b = ShownBoard
    return [
        b("home", "porch", label="tabby"), b("home", "garden", label="red fox", fps=29.6),
        b("home", "garage", "offline"), b("home", "attic", "slow", p50_ms=41.0),
        b("orchard", "row-01", label="Granny Smith", delegate="edgetpu", p50_ms=4.1),
        b("orchard", "row-02", "rung_lost", label="Granny Smith", p50_ms=13.0),
        b("orchard", "row-03", label="Granny Smith", delegate="edgetpu", p50_ms=4.2),
        b("orchard", "row-04", label="fig", delegate="edgetpu", p50_ms=4.2, temp_c=52),
        b("orchard", "row-05", "hot", label="Granny Smith", delegate="edgetpu", p50_ms=4.4, temp_c=81),
        b("orchard", "row-06", label="pomegranate", delegate="edgetpu", p50_ms=4.0),
        b("orchard", "gate", "camera", label="hay"), b("orchard", "barn", label="ox", fps=29.9),
        b("harbour", "pier-a", label="lakeside", fps=24.9, p50_ms=21.0, release="lite1-1.0.0"),
        b("harbour", "pier-b", label="speedboat", fps=25.0, p50_ms=21.4, release="lite1-1.0.0"),
        b("harbour", "pier-c", "update", label="container ship", fps=24.8, p50_ms=21.2, release="lite1-1.0.0"),
        b("harbour", "crane-1", label="crane", fps=25.0, p50_ms=20.9, release="lite1-1.0.0"),
        b("harbour", "crane-2", "gaps", label="crane", fps=24.9, p50_ms=21.1, release="lite1-1.0.0"),
        b("workshop", "bench-1", label="drum", p50_ms=11.8), b("workshop", "bench-2", label="screwdriver", p50_ms=12.0),
        b("workshop", "bench-3", "stopped", label="hammer"), b("workshop", "belt-in", label="carton", fps=29.9),
        b("workshop", "belt-out", label="carton", fps=29.8), b("workshop", "press", label="iron", temp_c=66),
        b("workshop", "door", label="sliding door", fps=30.0),
    ]  # fmt: skip


def fill(
    url: str,
    some: list[ShownBoard],
    minutes: float = 60.0,
    now_s: float | None = None,
    window_s: float = WINDOW_S,
) -> None:
    """Write the last minutes of each board into a store.

    Args:
        window_s: What Readings claim; with a long one no board falls silent while slow tests look at it.
    """
    now_s = time.time() if now_s is None else now_s
    for board in some:
        batch = Batch()
        for kind, document in _messages(board, now_s, minutes, window_s):
            batch.add(topic(board.site, board.device, kind), document.to_bytes())
        assert not batch.rejected, batch.rejected[0].error
        newest_s = max(at_ms(m.document.at) for m in batch.numbered()) / 1000
        # What a board sent last was stored then, not when this world was made.
        with Store(url, now=lambda newest_s=newest_s: newest_s + 1) as then:
            then.write(batch)
    with Store(url) as store:
        for board in some:
            if board.quirk == "update":
                store.desire(BoardKey(board.site, board.device), Desired(bundle="lite1-1.1.0").to_bytes())


def _messages(board: ShownBoard, now_s: float, minutes: float, window_s: float) -> Iterator[tuple[Any, Any]]:
    draw = random.Random(board.device)
    state = {"offline": "offline", "stopped": "stopped"}.get(board.quirk, "online")
    reason = {
        "camera": "camera_frozen: the same picture for 42 s", "offline": "connection lost",
        "stopped": None, "rung_lost": "edgetpu: device went away",
    }.get(board.quirk)  # fmt: skip
    seq, silent_s = 0, {"offline": 1260.0, "stopped": 1500.0}.get(board.quirk, 0.0)
    steps = int(minutes * 60 / WINDOW_S)
    for step in range(steps):
        at_s = now_s - (steps - 1 - step) * WINDOW_S - 3 - draw.uniform(0, 2)
        if at_s > now_s - silent_s:
            break
        left_s = now_s - at_s
        if board.quirk == "gaps" and 1500 < left_s < 2100:
            seq += 1
            continue
        for kind, words in _happenings(board, left_s):
            yield EVENT, Event(board.boot, seq, utc_text(at_s - 1), kind, words, {})
            seq += 1
        yield TELEMETRY, replace(_reading(board, seq, at_s, left_s, draw), window_s=window_s)
        seq += 1
    yield STATUS, Status(state, board.boot, board.release, board.delegate, reason, session=1)
    refused = {"bundle": "golden self-test failed on xnnpack: 2 of 8 images differ"} if board.quirk == "update" else {}
    health = "trouble" if board.quirk == "camera" else "serving"
    yield REPORTED, Reported(board.boot, board.release, health, reason, WINDOW_S, refused=refused)


def _happenings(board: ShownBoard, left_s: float) -> Iterator[tuple[str, str]]:
    table = {
        "rung_lost": [(1400, "delegate_fallback", "edgetpu: device went away")],
        "camera": [(480, "camera_frozen", "the same picture for 10 s")],
        "update": [(900, "update_failed", "lite1-1.1.0: golden self-test failed on xnnpack: 2 of 8 images differ")],
        "hot": [(1100, "throttled", "frequency capped")],
        "slow": [(2000, "camera_slow", "9 frames/s"), (1700, "camera_recovered", "30 frames/s")],
    }
    for when_s, kind, words in table.get(board.quirk, []):
        if when_s <= left_s < when_s + WINDOW_S:
            yield kind, words


def _reading(board: ShownBoard, seq: int, at_s: float, left_s: float, draw: random.Random) -> Reading:
    fps, p50, temp, delegate, why = board.fps, board.p50_ms, board.temp_c, board.delegate, None
    capture = board.fps
    temp += 2.5 * math.sin(at_s / 700) + draw.uniform(-0.6, 0.6)
    if board.quirk == "slow":
        fps *= 0.62 + 0.05 * math.sin(at_s / 300)
    if board.quirk == "hot":
        temp += 4 * math.exp(-left_s / 900)
        p50 *= 1 + 0.3 * math.exp(-left_s / 900)
    if board.quirk == "camera" and left_s < 480:
        fps = capture = 0.0
    if board.quirk == "rung_lost":
        lost = left_s < 1400
        delegate, p50 = ("xnnpack", 13.0) if lost else ("edgetpu", 4.2)
        why = "edgetpu: device went away" if lost else None
    fps = max(0.0, fps + draw.uniform(-0.4, 0.1)) if fps else 0.0
    p50 *= draw.uniform(0.97, 1.05)
    steps = {
        "preprocess": {"p50": 0.4, "p95": 0.6, "p99": 0.9},
        "invoke": {"p50": round(p50 - 0.4, 2), "p95": round(p50 * 1.1, 2), "p99": round(p50 * 1.2, 2)},
        "end_to_end": {"p50": round(p50, 2), "p95": round(p50 * 1.13, 2), "p99": round(p50 * 1.3, 2)},
    }
    frames = int(fps * WINDOW_S)
    mix = {"281": int(frames * 0.62), "282": int(frames * 0.2), "285": int(frames * 0.1), "287": int(frames * 0.05)}
    return Reading(
        site=board.site, device=board.device, boot=board.boot, seq=seq, at=utc_text(at_s), clock="synced",
        window_s=WINDOW_S, fps=round(fps, 2), capture_fps=round(capture, 2), inference_fps=round(fps, 2),
        frames_dropped=draw.randrange(3), latency_ms=steps if fps else {}, source="camera:0", bundle=board.release,
        delegate=delegate, delegate_reason=why, threads=4, cpu_temp_c=round(temp, 1),
        throttled_now=("frequency capped",) if board.quirk == "hot" and left_s < 1100 else (),
        throttled_since_boot=("frequency capped",) if board.quirk == "hot" else (), rss_bytes=93_000_000,
        load_1m=round(1 + draw.random() / 3, 2), disk_free_bytes=12_000_000_000, label=board.label if fps else None,
        score=round(draw.uniform(0.7, 0.95), 2) if fps else None, class_counts=mix if fps else {},
    )  # fmt: skip

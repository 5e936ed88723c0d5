"""Boards that behave like boards, as pure state: what they make, and when they reboot, vanish or lose the time.

No network here; `swarm` connects them. Each board draws from its own random numbers, so a seed repeats a fleet.
"""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from edgekit.fleet.simulated_updates import SimulatedUpdate, Updating
from edgekit_device.contract.ack import Ack
from edgekit_device.contract.clock import utc_text
from edgekit_device.contract.documents import SCHEMA, dump
from edgekit_device.contract.telemetry import Event, Status
from edgekit_device.contract.topics import EVENT, TELEMETRY, Kind

SITE = "sim"
BUNDLE, DELEGATE = "lite0-1.0.0", "xnnpack"
_CAMERA_FPS = 30.0
_CLASSES = (("tabby", 281), ("tiger cat", 282), ("Egyptian cat", 285), ("lynx", 287), ("red fox", 277))


@dataclass(frozen=True)
class Habits:
    """How often a board does what boards do; means of exponential times, seconds. 0 is never.

    Attributes:
        rate_hz: Readings per second.
        reboot_s: Between two reboots.
        offline_s: Between two losses of the network.
        offline_for_s: How long it stays away then; it goes on making Readings.
        clock_jump_s: Between two jumps of the clock.
        throttle_s: Between two times of being too hot, which last a tenth of that.
        events_each: One message in so many is an event.
    """

    rate_hz: float = 0.1
    reboot_s: float = 1800.0
    offline_s: float = 1200.0
    offline_for_s: float = 60.0
    clock_jump_s: float = 3600.0
    throttle_s: float = 900.0
    events_each: int = 50


CALM = Habits(reboot_s=0, offline_s=0, clock_jump_s=0, throttle_s=0)


class Held(NamedTuple):
    """A message that no ack covers yet."""

    kind: Kind
    boot: str
    seq: int
    payload: bytes


@dataclass
class SimulatedBoard:
    """One board. Time is given to it, so a fleet can be driven faster than the clock.

    Attributes:
        device: Its id.
        habits: How it behaves.
        made: Messages made per boot, numbered from 0.
        held: Messages that no ack covers, oldest first, by boot and number.
        offline_until_s: It has no network before; monotonic.
        offset_s: Its clock is that far from the right time.
        updating: How it takes updates; None takes none.
    """

    device: str
    habits: Habits
    seed: int
    site: str = SITE
    made: dict[str, int] = field(default_factory=dict)
    held: dict[tuple[str, int], Held] = field(default_factory=dict)
    offline_until_s: float = 0.0
    offset_s: float = 0.0
    boot: str = ""
    acked: int = 0
    updating: Updating | None = None

    def __post_init__(self) -> None:
        self._random = random.Random(zlib.crc32(f"{self.seed}/{self.device}".encode()))  # noqa: S311 - not a secret.
        self._mix = [self._random.random() ** 3 for _ in _CLASSES]
        # Numbers of its own: a fleet of a seed is the same whether it follows updates or not.
        drawn = random.Random(zlib.crc32(f"{self.seed}/{self.device}/updates".encode()))  # noqa: S311
        self.updates = SimulatedUpdate(self.updating, BUNDLE, drawn) if self.updating else None
        self._throttled_until_s = 0.0
        self._due: dict[str, float] = {}
        self._template, self._drawn_for = (b"", 0.0), BUNDLE

    @property
    def bundle(self) -> str:
        """What runs on it."""
        return self.updates.release if self.updates else BUNDLE

    def start(self, now_s: float) -> None:
        """Boot for the first time; the first Reading comes at a random point of the interval."""
        self._reboot()
        self.next_s = now_s + self._random.uniform(0, 1 / self.habits.rate_hz)
        for name in ("reboot", "offline", "clock_jump", "throttle"):
            self._plan(name, now_s)

    def step(self, now_s: float, wall_s: float) -> list[Held]:
        """Everything that happens up to now; what was made, in order.

        Args:
            now_s: Monotonic.
            wall_s: The right time, since 1970.
        """
        made: list[Held] = []
        while self.next_s <= now_s:
            self._behave(self.next_s)
            made.append(self._make(wall_s - now_s + self.next_s))
            self.next_s += 1 / self.habits.rate_hz
        return made

    def learn(self, ack: Ack) -> list[Held]:
        """Let go of what is stored, and return it."""
        gone = [self.held.pop(key) for key in [key for key in self.held if ack.covers(*key)]]
        self.acked += len(gone)
        return gone

    def status(self, state: str = "online", session: int | None = None, boot: str | None = None) -> Status:
        """What it says of itself; of the boot that runs if none is named."""
        return Status(state, boot or self.boot, self.bundle, DELEGATE, None, session)

    def _plan(self, name: str, now_s: float) -> None:
        mean_s = getattr(self.habits, f"{name}_s")
        self._due[name] = now_s + self._random.expovariate(1 / mean_s) if mean_s else float("inf")

    def _behave(self, now_s: float) -> None:
        for name in [name for name, due_s in self._due.items() if due_s <= now_s]:
            if name == "reboot":
                self._reboot()
                self.offline_until_s = max(self.offline_until_s, now_s + self._random.uniform(1, 5))
            elif name == "offline":
                self.offline_until_s = now_s + self._random.expovariate(1 / self.habits.offline_for_s)
            elif name == "clock_jump":
                self.offset_s = self._random.choice(
                    (0.0, -3600.0, 3600.0, -86_400.0 * 3, self._random.uniform(-30, 30))
                )
            else:
                self._throttled_until_s = now_s + self.habits.throttle_s / 10
            self._template = (b"", 0.0)
            self._plan(name, now_s)

    def _reboot(self) -> None:
        self.boot = f"{self._random.getrandbits(128):032x}"
        self.made[self.boot] = 0

    def _make(self, wall_s: float) -> Held:
        seq = self.made[self.boot]
        self.made[self.boot] += 1
        at = utc_text(wall_s + self.offset_s)
        if seq % self.habits.events_each == self.habits.events_each - 1:
            event = Event(self.boot, seq, at, "delegate_fallback", "edgetpu: library missing", {"to": DELEGATE})
            held = Held(EVENT, self.boot, seq, event.to_bytes())
        else:
            held = Held(TELEMETRY, self.boot, seq, self._reading(at, seq, wall_s))
        self.held[self.boot, seq] = held
        return held

    def _reading(self, at: str, seq: int, wall_s: float) -> bytes:
        """A Reading of the contract; all but time and number is drawn anew every ten seconds.

        Making JSON costs more than sending it, and the generator shares the machine with what it loads.
        """
        template, until_s = self._template
        if wall_s >= until_s or not template or self._drawn_for != self.bundle:
            template, self._drawn_for = self._draw(), self.bundle
            self._template = (template, wall_s + 10)
        return template.replace(b"@AT@", at.encode()).replace(b'"@SEQ@"', b"%d" % seq)

    def _draw(self) -> bytes:
        draw, window_s = self._random, 1 / self.habits.rate_hz
        hot = self.next_s < self._throttled_until_s
        slow = hot or (self.updates is not None and self.updates.slow)
        fps = (_CAMERA_FPS * 0.4 if slow else _CAMERA_FPS) + draw.uniform(-0.5, 0.0)
        invoke = (28.0 if slow else 12.0) + draw.uniform(0, 1)
        # The mix drifts: what the camera sees in the evening is not what it saw in the morning.
        self._mix = [max(0.001, share * draw.uniform(0.9, 1.1)) for share in self._mix]
        frames, total = fps * window_s, sum(self._mix)
        counts = {str(n): round(frames * share / total) for (_, n), share in zip(_CLASSES, self._mix, strict=True)}
        label = _CLASSES[max(range(len(_CLASSES)), key=self._mix.__getitem__)][0]
        sure = draw.uniform(0.5, 0.95)
        bins = list(_histogram(draw, round(frames)))

        def quantiles(p50: float) -> dict[str, float]:
            return {"p50": round(p50, 2), "p95": round(p50 * 1.1, 2), "p99": round(p50 * 1.25, 2)}

        return dump(
            {
                "schema": SCHEMA, "site": self.site, "device": self.device, "boot": self.boot,
                "seq": "@SEQ@", "at": "@AT@", "clock": "synced" if not self.offset_s else "unsynced",
                "window_s": round(window_s, 3), "fps": round(fps, 2), "capture_fps": _CAMERA_FPS,
                "inference_fps": round(fps, 2), "frames_dropped": max(0, round(_CAMERA_FPS * window_s - frames)),
                "latency_ms": {
                    "preprocess": quantiles(0.4), "invoke": quantiles(invoke), "end_to_end": quantiles(invoke + 0.5),
                },
                "source": "synthetic", "bundle": self.bundle,
                "delegate": DELEGATE, "delegate_reason": None, "threads": 4,
                "cpu_temp_c": round((82.0 if hot else 58.0) + draw.uniform(0, 3), 1),
                "throttled_now": ["throttled"] if hot else [], "throttled_since_boot": ["throttled"] if hot else [],
                "rss_bytes": 93_000_000 + draw.randrange(1 << 20), "load_1m": round(draw.uniform(0.8, 1.6), 2),
                "disk_free_bytes": 12_000_000_000, "soc_power_w": None, "energy_per_inference_mj": None,
                "label": label, "score": round(sure, 3), "class_counts": counts,
                "entropy_hist": bins, "margin_hist": bins[::-1], "dropped_ranges": [],
            }
        )  # fmt: skip


def _histogram(draw: random.Random, frames: int) -> Iterator[int]:
    left = frames
    for _ in range(15):
        share = round(left * draw.uniform(0.4, 0.8))
        yield share
        left -= share
    yield left


def ledger(boards: list[SimulatedBoard]) -> str:
    """What was made, as JSON: messages per ``site/device`` and boot, numbered from 0."""
    return json.dumps({f"{board.site}/{board.device}": board.made for board in boards}, sort_keys=True)

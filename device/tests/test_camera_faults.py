"""Camera faults through a real supervisor and real workers: named, survived, over when they are over (gate C2)."""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit_device.bundle import open_bundle
from edgekit_device.capture import capture_for
from edgekit_device.contract.topics import EVENT, TELEMETRY, Kind
from edgekit_device.ladder import Ladder
from edgekit_device.meter import Meter
from edgekit_device.progress import Progress
from edgekit_device.publish.memory import Memory
from edgekit_device.run_plan import RunPlan
from edgekit_device.sources.frame import SourceOptions
from edgekit_device.supervisor import Supervisor, new_boot

sys.path.insert(0, str(Path(__file__).parent))
import runs

WITHIN_S = 10.0  # C2.


@dataclass
class Notes(Memory):
    """A publisher that notes when each document came."""

    at_s: list[float] = field(default_factory=list)
    sent: list[tuple[Kind, bytes]] = field(default_factory=list)
    statuses: list[bytes] = field(default_factory=list)

    def send(self, kind: Kind, payload: bytes) -> None:
        super().send(kind, payload)
        self.at_s.append(time.monotonic())

    def documents(self, kind: Kind) -> list[tuple[float, dict[str, Any]]]:
        return [(at, json.loads(p)) for at, (k, p) in zip(self.at_s, self.sent, strict=True) if k == kind]


RUNS = {
    "no pictures": ("synthetic", ("empty@6+3", "tear@12+3", "freeze@18+6"), 28.0),
    "odd pictures": ("synthetic", ("resize@6+3", "timejump@12+3", "black@18+5"), 27.0),
    "unplugged": ("camera:fake", ("vanish@6+4", "eof@16+3"), 24.0),
    # Unplugged before it hangs, so that a new worker has to find it under its new number.
    "hung": ("camera:fake", ("vanish@6+0.5", "block@10+11"), 31.0),
    "absent": ("camera:/dev/v4l/by-id/nobody", (), 8.0),
}


@dataclass
class Watched:
    """A run that has ended."""

    notes: Notes
    epoch_s: float

    @property
    def events(self) -> list[dict[str, Any]]:
        return [event for _, event in self.notes.documents(EVENT)]


def watch(
    bundle_path: Path, public: Path, lead_s: float, source: str, faults: tuple[str, ...], seconds: float
) -> Watched:
    """Run with faults, whose times count from `epoch_s`."""
    bundle, data = open_bundle(bundle_path, (public,))
    epoch_s = time.monotonic() + lead_s
    plan = RunPlan(
        bundle=bundle, bundle_data=data, bundle_path=str(bundle_path), source=source,
        options=SourceOptions(faults=faults, epoch_s=epoch_s, width=320, height=240), threads=1,
        site="home", device="test", interval_s=1.0, seconds=lead_s + seconds, endless=True,
        state_dir=bundle_path.parent,
    )  # fmt: skip
    notes = Notes()
    supervisor = Supervisor(plan, Ladder.for_choice("xnnpack"), [notes], new_boot(), lambda text: None)
    assert supervisor.run() == 0
    assert time.monotonic() - epoch_s >= seconds, "the run ended by itself"
    return Watched(notes, epoch_s)


@pytest.fixture(scope="module")
def watched(workshop: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Watched]:
    """All runs side by side: they mostly wait."""
    path = workshop.write(tmp_path_factory.mktemp("bundle") / "toy-1.0.0.edgekit")
    # Their workers begin all at once.
    lead_s = len(RUNS) * runs.starting_s()
    with ThreadPoolExecutor(len(RUNS)) as pool:
        begun = {name: pool.submit(watch, path, workshop.public, lead_s, *words) for name, words in RUNS.items()}
        return {name: run.result() for name, run in begun.items()}


def hold(run: Watched, word: str, start_s: float, length_s: float) -> None:
    """One fault was named, was in the status, and ended, in time."""
    notes, epoch_s = run.notes, run.epoch_s
    events = [(at - epoch_s, e["kind"], e["reason"]) for at, e in notes.documents(EVENT)]
    named = next((at for at, kind, _ in events if kind == word and at >= start_s), None)
    assert named is not None, f"{word} was never named: {events}"
    assert named - start_s <= WITHIN_S, events
    end_s = start_s + length_s
    well = next((at for at, kind, _ in events if kind == "camera_recovered" and at >= max(end_s, named)), None)
    assert well is not None, f"no end of {word}: {events}"
    assert well - end_s <= WITHIN_S, events
    assert any((json.loads(s)["reason"] or "").startswith(word) for s in notes.statuses), notes.statuses
    assert json.loads(notes.statuses[-2])["reason"] is None


def frames_between(run: Watched, from_s: float, to_s: float) -> float:
    notes, epoch_s = run.notes, run.epoch_s
    inside = [r for at, r in notes.documents(TELEMETRY) if from_s + r["window_s"] <= at - epoch_s <= to_s]
    assert inside
    return sum(r["fps"] * r["window_s"] for r in inside)


def test_frames_that_are_no_pictures_never_crash_a_worker_and_do_not_count(watched: dict[str, Watched]) -> None:
    run = watched["no pictures"]
    hold(run, "camera_empty", 6, 3)
    hold(run, "camera_torn", 12, 3)
    hold(run, "camera_frozen", 18, 6)
    for start_s, end_s in ((6, 9), (12, 15), (18, 24)):
        assert frames_between(run, start_s, end_s) < 2, "damaged or repeated frames were counted"
    assert "worker_died" not in {e["kind"] for e in run.events}
    assert frames_between(run, 24.5, 29) > 20


def test_wrong_size_wrong_time_and_darkness_are_named(watched: dict[str, Watched]) -> None:
    run = watched["odd pictures"]
    hold(run, "camera_resized", 6, 3)
    hold(run, "camera_time_back", 12, 3)
    hold(run, "camera_black", 18, 5)
    latencies = [r["latency_ms"]["end_to_end"]["p50"] for _, r in run.notes.documents(TELEMETRY)]
    assert all(value is None or 0 <= value < 1000 for value in latencies)


def test_a_device_that_goes_and_comes_back_under_another_number_is_found(watched: dict[str, Watched]) -> None:
    run = watched["unplugged"]
    hold(run, "camera_lost", 6, 4)
    hold(run, "camera_lost", 16, 3)
    recovered = next(e for e in run.events if e["kind"] == "camera_recovered")
    assert recovered["detail"]["place"] == "/dev/video1"
    assert "the stream ended" in [e["reason"] for e in run.events if e["kind"] == "camera_lost"][1]
    assert not [e for e in run.events if e["kind"] in ("worker_died", "camera_stalled")]


def test_a_read_that_never_returns_costs_workers_and_the_next_ones_find_the_same_camera(
    watched: dict[str, Watched],
) -> None:
    run = watched["hung"]
    hold(run, "camera_stalled", 10, 11)
    assert [e["kind"] for e in run.events].count("camera_stalled") == 1, "an event for each worker that was ended"
    assert [e["detail"]["place"] for e in run.events if e["kind"] == "camera_recovered"][-1] == "/dev/video1"


def test_a_camera_that_is_not_there_is_waited_for_by_name(watched: dict[str, Watched]) -> None:
    run = watched["absent"]
    assert [e["kind"] for e in run.events if e["kind"] != "model_ready"] == ["camera_missing"]
    assert all(r["fps"] == 0 for _, r in run.notes.documents(TELEMETRY))


def test_a_frame_from_the_past_is_served_with_the_time_of_its_arrival() -> None:
    said: list[str] = []
    progress = Progress.create()
    options = SourceOptions(faults=("timejump@0",), fps=100.0)
    capture = capture_for("synthetic:64x48", options, Meter(), progress, lambda **words: said.append(words["state"]))
    capture.start()
    frames = [capture.take(2.0) for _ in range(20)]
    capture.stop()
    capture.join(5)
    progress.close()
    assert all(frame is not None and abs(time.monotonic() - frame.captured_s) < 60 for frame in frames)


def test_photos_of_different_sizes_that_play_by_turns_are_no_camera_trouble() -> None:
    """The `sample` source of the demo: a size that changes is what it does."""
    photos = tuple(np.random.default_rng(n).integers(0, 256, (60 + 20 * n, 80, 3)).astype(np.uint8) for n in range(3))
    said: list[str] = []
    progress = Progress.create()
    options = SourceOptions(fps=200.0, photos=photos)
    capture = capture_for("sample", options, Meter(), progress, lambda **words: said.append(words["state"]))
    capture.start()
    sizes = set()
    until = time.monotonic() + 5.0
    while time.monotonic() < until:
        frame = capture.take(0.1)
        sizes |= {frame.raw.shape} if frame else set()
    capture.stop()
    capture.join(5)
    progress.close()
    assert len(sizes) > 1
    assert said == ["opened"]

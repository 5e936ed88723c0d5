"""Several interpreters on one source: every frame once, in order, within bounds; a lane that hangs or fails shows."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit_device import vision
from edgekit_device.capture import Capture
from edgekit_device.choice import Choice, fingerprint, keep_choice
from edgekit_device.infer.interpreter import Engine
from edgekit_device.infer.tuning import Layout, choose_layout, layouts
from edgekit_device.lanes import Lanes, Look
from edgekit_device.meter import Meter
from edgekit_device.progress import Progress
from edgekit_device.sources.frame import Anonymous, Frame

sys.path.insert(0, str(Path(__file__).parent))
import runs
from conftest import Workshop, draw
from test_run import clip

LIMIT_S = 30.0


class Film(Anonymous):
    """Real pictures of three classes by turns, as fast as they are taken."""

    live, pace_s = False, 0.0

    def __init__(self, frames: int) -> None:
        self.pictures = [draw(shape) for shape in ("circle", "square", "triangle")]
        self.frames, self.count = frames, 0

    def read(self) -> Frame | None:
        if self.count == self.frames:
            return None
        self.count += 1
        return Frame(self.pictures[(self.count - 1) % 3], "RGB", time.monotonic(), self.count - 1)

    def close(self) -> None:
        pass


class Gated(Engine):
    """A real interpreter that waits for a gate before one inference, or fails there."""

    gate: Callable[[int], None] = staticmethod(lambda number: None)
    number = 0

    def invoke(self) -> Any:
        self.number += 1
        self.gate(self.number)
        return super().invoke()


class World:
    """Two real interpreters on one film."""

    def __init__(self, model: bytes, workshop: Workshop) -> None:
        self.engines = (Gated(model), Gated(model))
        self.looks: list[Look] = []
        self.progress, self.film = Progress.create(), Film(60)
        self.capture = Capture(self.film, Meter(), self.progress)
        self.capture.depth = 2
        self.lanes = Lanes(self.engines, workshop.manifest.preprocess, self.looks.append, self.progress)
        self.stopping = threading.Event()

    def run(self) -> None:
        self.capture.start()
        self.lanes.run(self.capture, self.stopping.is_set)

    @property
    def order(self) -> list[int]:
        return [look.frame.sequence for look in self.looks]


@pytest.fixture
def world(toy_model: bytes, workshop: Workshop) -> Iterator[World]:
    one = World(toy_model, workshop)
    yield one
    one.stopping.set()
    one.capture.stop()
    one.capture.join(5)
    one.progress.close()


def eventually(what: Callable[[], bool]) -> None:
    until = time.monotonic() + LIMIT_S
    while not what():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_results_keep_the_order_of_the_frames_and_are_those_of_one_interpreter(world: World, toy_model: bytes) -> None:
    # Now one lane is slower, now the other, so that without care later frames would come out first.
    world.engines[0].gate = lambda number: time.sleep(0.01 if number % 2 else 0.0)
    world.engines[1].gate = lambda number: time.sleep(0.0 if number % 3 else 0.015)
    world.run()
    assert world.order == list(range(60))
    alone = Engine(toy_model)
    for look in world.looks:
        expected = alone.scores(vision.to_model_input(look.frame.raw, world.lanes._spec))
        assert np.array_equal(look.scores, expected)
    assert all(engine.number > 1 for engine in world.engines), "one lane did everything"


def test_a_lane_that_hangs_shows_and_the_other_does_not_run_away(world: World) -> None:
    hangs, hang = [], threading.Event()

    def stop(number: int) -> None:
        if number == 2:
            hangs.append(time.monotonic())
            hang.wait(LIMIT_S)

    world.engines[1].gate = stop
    # Slow enough that its own inferences would show if they hid the one that hangs.
    world.engines[0].gate = lambda number: time.sleep(0.02)
    runner = threading.Thread(target=world.run, daemon=True)
    runner.start()
    eventually(lambda: bool(hangs))
    # Everything before its frame comes out, and what the other lane does since is kept back in order.
    while len(world.lanes._waiting) < 3:
        assert 0 < world.progress.look().infer_since_s <= hangs[0], "the watchdog does not see the oldest inference"
        assert time.monotonic() < hangs[0] + LIMIT_S
    done = len(world.looks)
    time.sleep(0.3)
    assert world.progress.look().infer_since_s <= hangs[0]
    assert len(world.lanes._waiting) == 3, "memory grows while a lane hangs"
    assert len(world.looks) == done < 60
    assert world.film.count <= done + 4 + world.capture.depth + 1
    hang.set()
    runner.join(LIMIT_S)
    assert world.order == list(range(60))
    assert world.progress.look().infer_since_s == 0


def test_what_a_lane_raises_ends_the_run(world: World) -> None:
    def fail(number: int) -> None:
        if number == 2:
            raise RuntimeError("the delegate refused")

    world.engines[1].gate = fail
    world.engines[0].gate = lambda number: time.sleep(0.01)  # So that the other has its turn.
    with pytest.raises(RuntimeError, match="refused"):
        world.run()
    assert world.order == list(range(len(world.looks)))


def test_told_to_stop_every_frame_taken_is_delivered(world: World) -> None:
    def enough() -> bool:
        return len(world.looks) >= 10

    world.capture.start()
    world.lanes.run(world.capture, enough)
    assert world.order == list(range(len(world.looks)))
    assert 10 <= len(world.looks) <= 14
    assert not world.lanes._waiting


def two_lanes(bundle: Path, source: str) -> None:
    """Leave the choice of two lanes where the next run finds it."""
    from edgekit_device.bundle import parse_bundle

    manifest = parse_bundle(bundle.read_bytes(), "b", "k").manifest
    sha256 = manifest.files[manifest.models["cpu"]].sha256
    key = fingerprint(sha256, source, mode="throughput")
    keep_choice(bundle.parent / "state" / "edgekit", key, Choice(threads={"xnnpack": 1}, lanes={"xnnpack": 2}))


def test_a_run_with_two_lanes_counts_every_frame_and_survives_a_kill(workshop: Workshop, tmp_path: Path) -> None:
    bundle = workshop.write(tmp_path / "toy-1.0.0.edgekit")
    source = f"video:{clip(tmp_path / 'clip.avi', frames=90)}"
    two_lanes(bundle, source)
    done = runs.run(bundle, workshop.public, "--source", source)
    assert done.code == 0, done.said
    assert sum(sum(r["class_counts"].values()) for r in done.readings) == 90
    assert done.readings[-1]["threads"] == 2, done.readings[-1]
    looping = runs.start(bundle, workshop.public, "--source", source, "--loop", "--interval", "0.2")
    assert looping.stdout is not None
    first = runs.worker_of(looping)
    while json.loads(looping.stdout.readline())["fps"] == 0:
        pass
    os.kill(first, signal.SIGKILL)
    second = runs.worker_of(looping, unlike=first)
    while json.loads(looping.stdout.readline())["fps"] > 0:  # What was counted before the kill.
        pass
    while json.loads(looping.stdout.readline())["fps"] == 0:
        pass
    assert second != first
    assert "worker_died" in runs.stop(looping).said


FAST_TOGETHER = {"1": 0.040, "2": 0.022, "4": 0.014, "4x1": 0.011}
FAST_ALONE = {"1": 0.040, "2": 0.021, "4": 0.011, "4x1": 0.0109}


@pytest.mark.parametrize(
    ("times", "pace_s", "mode", "expected"),
    [
        (FAST_TOGETHER, None, "throughput", "4x1"),
        (FAST_ALONE, None, "throughput", "4"),  # Four interpreters would cost memory for nothing.
        (FAST_TOGETHER, None, "latency", "4"),
        (FAST_TOGETHER, 1 / 30, "latency", "4"),
        (FAST_TOGETHER, 1 / 30, "throughput", "2"),  # The fewest threads that hold the camera's pace.
        (FAST_TOGETHER, 1 / 15, "throughput", "1"),
        (FAST_TOGETHER, 1 / 90, "throughput", "4x1"),  # None holds it alone.
    ],
)
def test_the_layout_follows_the_source_and_the_mode(
    times: dict[str, float], pace_s: float | None, mode: str, expected: str
) -> None:
    chosen, measured = choose_layout(
        lambda threads: times[str(threads)], lambda layout: times[str(layout)], 4, pace_s=pace_s, mode=mode
    )
    assert str(chosen) == expected
    assert expected in measured


def test_never_more_threads_than_allowed() -> None:
    for most in range(1, 9):
        assert all(layout.lanes * layout.threads <= most for layout in layouts(most))
    assert layouts(1) == [Layout(1, 1)]


@pytest.mark.parametrize("order", ["RGB", "BGR", "GRAY"])
@pytest.mark.parametrize("dtype", ["int8", "uint8", "float32"])
@pytest.mark.parametrize("color", ["RGB", "GRAY"])
def test_the_input_written_in_place_is_the_one_made_apart(order: str, dtype: str, color: str) -> None:
    from dataclasses import replace

    from edgekit_device.contract.preprocess import efficientnet_lite

    spec = efficientnet_lite(32)
    spec = spec if dtype == "float32" else spec.quantised(dtype, 1 / 128, -1 if dtype == "int8" else 127)
    if color == "GRAY":
        spec = replace(spec, color="GRAY", mean=(127.0,), std=(128.0,))
    shape = (60, 80) if order == "GRAY" else (60, 80, 3)
    frame = np.random.default_rng(3).integers(0, 256, shape, np.uint8)
    expected = vision.to_model_input(frame, spec, order)
    out = np.zeros_like(expected)
    vision.fill_model_input(frame, spec, order, out)
    assert np.array_equal(out, expected)


def test_a_model_reads_its_input_where_the_frame_was_written(toy_model: bytes, workshop: Workshop) -> None:
    engine, spec = Engine(toy_model), workshop.manifest.preprocess
    for shape in ("circle", "square", "circle"):
        frame = draw(shape)
        engine.load(lambda out, frame=frame: vision.fill_model_input(frame, spec, "RGB", out))
        assert np.array_equal(engine.invoke(), engine.scores(vision.to_model_input(frame, spec)))

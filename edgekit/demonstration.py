"""The whole line on this machine: weights, convert, verify, bundle, flash, run, monitor. Every part is the real one."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.artefacts import write_atomically, write_json
from edgekit.data import data_path
from edgekit.errors import DemoError
from edgekit_device.contract.preprocess import Preprocess

if TYPE_CHECKING:
    from edgekit.fleet.collector import Collector
    from edgekit.fleet.snapshot import FleetSnapshot
    from edgekit.fleet.watched import Watched
    from edgekit.pipeline import Conversion

VARIANT = "efficientnet-lite0"
FPS, WIDTH, HEIGHT = 30, 640, 480
_SECONDS_PER_PHOTO = 2.0
_CLIP_PHOTOS = (
    "cat-tabby.jpg", "coffee.jpg", "tiger.jpg", "rocket.jpg", "citrus.jpg", "astronaut.jpg", "bee.jpg", "dogs.jpg",
)  # fmt: skip
_START_LIMIT_S, _STOP_LIMIT_S, _ACK_LIMIT_S = 60.0, 15.0, 10.0


@dataclass
class DemoResult:
    """What the demo measured; every figure comes from the run itself.

    Attributes:
        folder: Where everything lies.
        photos: Per photo: file, float label and score, int8 label and score.
        agreement: Of int8 with float, as in OUT.json.
        size_ratio: Bytes of the float model divided by those of the int8 model.
        fps: New frames per second, mean over the Readings after the first.
        p50_ms: Median latency of a frame, preprocessing and inference, in the last full window.
        p95_ms: 95th percentile of the same.
        made: Messages that the board numbered: Readings and events.
        stored: Of these, rows in the database.
        dashboard: The dashboard answered, and showed the board.
        stages_s: Seconds that each stage took.
    """

    folder: Path
    photos: list[dict[str, Any]] = field(default_factory=list)
    agreement: dict[str, Any] = field(default_factory=dict)
    size_ratio: float = 0.0
    float_bytes: int = 0
    int8_bytes: int = 0
    fps: float = 0.0
    p50_ms: float | None = None
    p95_ms: float | None = None
    delegate: str | None = None
    made: int = 0
    stored: int = 0
    dashboard: bool = False
    stages_s: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """One object for --json and demo/result.json."""
        return {**vars(self), "folder": str(self.folder), "schema": 1}


Watch = Callable[["Callable[[], FleetSnapshot]", "Callable[[], bool]"], None]


def demo(
    *,
    seconds: float = 20.0,
    folder: str | Path = "demo",
    say: Callable[[str, str], None] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    watch: Watch | None = None,
    opened: Callable[[str], None] | None = None,
    stay: Callable[[DemoResult], None] | None = None,
) -> DemoResult:
    """Run the whole line.

    Args:
        seconds: How long the board runs.
        folder: Made new; what an earlier demo left there is removed.
        say: Told (stage, what came of it).
        progress: Called with (stage, done, total) during conversion.
        watch: Given a function that takes a snapshot of the fleet and one that says whether the board still runs;
            returns when it does not. By default nothing is shown.
        opened: Told the dashboard's address once it answers.
        stay: Called with the result at the end, while the dashboard still answers.

    Raises:
        EdgeKitError: A stage failed; nothing after it was run.
    """
    from edgekit import pipeline

    place = _fresh(Path(folder))
    result = DemoResult(place)
    tell = say or (lambda stage, text: None)

    with _stage(result, "convert"):
        made = pipeline.convert(VARIANT, out=place / "lite0.tflite", progress=progress)
        write_atomically(place / "lite0_float.tflite", made.float_model)
        _note_conversion(result, made)
    tell("convert", f"{made.sidecar.weights['source']} weights to int8, {result.size_ratio:.2f} x smaller")
    with _stage(result, "verify"):
        verdict, _ = pipeline.verify(made.path)
        verdict.require(str(made.path))
        result.photos = _side_by_side(made)
    tell("verify", f"{len(verdict.findings)} checks passed")
    with _stage(result, "bundle"):
        from edgekit.trust.keys import new_keys

        key = new_keys(place / "keys")
        written = pipeline.bundle(made.path, out=place / "lite0-1.0.0.edgekit", sign=key.path)
    tell("bundle", f"{written.manifest.bundle_id}, signed by {written.key_id}")
    from edgekit.fleet.broker import EmbeddedBroker
    from edgekit.fleet.watched import watched

    with ExitStack() as stack:
        broker = stack.enter_context(EmbeddedBroker())
        with _stage(result, "flash"):
            settings = {"broker": broker.address.url, "site": "home", "id": "demo", "interval_s": 1.0}
            pipeline.flash(written.path, [f"dir:{place / 'board'}"], settings=settings, public_key=key.public_path)
        tell("flash", f"into {place / 'board'}, as onto a board's disk")
        with _stage(result, "film"):
            clip = film(place / "clip.avi")
        tell("film", f"{clip}: real photos in motion, {WIDTH} x {HEIGHT}, {FPS} frames/s")
        with _stage(result, "run"):
            running = stack.enter_context(
                watched(place, broker.address, "This is the demo: one board, on this machine.")
            )
            tell("monitor", f"dashboard at {running.url}")
            if opened:
                opened(running.url)
            _run_and_watch(result, running, clip, seconds, watch)
        tell("run", f"{result.fps:.1f} FPS on {result.delegate}, {result.stored} of {result.made} messages stored")
        write_json(place / "result.json", result.to_json())
        if stay:
            stay(result)
    return result


def film(path: Path) -> Path:
    """Make a clip of the shipped photos, panned like a slow camera move: MJPG, 640 x 480, 30 frames/s.

    Raises:
        DemoError: OpenCV cannot write it.
    """
    import cv2

    from edgekit_device import vision
    from edgekit_device.sources.sample import pan

    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), FPS, (WIDTH, HEIGHT))
    if not writer.isOpened():
        raise DemoError("film", f"OpenCV cannot write {path}")
    frames = int(_SECONDS_PER_PHOTO * FPS)
    try:
        for name in _CLIP_PHOTOS:
            photo = vision.decode_image(data_path("calibration_data", name).read_bytes())
            for number in range(frames):
                shown = cv2.resize(pan(photo, number / frames), (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
                writer.write(cv2.cvtColor(shown, cv2.COLOR_RGB2BGR))
    finally:
        writer.release()
    return path


def _fresh(folder: Path) -> Path:
    if folder.exists():
        if any(folder.iterdir()) and not (folder / "result.json").exists() and not (folder / ".edgekit-demo").exists():
            raise DemoError("start", f"{folder} holds something that no demo made; name another with --folder")
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    (folder / ".edgekit-demo").touch()
    return folder


@contextmanager
def _stage(result: DemoResult, name: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    result.stages_s[name] = round(time.monotonic() - began, 2)


def _note_conversion(result: DemoResult, made: Conversion) -> None:
    result.agreement = made.agreement.to_json() if made.agreement else {}
    result.float_bytes, result.int8_bytes = len(made.float_model), made.sidecar.bytes
    result.size_ratio = round(result.float_bytes / result.int8_bytes, 3)


def _side_by_side(made: Conversion) -> list[dict[str, Any]]:
    """The top label of both models on some shipped photos, through the board's own code."""
    from edgekit.conversion.noise import captured
    from edgekit_device import vision
    from edgekit_device.infer.interpreter import Engine

    labels = made.labels.read_text("utf-8").splitlines() if made.labels else []
    spec = Preprocess.from_json(dict(made.sidecar.preprocess))
    with captured():
        engines = {"float": Engine(made.float_model), "int8": Engine(made.path.read_bytes())}
    rows = []
    for name in _CLIP_PHOTOS:
        pixels = vision.decode_image(data_path("calibration_data", name).read_bytes())
        row: dict[str, Any] = {"photo": name}
        for kind, engine in engines.items():
            own = spec.quantised(engine.input.dtype, engine.input.scale, engine.input.zero_point)
            scores = engine.scores(vision.to_model_input(pixels, own))
            row[kind], row[f"{kind}_score"] = labels[int(scores.argmax())], round(float(scores.max()), 3)
        rows.append(row)
    return rows


def _run_and_watch(result: DemoResult, running: Watched, clip: Path, seconds: float, watch: Watch | None) -> None:
    board = _start_board(result.folder, clip, seconds)
    try:
        if watch:
            watch(running.collector.latest, lambda: board.poll() is None)
        code = board.wait(seconds + _START_LIMIT_S + _STOP_LIMIT_S)
    except subprocess.TimeoutExpired as cause:
        raise DemoError("run", "the board did not stop; see board.log") from cause
    finally:
        if board.poll() is None:
            board.kill()
            board.wait()
    if code != 0:
        raise DemoError("run", f"the board ended with exit code {code}: {_last_line(result.folder)}")
    lines = _readings(result.folder)
    _wait_for_rows(running.collector, lines)
    result.stored = running.collector.latest().stored
    _note_readings(result, lines)
    _look(result, running.url)


def _look(result: DemoResult, url: str) -> None:
    """Open the page as a browser does: the board must stand on the wall."""
    from edgekit.fleet.watched import shows

    try:
        result.dashboard = shows(url, "/boards/home/demo", _ACK_LIMIT_S)
    except OSError as cause:
        raise DemoError("monitor", f"the dashboard does not answer: {cause}") from cause
    if not result.dashboard:
        raise DemoError("monitor", "the dashboard does not show the board")


def _start_board(folder: Path, clip: Path, seconds: float) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", "edgekit_device", "run", "--root", str(folder / "board")]
    words += ["--source", f"video:{clip}", "--realtime", "--loop", "--seconds", f"{seconds:g}", "--json"]
    with (folder / "readings.jsonl").open("wb") as out, (folder / "board.log").open("wb") as log:
        return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=log)


def _last_line(folder: Path) -> str:
    lines = (folder / "board.log").read_text("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def _readings(folder: Path) -> list[dict[str, Any]]:
    import json

    return [json.loads(line) for line in (folder / "readings.jsonl").read_text("utf-8").splitlines()]


def _wait_for_rows(collector: Collector, readings: Sequence[dict[str, Any]]) -> None:
    """The board has gone; what the broker still holds comes within moments."""
    if not readings:
        raise DemoError("run", "the board made no Reading; see board.log")
    made = readings[-1]["seq"] + 1
    until = time.monotonic() + _ACK_LIMIT_S
    while collector.latest().stored < made:
        if time.monotonic() > until:
            raise DemoError("monitor", f"{collector.latest().stored} of {made} messages were stored")
        time.sleep(0.05)


def _note_readings(result: DemoResult, readings: Sequence[dict[str, Any]]) -> None:
    # The first window holds the start of the interpreter, the rest is what a viewer sees.
    steady = [r for r in readings[1:] if r["fps"] > 0] or [r for r in readings if r["fps"] > 0]
    if not steady:
        raise DemoError("run", "no frame was served; see board.log")
    result.made = readings[-1]["seq"] + 1
    result.fps = round(sum(r["fps"] * r["window_s"] for r in steady) / sum(r["window_s"] for r in steady), 2)
    last = steady[-1]
    result.delegate = last["delegate"]
    result.p50_ms, result.p95_ms = (last["latency_ms"]["end_to_end"][q] for q in ("p50", "p95"))

"""One row of a bench, measured in a child: a rung and a layout, cold and then under load."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import cycle
from typing import TYPE_CHECKING, Any

from edgekit_device import vision
from edgekit_device.bundle import parse_bundle
from edgekit_device.capture import Capture, capture_for
from edgekit_device.contract.errors import EdgeKitError
from edgekit_device.infer.rung import open_rung
from edgekit_device.lanes import Lanes, Look
from edgekit_device.meter import Meter, quantiles_ms
from edgekit_device.progress import Progress, read_memory
from edgekit_device.sources.frame import Anonymous, Frame, SourceOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgekit_device.vision import Pixels

_PARTS = 3


class Album(Anonymous):
    """Pictures from memory, as fast as they are taken: what is left is the cost of everything behind a camera."""

    live, pace_s = False, 0.0

    def __init__(self, photos: Sequence[Pixels]) -> None:
        self._photos, self._count = cycle(photos), 0

    def read(self) -> Frame | None:
        """The next picture, for ever."""
        self._count += 1
        return Frame(next(self._photos), "RGB", time.monotonic(), self._count - 1)

    def close(self) -> None:
        """Nothing is held."""


class Notebook:
    """Takes looks, and knows when each result was there."""

    def __init__(self) -> None:
        self.preprocess_s: list[float] = []
        self.invoke_s: list[float] = []
        self.to_result_s: list[float] = []
        self.at_s: list[float] = []

    def add(self, look: Look) -> None:
        """One result."""
        now = time.monotonic()
        self.preprocess_s.append(look.preprocess_s)
        self.invoke_s.append(look.invoke_s)
        self.to_result_s.append(now - look.frame.captured_s)
        self.at_s.append(now)

    def rates(self, began_s: float, ended_s: float) -> list[float]:
        """Frames per second in each third of the time: what falls is a board that gets too hot."""
        step = max(ended_s - began_s, 1e-9) / _PARTS
        counts = [0] * _PARTS
        for at in self.at_s:
            counts[min(_PARTS - 1, int((at - began_s) / step))] += 1
        return [round(count / step, 2) for count in counts]


def measure(config: dict[str, Any]) -> dict[str, Any]:
    """Measure one row.

    Args:
        config: `fd`, `path`, `key_id` of the sealed bundle; `rung`, `lanes`, `threads`; `source` (None: the bundle's
            own photos) and its `options`; `seconds`.

    Returns:
        The row, or ``{"problem": words}``.
    """
    try:
        return _measure(config)
    except EdgeKitError as error:
        return {"problem": str(error)}


def _measure(config: dict[str, Any]) -> dict[str, Any]:
    bundle = parse_bundle(read_memory(config["fd"]), config["path"], config["key_id"])
    began = time.monotonic()
    rung = open_rung(bundle, config["rung"], config["threads"], lanes=config["lanes"])
    ready_s = time.monotonic() - began
    meter, progress, notes = Meter(), Progress.create(), Notebook()
    capture = _capture(config, [vision.decode_image(bundle.files[n]) for n in bundle.manifest.golden_images], meter)
    capture.depth = len(rung.engines)
    reading_s: list[float] = []
    _time_reads(capture, reading_s)
    lanes = Lanes(rung.engines, rung.preprocess, notes.add, progress)
    capture.start()
    first = capture.take(10.0)
    if first is None:
        return {"problem": str(capture.error or "the source shows nothing")}
    meter.take()
    began, processor = time.monotonic(), time.process_time()
    until = began + config["seconds"]
    lanes.run(capture, lambda: time.monotonic() >= until)
    ended, processor = time.monotonic(), time.process_time() - processor
    capture.stop()
    window, frames = meter.take(), len(notes.at_s)
    if not frames:
        return {"problem": str(capture.error or "no frame came in that time")}
    return {
        "interpreter": rung.engine.interpreter,
        "ready_ms": round(ready_s * 1000, 1),
        "cold_ms": rung.golden["cold_ms"],
        "frames": frames,
        "seconds": round(ended - began, 3),
        "fps": round(frames / (ended - began), 2),
        "fps_by_third": notes.rates(began, ended),
        "dropped": window["frames_dropped"],
        "live": capture.live,
        # A camera's read waits for the world; only a file's says what a frame costs.
        "capture_ms": None if capture.live else quantiles_ms(reading_s),
        "preprocess_ms": quantiles_ms(notes.preprocess_s),
        "invoke_ms": quantiles_ms(notes.invoke_s),
        # Of a file a frame waits for the interpreter on purpose; only of a live source is its age a latency.
        "capture_to_result_ms": quantiles_ms(notes.to_result_s) if capture.live else None,
        "cpu_ms_per_frame": round(processor * 1000 / frames, 3),
    }


def _capture(config: dict[str, Any], photos: Sequence[Pixels], meter: Meter) -> Capture:
    progress = Progress.create()
    if config["source"] is None:
        return Capture(Album(photos), meter, progress)
    options = SourceOptions(**config["options"])
    if config["source"] == "sample":
        options = replace(options, photos=tuple(photos))
    return capture_for(config["source"], options, meter, progress, lambda **_: None)


def _time_reads(capture: Capture, into: list[float]) -> None:
    """Note how long each read of a file takes."""
    source = capture._source
    if source is None or capture.live:
        return
    read = source.read

    def timed() -> Frame | None:
        began = time.monotonic()
        frame = read()
        into.append(time.monotonic() - began)
        return frame

    source.read = timed  # type: ignore[method-assign]

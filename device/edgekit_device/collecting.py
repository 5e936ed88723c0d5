"""`edgekit-device capture`: pictures of this very camera, for calibration and training. Off unless asked for."""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit_device.album import Album
from edgekit_device.contract.clock import utc_text
from edgekit_device.contract.errors import SourceBrokenError, SourceUnavailableError, UsageError
from edgekit_device.sources import check_source
from edgekit_device.sources.frame import SourceOptions

if TYPE_CHECKING:
    from edgekit_device.capture import Capture
    from edgekit_device.diversity import Chooser
    from edgekit_device.sources.frame import Frame

    Judge = Callable[[Frame], dict[str, Any]]

_LOOKS_PER_S = 10.0
_QUALITY = 92
_WAIT_S = 0.2
_SILENCE_S = 30.0
_DARK = 0.06  # Brightest of the small picture, 0..1.


@dataclass(frozen=True)
class Limits:
    """When to stop.

    Attributes:
        count: Pictures to keep.
        seconds: Longest time; None is for ever.
        silence_s: Longest wait for a frame: a read that hangs for ever cannot be ended from here, only left.
    """

    count: int
    seconds: float | None = None
    silence_s: float = 30.0


def encode(frame: Frame) -> bytes:
    """One frame as JPEG, quality 92: what calibration reads later must not show the coder's blocks."""
    import cv2

    from edgekit_device import vision

    bgr = frame.raw if frame.order == "GRAY" else vision.to_color(frame.raw, frame.order, "BGR")
    return bytes(cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes())


def collect(
    capture: Capture,
    chooser: Chooser,
    album: Album,
    limits: Limits,
    judge: Judge | None = None,
    stop: threading.Event | None = None,
) -> dict[str, Any]:
    """Look at frames and keep the diverse ones.

    Args:
        capture: Started; a camera's troubles are waited through.
        chooser: Says which are worth it.
        album: Where they go.
        limits: When to stop.
        judge: What a model says of a frame; None without one.
        stop: Ends it when set.

    Returns:
        ``kept``, ``seen``, ``bytes``, ``stopped`` (``count``, ``budget``, ``seconds``, ``silence``, ``end`` or
        ``asked``) and ``reasons``.
    """
    from edgekit_device.diversity import thumb

    reasons: dict[str, int] = {}
    kept = seen = 0
    stopped = "count"
    began_s = last_s = time.monotonic()
    while kept < limits.count:
        if stop is not None and stop.is_set():
            stopped = "asked"
            break
        if limits.seconds is not None and time.monotonic() - began_s >= limits.seconds:
            stopped = "seconds"
            break
        frame = capture.take(_WAIT_S)
        if frame is None:
            if capture.finished:
                stopped = "end"
                break
            if time.monotonic() - last_s >= limits.silence_s:
                stopped = "silence"
                break
            continue
        last_s = time.monotonic()
        seen += 1
        looked_s = time.monotonic()
        small = thumb(frame.pixels)
        if capture.trouble is not None or small.max() < _DARK:
            continue  # Nothing is learnt of a camera from what it shows while it is covered or broken.
        says = judge(frame) if judge is not None else {}
        reason = chooser.reason(small, says.get("margin"), looked_s)
        if reason is not None:
            distance = round(chooser.distance(small), 4)
            height, width = frame.raw.shape[:2]
            about = {"at": utc_text(), "reason": reason, "distance": distance, "height": height, "width": width}
            if album.add(encode(frame), {"margin": None, **about, **says}) is None:
                stopped = "budget"
                break
            chooser.keep(small, looked_s)
            kept += 1
            reasons[reason] = reasons.get(reason, 0) + 1
        if capture.live:
            time.sleep(max(0.0, 1 / _LOOKS_PER_S - (time.monotonic() - looked_s)))
    return {"kept": kept, "seen": seen, "bytes": album.used_bytes, "stopped": stopped, "reasons": reasons}


def model_judge(args: argparse.Namespace) -> Judge | None:
    """What the bundle's model says of a frame; None when no bundle was named."""
    if not args.bundle:
        return None
    from edgekit_device import vision
    from edgekit_device.bundle import open_bundle
    from edgekit_device.infer.interpreter import Engine
    from edgekit_device.meter import uncertainty
    from edgekit_device.running import find_bundle

    path, keys = find_bundle(args)
    bundle, _ = open_bundle(path, keys)
    engine = Engine(bundle.model("cpu"), name=bundle.manifest.bundle_id)

    def judge(frame: Frame) -> dict[str, Any]:
        scores = engine.scores(vision.to_model_input(frame.raw, bundle.manifest.preprocess, frame.order))
        top = int(scores.argmax())
        margin = round(uncertainty(scores)[1], 4)
        return {
            "bundle": bundle.manifest.bundle_id,
            "label": bundle.labels[top],
            "margin": margin,
            "score": round(float(scores[top]), 4),
        }

    return judge


class _Troubles:
    """Says what becomes of the camera, and stops when it was never there: here is somebody who can plug it in."""

    def __init__(self, stop: threading.Event) -> None:
        self.missing: str | None = None
        self._stop, self._opened = stop, False

    def __call__(self, **said: Any) -> None:
        self._opened = self._opened or said["state"] == "opened"
        if said["state"] in ("opened", "ok"):
            return
        if not self._opened:
            self.missing = said["reason"]
            self._stop.set()
            return
        sys.stderr.write(f"edgekit-device: {said['state']}: {said['reason']}\n")


@contextlib.contextmanager
def _stopped_by_signals(stop: threading.Event) -> Iterator[None]:
    """Ctrl-C ends the collecting, not the process: what was kept is reported."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, lambda *_: stop.set())
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def capture(args: argparse.Namespace) -> int:
    """The verb.

    Returns:
        Exit code.

    Raises:
        UsageError: A count or a budget that leaves nothing to do.
        SourceError: No such camera or file, one that broke, or one that gives no frame any more.
        AlbumError: The folder cannot be written.
    """
    if args.count < 1 or not args.budget_mb > 0:
        raise UsageError("--count and --budget-mb must be above 0")
    options = SourceOptions(roi=args.roi, faults=tuple(args.fault), realtime=args.realtime)
    check_source(args.source, options)
    from edgekit_device.capture import capture_for
    from edgekit_device.diversity import Chooser, Rule, thumb
    from edgekit_device.meter import Meter
    from edgekit_device.progress import Progress
    from edgekit_device.vision import decode_image

    judge = model_judge(args)
    album = Album(Path(args.out), int(args.budget_mb * 1e6))
    chooser = Chooser(Rule(every_s=args.every))
    for picture in album.pictures():
        chooser.keep(thumb(decode_image(picture.read_bytes())))
    stop = threading.Event()
    troubles = _Troubles(stop)
    thread = capture_for(args.source, options, Meter(), Progress.create(), troubles)
    with _stopped_by_signals(stop):
        thread.start()
        try:
            result = collect(thread, chooser, album, Limits(args.count, args.seconds, _SILENCE_S), judge, stop)
        finally:
            thread.stop()
    if troubles.missing:
        raise SourceUnavailableError(args.source, troubles.missing)
    if thread.error is not None:
        raise thread.error
    if result["stopped"] == "silence":
        kept = f"{result['kept']} pictures are kept in {args.out}"
        raise SourceBrokenError(
            args.source, f"no frame for {_SILENCE_S:.0f} s: plug it in again, then run this again ({kept})"
        )
    _report(args, result)
    return 0


def _report(args: argparse.Namespace, result: dict[str, Any]) -> None:
    if args.json:
        print(json.dumps({"schema": 1, "folder": args.out, **result}, sort_keys=True))
        return
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(result["reasons"].items())) or "none"
    print(f"{result['kept']} of {result['seen']} frames kept ({reasons}); stopped by: {result['stopped']}")
    print(f"{args.out} holds {result['bytes'] / 1e6:.1f} MB; next: edgekit convert ... --calibration {args.out}")

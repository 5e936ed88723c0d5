"""The worker process: holds the camera and the interpreter, and may die at any time.

It gets a sealed copy of the bundle that the supervisor verified, proves the golden vectors, then serves. Frames
never leave this process. Messages to the supervisor are JSON lines on a pipe of their own, so that nothing a
native library prints can be mistaken for one.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from edgekit_device import memory, vision
from edgekit_device.beside import Beside, Model, Stopwatch
from edgekit_device.bundle import parse_bundle
from edgekit_device.capture import Capture, capture_for
from edgekit_device.contract.errors import EdgeKitError, SourceError
from edgekit_device.infer import edgetpu
from edgekit_device.infer.rung import open_rung
from edgekit_device.lanes import Lanes, Look, look_at
from edgekit_device.meter import Meter
from edgekit_device.progress import Progress, read_memory
from edgekit_device.slowness import warnings_for
from edgekit_device.smoothing import Smoother, SmoothingRule
from edgekit_device.snapshot import Snapshot
from edgekit_device.soundness import check_classes
from edgekit_device.sources.frame import SourceOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgekit_device.infer.rung import Rung
    from edgekit_device.preview import Preview
    from edgekit_device.sources.frame import Frame

_IDLE_WAIT_S = 0.2


class Channel:
    """Messages to the supervisor, one JSON line each, from any thread."""

    def __init__(self, fd: int) -> None:
        self._file = os.fdopen(fd, "w", buffering=1, encoding="utf-8")
        self._lock = threading.Lock()

    def send(self, kind: str, **values: Any) -> None:
        """Send one message; a supervisor that is gone ends the worker."""
        line = json.dumps({"type": kind, **values}, separators=(",", ":"))
        with self._lock:
            try:
                self._file.write(line + "\n")
            except OSError:
                os._exit(0)


class Server:
    """The serving loop and what it knows about now."""

    def __init__(
        self, rung: Rung, labels: Sequence[str], meter: Meter, channel: Channel, progress: Progress, bundle: str = ""
    ) -> None:
        self.model = Model(bundle, rung, tuple(labels))
        self.other: Model | None = None
        self.meter, self.channel, self.progress = meter, channel, progress
        self.watch = Stopwatch()
        self._beside: Beside | None = None
        self._swapping, self._swap = threading.Lock(), threading.Event()
        self.smoother = Smoother(SmoothingRule())
        self.now: dict[str, Any] = {"label": None, "score": None}
        self.preview: Preview | None = None
        self.snapshot = Snapshot(channel.send)
        self.stopping = threading.Event()
        self._claim: tuple[int, bool] | None = None
        self._served = 0

    def serve(self, frame: Frame) -> None:
        """Classify one frame and count it."""
        self.progress.put("infer_since_s", time.monotonic())
        look = look_at(self.model.rung.engine, self.model.rung.preprocess, frame)
        self.progress.put("infer_since_s", 0.0)
        self.deliver(look)

    def deliver(self, look: Look) -> None:
        """Decide on one classified frame, and count it."""
        began = time.monotonic()
        model, scores = self.model, look.scores
        top = int(scores.argmax())
        if scores[top] < float("inf"):
            self._decide(model.labels, top, float(scores[top]))
        else:
            self.watch.odd += 1  # NaN, which argmax finds first, is no decision.
        self.watch.seconds.append(look.invoke_s)
        whole_s = look.preprocess_s + look.invoke_s + time.monotonic() - began
        seconds = {"preprocess": look.preprocess_s, "invoke": look.invoke_s, "end_to_end": whole_s}
        self.meter.served(seconds, scores, new=True)
        self._served += 1
        self.progress.put("served", self._served)
        beside = self._beside
        if beside is not None:
            beside.offer(look.frame, model.labels[top])
        if self.preview is not None:
            self.preview.studio.show(look.frame, self.now["label"], self.now["score"])
        if self.snapshot.wanted:
            self.snapshot.show(look.frame, self.now)

    def _decide(self, labels: Sequence[str], top: int, score: float) -> None:
        decision = self.smoother.add(top, score)
        label = labels[decision.index]
        self.now = {"label": label, "score": round(decision.score, 4)}
        if self._claim != (decision.index, decision.accepted):
            self._claim = (decision.index, decision.accepted)
            word = "accepted" if decision.accepted else "uncertain"
            self.channel.send("result", decision=word, bundle=self.model.bundle_id, **self.now)

    def _exchange(self) -> None:
        """Between two frames: serve with the model beside, and keep the one that served until it is dropped.

        The window is closed first, so that no Reading is a mixture of two models.
        """
        beside, self._beside = self._beside, None
        incoming = (beside.model if beside else None) or self.other
        if beside:
            beside.stop()
        if incoming is None:
            return
        with self._swapping:
            closed, said = self.meter.take(), self.now
            self.model, self.other = incoming, self.model
            self.smoother, self.watch = Smoother(SmoothingRule()), Stopwatch()
            self.now, self._claim = {"label": None, "score": None}, None
            self.channel.send("swapped", window=closed, now=said, **incoming.facts)

    def _drop(self) -> None:
        """Forget every model but the one that serves; a delegate goes with its interpreter."""
        if self._beside:
            self._beside.stop()
        self.other = self._beside = None
        memory.give_back()
        if self.model.rung.engine.delegate != edgetpu.NAME:
            edgetpu.give_back()

    def run(self, capture: Capture) -> None:
        """Serve until the source ends or the supervisor says stop."""
        while not self.stopping.is_set():
            if self._swap.is_set():
                self._swap.clear()
                self._exchange()
            rung = self.model.rung
            if rung.more:
                lanes = Lanes(rung.engines, rung.preprocess, self.deliver, self.progress)
                lanes.run(capture, lambda: self.stopping.is_set() or self._swap.is_set())
            frame = capture.take(_IDLE_WAIT_S)
            if frame is not None:
                self.serve(frame)
            elif capture.finished:
                break

    def obey(self, commands: Any) -> None:
        """Answer the supervisor's commands; the end of the pipe means that it is gone."""
        for line in commands:
            command = json.loads(line)
            if command["cmd"] == "window":
                with self._swapping:
                    self.channel.send("window", id=command["id"], window=self.meter.take(), now=self.now)
            elif command["cmd"] == "load":
                self._drop()
                self._beside = Beside(command, self.channel.send)
                self._beside.start()
            elif command["cmd"] == "duel" and self.other is not None:
                self._beside = Beside(command, self.channel.send, self.other)
                self._beside.start()
            elif command["cmd"] == "swap":
                self._swap.set()
            elif command["cmd"] == "drop":
                self._drop()
            elif command["cmd"] == "measure":
                self.channel.send("measured", bundle=self.model.bundle_id, **self.watch.measured())
                if command.get("forget"):
                    self.watch.seconds.clear()
            elif command["cmd"] == "picture":
                self.snapshot.take(command["id"])
            elif command["cmd"] == "stop":
                self.stopping.set()
        os._exit(0)


def _prepare(config: dict[str, Any], channel: Channel, progress: Progress) -> tuple[Server, Capture]:
    began = time.monotonic()
    bundle = parse_bundle(read_memory(config["bundle_fd"]), config["bundle_path"], config["key_id"])
    manifest = bundle.manifest
    options = SourceOptions(**config["options"], faults=tuple(config["faults"]))
    if config["source"] == "sample":
        photos = tuple(vision.decode_image(bundle.files[name]) for name in manifest.golden_images)
        options = replace(options, photos=photos)
    meter = Meter()
    capture = capture_for(config["source"], options, meter, progress, partial(channel.send, "camera"))
    channel.send("opening", delegate=config["delegate"])
    rung = open_rung(
        bundle,
        config["delegate"],
        config["threads"],
        most_threads=config["most_threads"],
        pace_s=capture.pace_s if capture.live else None,
        lanes=config["lanes"],
        mode=config["mode"],
    )
    check_classes(rung, bundle)
    engine, capture.depth = rung.engine, len(rung.engines)
    server = Server(rung, bundle.labels, meter, channel, progress, manifest.bundle_id)
    server.snapshot = Snapshot(channel.send, allowed=config["pictures"], trouble=lambda: capture.trouble)
    if config["preview"]:
        _serve_preview(config["preview"], server, capture)
    progress.put("serving_since_s", time.monotonic())
    channel.send(
        "ready",
        delegate=engine.delegate,
        threads=engine.threads * len(rung.engines),
        interpreter=engine.interpreter,
        golden=rung.golden,
        tuned_ms=rung.tuned_ms,
        # Measured once for a machine and a model, like the threads: on one core, where those need no measurement, too.
        warnings=warnings_for(
            engine.interpreter,
            engine.input.dtype,
            measure=not config["threads"] and config["delegate"] != edgetpu.NAME,
        ),
        lanes=len(rung.engines),
        live=capture.live,
        pace_s=capture.pace_s,
        seconds=round(time.monotonic() - began, 3),
    )
    return server, capture


def _prove_only(config: dict[str, Any], channel: Channel) -> None:
    """Open and prove one rung, for a supervisor that wants to know whether it is back."""
    bundle = parse_bundle(read_memory(config["bundle_fd"]), config["bundle_path"], config["key_id"])
    rung = open_rung(bundle, config["delegate"], config["threads"] or 1)
    channel.send("ready", delegate=rung.engine.delegate, golden=rung.golden)


def _serve_preview(address: dict[str, Any], server: Server, capture: Capture) -> None:
    """The preview page; a port that is taken is no reason not to serve."""
    from edgekit_device.preview import serve_when_free
    from edgekit_device.preview_address import PreviewAddress

    def found(preview: Preview) -> None:
        server.preview = preview

    failed = partial(server.channel.send, "notice", word="preview_failed")
    serve_when_free(PreviewAddress(**address), lambda: capture.trouble, found, lambda why: failed(reason=why))


def main() -> None:
    """Serve as the config on the first line of stdin says."""
    # Ctrl-C in a terminal reaches the whole group; only the supervisor decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    config = json.loads(sys.stdin.readline())
    channel, progress = Channel(config["message_fd"]), Progress(config["progress_fd"])
    try:
        if config["probe"]:
            _prove_only(config, channel)
            return
        server, capture = _prepare(config, channel, progress)
    except EdgeKitError as error:
        kind = "source" if isinstance(error, SourceError) else "model"
        channel.send("failed", stage=kind, error=type(error).__name__, reason=str(error))
        sys.exit(1)
    threading.Thread(target=server.obey, args=(sys.stdin,), name="commands", daemon=True).start()
    capture.start()
    server.run(capture)
    capture.stop()
    error_now = capture.error
    channel.send("end", error=None if error_now is None else str(error_now))
    # The supervisor still asks for the last window; it closes the pipe when it has it.
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()


if __name__ == "__main__":
    main()

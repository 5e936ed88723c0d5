"""A second model in the worker, beside the one that serves: loaded, proved, and shown some frames, in its own thread.

The serving loop only hands over a reference to a frame that it has served, and never waits.
"""

from __future__ import annotations

import hashlib
import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from edgekit_device.bundle import parse_bundle, read_file
from edgekit_device.contract.errors import DigestMismatchError, EdgeKitError
from edgekit_device.contract.file_table import MAX_BUNDLE_BYTES
from edgekit_device.infer.rung import Rung, open_rung
from edgekit_device.lanes import look_at
from edgekit_device.meter import quantiles_ms
from edgekit_device.soundness import check_sound

if TYPE_CHECKING:
    from edgekit_device.sources.frame import Frame

_KEPT = 1000
_LOOK_S = 0.2


class Model(NamedTuple):
    """A proved model and the names of its classes.

    Attributes:
        bundle_id: ``NAME-VERSION`` that it came from.
        rung: Open and proved.
        labels: One a class.
    """

    bundle_id: str
    rung: Rung
    labels: tuple[str, ...]

    @property
    def facts(self) -> dict[str, Any]:
        """What a supervisor wants to know of it."""
        engine = self.rung.engine
        return {
            "bundle": self.bundle_id,
            "delegate": engine.delegate,
            "threads": engine.threads * len(self.rung.engines),
            "lanes": len(self.rung.engines),
            "interpreter": engine.interpreter,
            "golden": self.rung.golden,
        }


class Stopwatch:
    """Times of the last inferences of the model that serves, and how many gave no number; one writer."""

    def __init__(self) -> None:
        self.seconds: deque[float] = deque(maxlen=_KEPT)
        self.odd = 0

    def measured(self) -> dict[str, Any]:
        """``{"frames", "p50_ms", "p95_ms", "odd"}``."""
        return {**_measured(list(self.seconds)), "odd": self.odd}


class Beside(threading.Thread):
    """Loads one bundle and shadows the serving model with it.

    Attributes:
        model: The model, once it is ready.
    """

    def __init__(self, order: dict[str, Any], send: Callable[..., None], model: Model | None = None) -> None:
        """Args: the order (path, sha256, key_id, delegate, threads, lanes, frames); how to answer; a loaded model."""
        super().__init__(name="beside", daemon=True)
        self._order, self._send = order, send
        self.model = model
        self._frames: queue.Queue[tuple[Frame, str]] = queue.Queue(1)
        self._enough = threading.Event()

    def run(self) -> None:
        """Load, answer, shadow, answer."""
        try:
            model = self.model
            if model is None:
                began = time.monotonic()
                self.model = model = self._load()
                self._send("beside", seconds=round(time.monotonic() - began, 3), **model.facts)
            if self._order["frames"]:
                self._shadow(model, self._order["frames"])
        except (EdgeKitError, RuntimeError, ValueError, MemoryError) as error:
            # The last three are what an interpreter raises out of an inference.
            self._send("beside_failed", bundle=self._order.get("bundle"), reason=str(error) or type(error).__name__)

    def _load(self) -> Model:
        order = self._order
        data = read_file(Path(order["path"]), MAX_BUNDLE_BYTES)
        digest = hashlib.sha256(data).hexdigest()
        if digest != order["sha256"]:
            raise DigestMismatchError(order["path"], order["sha256"], digest)
        bundle = parse_bundle(data, order["path"], order["key_id"])
        rung = open_rung(bundle, order["delegate"], order["threads"], lanes=order["lanes"])
        check_sound(rung, bundle)
        return Model(bundle.manifest.bundle_id, rung, bundle.labels)

    def offer(self, frame: Frame, label: str) -> None:
        """Take a frame that was served with that label, if the last one is done."""
        if self.model is None or self._enough.is_set():
            return
        try:
            self._frames.put_nowait((frame, label))
        except queue.Full:
            pass

    def stop(self) -> None:
        """End the shadowing."""
        self._enough.set()

    def _shadow(self, model: Model, wanted: int) -> None:
        rung, same = model.rung, 0
        seconds: list[float] = []
        old: Counter[str] = Counter()
        new: Counter[str] = Counter()
        while len(seconds) < wanted and not self._enough.is_set():
            try:
                frame, label = self._frames.get(timeout=_LOOK_S)
            except queue.Empty:
                continue
            look = look_at(rung.engine, rung.preprocess, frame)
            seconds.append(look.invoke_s)
            top, scores = int(look.scores.argmax()), look.scores
            if not scores[top] < float("inf"):  # NaN, which argmax finds first, is not.
                raise ValueError(f"{model.bundle_id}: scores of a live frame are not finite")
            old[label] += 1
            new[model.labels[top]] += 1
            same += model.labels[top] == label
        self._enough.set()
        self._send(
            "shadowed", bundle=model.bundle_id, agreement=same / max(1, len(seconds)), old=old, new=new,
            **_measured(seconds),
        )  # fmt: skip


def _measured(seconds: Iterable[float]) -> dict[str, Any]:
    values = list(seconds)
    found = quantiles_ms(values)
    return {"frames": len(values), "p50_ms": found["p50"], "p95_ms": found["p95"]}

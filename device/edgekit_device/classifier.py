"""Eight lines of Python: a camera, a signed bundle, and a label to act on.

    from edgekit_device import Classifier

    with Classifier("lite0-1.0.0.edgekit", source="camera:0") as seen:
        for result in seen:
            if result.accepted and result.label == "tabby":
                open_the_flap()

This runs in the caller's own process: simple, and as mortal as the caller. `edgekit-device run` is what survives
cameras and delegates that take their process with them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from edgekit_device.contract.errors import UsageError

if TYPE_CHECKING:
    from edgekit_device.capture import Capture

_WAIT_S = 0.5


@dataclass(frozen=True)
class Seen:
    """What one frame shows.

    Attributes:
        label: The claim: accepted by several looks, or the best guess.
        score: Its score, 0..1.
        accepted: Whether enough of the last frames agree (threshold 0.8, 3 attempts, 60 % consensus).
        top: (label, score) of the best classes of this very frame, best first.
        latency_ms: Preprocessing and inference of this frame, milliseconds.
        changed: Whether the claim is another than with the frame before.
    """

    label: str
    score: float
    accepted: bool
    top: tuple[tuple[str, float], ...]
    latency_ms: float
    changed: bool


class Classifier:
    """Iterates over what the source shows.

    Args:
        bundle: The ``.edgekit`` file, its ``.minisig`` beside it; None takes the model wheel that is installed.
        source: As `edgekit-device run --source`.
        pubkey: Public key of the signer; the board's or the user's own by default.
        delegate: ``auto`` tries ``xnnpack``, then ``builtin``.
        threads: Interpreter threads; None uses up to four cores.
        top: How many classes to list in each result.
        on_change: Yield only when the claim changes.

    Raises:
        EdgeKitError: The bundle is not as signed, no rung reproduces it, or the source cannot be opened.
    """

    def __init__(
        self,
        bundle: str | Path | None = None,
        *,
        source: str = "auto",
        pubkey: str | Path | None = None,
        delegate: str = "auto",
        threads: int | None = None,
        top: int = 5,
        on_change: bool = False,
        **options: Any,
    ) -> None:
        from edgekit_device.bundle import open_bundle, trusted_keys
        from edgekit_device.infer.rung import Rung, open_rung
        from edgekit_device.ladder import CPU_RUNGS, EDGETPU, Ladder
        from edgekit_device.model_wheels import installed_model
        from edgekit_device.sources.frame import SourceOptions

        if top < 1:
            raise UsageError("top must be at least 1")
        if bundle is None:
            path, keys = installed_model()
        else:
            path, keys = Path(bundle), trusted_keys(Path(pubkey) if pubkey else None)
        opened, _ = open_bundle(path, keys)
        # In the caller's own process only the rungs that cannot take it along are tried by themselves.
        ladder = Ladder.for_choice(delegate, opened.manifest.models)
        rungs = [r for r in ladder.rungs if r in CPU_RUNGS or (r == EDGETPU and ladder.explicit)] or list(ladder.rungs)
        self._labels, self._top, self._on_change = opened.labels, top, on_change
        self._rung: Rung = _first_that_opens(opened, rungs, threads or min(4, os.cpu_count() or 1), open_rung)
        photos = self._photos(opened) if source == "sample" else ()
        self._source, self._options = source, SourceOptions(photos=photos, **options)
        self._capture: Capture | None = None
        self._claim: tuple[int, bool] | None = None

    @property
    def delegate(self) -> str:
        """The rung that serves."""
        return self._rung.engine.delegate

    @staticmethod
    def _photos(bundle: Any) -> tuple[Any, ...]:
        from edgekit_device import vision

        return tuple(vision.decode_image(bundle.files[name]) for name in bundle.manifest.golden_images)

    def __enter__(self) -> Classifier:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Seen]:
        from edgekit_device.capture import capture_for
        from edgekit_device.meter import Meter
        from edgekit_device.progress import Progress
        from edgekit_device.smoothing import Smoother, SmoothingRule

        self.close()
        capture = capture_for(self._source, self._options, Meter(), Progress.create(), lambda **_: None)
        self._capture, smoother = capture, Smoother(SmoothingRule())
        capture.start()
        while not capture.finished:
            frame = capture.take(_WAIT_S)
            if frame is None:
                continue
            seen = self._look(frame, smoother)
            if seen.changed or not self._on_change:
                yield seen
        if capture.error is not None:
            raise capture.error

    def _look(self, frame: Any, smoother: Any) -> Seen:
        import time

        import numpy as np

        from edgekit_device import vision

        began = time.perf_counter()
        scores = self._rung.engine.scores(vision.to_model_input(frame.raw, self._rung.preprocess, frame.order))
        took_ms = (time.perf_counter() - began) * 1000
        order = np.argsort(-scores, kind="stable")[: self._top]
        best = int(order[0])
        decision = smoother.add(best, float(scores[best]))
        claim = (decision.index, decision.accepted)
        changed, self._claim = claim != self._claim, claim
        return Seen(
            label=self._labels[decision.index],
            score=decision.score,
            accepted=decision.accepted,
            top=tuple((self._labels[i], float(scores[i])) for i in order),
            latency_ms=took_ms,
            changed=changed,
        )

    def close(self) -> None:
        """Give the camera back. Harmless when called twice."""
        capture, self._capture = self._capture, None
        if capture is not None:
            capture.stop()
            capture.join(5.0)


def _first_that_opens(bundle: Any, rungs: list[str], threads: int, open_rung: Any) -> Any:
    from edgekit_device.contract.errors import ModelError

    last: ModelError | None = None
    for rung in rungs:
        try:
            return open_rung(bundle, rung, threads)
        except ModelError as error:
            last = error
    if last is None:
        raise UsageError("no delegate to try")
    raise last

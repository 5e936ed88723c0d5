"""One rung of the ladder, opened and proved: the only way a model comes to serve."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any, NamedTuple

from edgekit_device import vision
from edgekit_device.contract.preprocess import Preprocess
from edgekit_device.infer import edgetpu
from edgekit_device.infer.golden import prove
from edgekit_device.infer.interpreter import Engine
from edgekit_device.infer.tuning import THROUGHPUT, Layout, choose_layout, seconds_per_call, slowest_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgekit_device.bundle import Bundle

TWIN_PREPROCESS = "edgetpu_preprocess"


class Rung(NamedTuple):
    """A proved rung.

    Attributes:
        engine: Ready to be invoked.
        preprocess: How frames become its input.
        golden: What the self-test found.
        tuned_ms: Milliseconds by layout (``2``: threads; ``2x1``: interpreters), where they were measured.
        more: Further interpreters, for frames of their own.
    """

    engine: Engine
    preprocess: Preprocess
    golden: dict[str, Any]
    tuned_ms: dict[str, float]
    more: tuple[Engine, ...] = ()

    @property
    def engines(self) -> tuple[Engine, ...]:
        """All interpreters, one a lane."""
        return (self.engine, *self.more)


def role_of(delegate: str) -> str:
    """Which model of a bundle a delegate runs."""
    return edgetpu.NAME if delegate == edgetpu.NAME else "cpu"


def open_rung(
    bundle: Bundle,
    delegate: str,
    threads: int,
    *,
    lanes: int = 1,
    most_threads: int = 1,
    pace_s: float | None = None,
    mode: str = THROUGHPUT,
) -> Rung:
    """Open a rung and prove it on the bundle's golden images.

    Args:
        bundle: A verified bundle.
        delegate: The rung.
        threads: Threads of each interpreter; 0 measures which are right, and how many interpreters.
        lanes: Interpreters side by side, where `threads` is given.
        most_threads: Never more than that many.
        pace_s: Seconds between frames of a live source; None for a file.
        mode: One of `tuning.MODES`.

    Raises:
        DelegateError: It cannot be opened.
        GoldenMismatchError: It computes something else than the host did.
    """
    role = role_of(delegate)
    stated = bundle.manifest.extra.get(TWIN_PREPROCESS) if role == edgetpu.NAME else None
    spec = Preprocess.from_json(stated, TWIN_PREPROCESS) if isinstance(stated, dict) else bundle.manifest.preprocess
    model, name = bundle.model(role), f"{bundle.manifest.bundle_id}:{role}"
    if role == edgetpu.NAME:
        threads, most_threads, lanes = 1, 1, 1

    def open_engine(count: int) -> Engine:
        return Engine(model, delegate=delegate, threads=count, name=name)

    engine = open_engine(threads or 1)
    golden = prove(engine, bundle, spec)
    rung = Rung(engine, spec, golden, {})
    if not threads and most_threads > 1:
        layout, seconds = _tuned(rung, bundle, open_engine, most_threads, pace_s, mode)
        _give_back_memory()
        rung = rung._replace(tuned_ms={kind: round(value * 1000, 3) for kind, value in seconds.items()})
    else:
        layout = Layout(lanes, engine.threads)
    # Another number of threads is another plan of the same kernels, another lane another memory: each proves itself.
    if layout.threads != engine.threads:
        engine = open_engine(layout.threads)
        rung = rung._replace(engine=engine, golden=prove(engine, bundle, spec))
    more = tuple(open_engine(layout.threads) for _ in range(layout.lanes - 1))
    for another in more:
        prove(another, bundle, spec)
    return rung._replace(more=more)


def _tuned(
    rung: Rung, bundle: Bundle, open_engine: Callable[[int], Engine], most: int, pace_s: float | None, mode: str
) -> tuple[Layout, dict[str, float]]:
    """What this machine and this source want; every interpreter but the rung's own is given up again."""
    image = vision.decode_image(bundle.files[bundle.manifest.golden_images[0]])
    engines = {1: [rung.engine]}

    def call(engine: Engine) -> Callable[[], object]:
        def once() -> None:
            engine.load(lambda out: vision.fill_model_input(image, rung.preprocess, "RGB", out))
            engine.invoke()

        return once

    def opened(threads: int, lanes: int = 1) -> list[Engine]:
        some = engines.setdefault(threads, [])
        while len(some) < lanes:
            some.append(open_engine(threads))
        return some[:lanes]

    return choose_layout(
        lambda threads: slowest_of(call(opened(threads)[0])),
        lambda layout: seconds_per_call([call(engine) for engine in opened(layout.threads, layout.lanes)]),
        most,
        pace_s=pace_s,
        mode=mode,
    )


def _give_back_memory() -> None:
    """Return to the system what the interpreters that were only measured had: 18 MB for three of lite0."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's; others have no such call.
    if trim is not None:
        trim(0)

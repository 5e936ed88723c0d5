"""One rung of the ladder, opened and proved: the only way a model comes to serve."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from edgekit_device import vision
from edgekit_device.contract.preprocess import Preprocess
from edgekit_device.infer import edgetpu
from edgekit_device.infer.golden import prove
from edgekit_device.infer.interpreter import Engine
from edgekit_device.infer.tuning import choose_threads, slowest_of

if TYPE_CHECKING:
    from edgekit_device.bundle import Bundle

TWIN_PREPROCESS = "edgetpu_preprocess"


class Rung(NamedTuple):
    """A proved rung.

    Attributes:
        engine: Ready to be invoked.
        preprocess: How frames become its input.
        golden: What the self-test found.
        tuned_ms: Milliseconds by number of threads, where they were measured.
    """

    engine: Engine
    preprocess: Preprocess
    golden: dict[str, Any]
    tuned_ms: dict[int, float]


def role_of(delegate: str) -> str:
    """Which model of a bundle a delegate runs."""
    return edgetpu.NAME if delegate == edgetpu.NAME else "cpu"


def open_rung(
    bundle: Bundle, delegate: str, threads: int, *, most_threads: int = 1, pace_s: float | None = None
) -> Rung:
    """Open a rung and prove it on the bundle's golden images.

    Args:
        bundle: A verified bundle.
        delegate: The rung.
        threads: Interpreter threads; 0 measures which are right.
        most_threads: Never more than that many.
        pace_s: Seconds between frames of a live source; None for a file.

    Raises:
        DelegateError: It cannot be opened.
        GoldenMismatchError: It computes something else than the host did.
    """
    role = role_of(delegate)
    stated = bundle.manifest.extra.get(TWIN_PREPROCESS) if role == edgetpu.NAME else None
    spec = Preprocess.from_json(stated, TWIN_PREPROCESS) if isinstance(stated, dict) else bundle.manifest.preprocess
    model, name = bundle.model(role), f"{bundle.manifest.bundle_id}:{role}"
    if role == edgetpu.NAME:
        threads, most_threads = 1, 1
    engine = Engine(model, delegate=delegate, threads=threads or 1, name=name)
    golden = prove(engine, bundle, spec)
    if threads or most_threads < 2:
        return Rung(engine, spec, golden, {})
    return _tuned(Rung(engine, spec, golden, {}), bundle, model, name, most_threads, pace_s)


def _tuned(rung: Rung, bundle: Bundle, model: bytes, name: str, most: int, pace_s: float | None) -> Rung:
    """The same rung with the number of threads that this machine and this source want."""
    image = vision.decode_image(bundle.files[bundle.manifest.golden_images[0]])
    engines = {1: rung.engine}

    def measure(count: int) -> float:
        if count not in engines:
            engines[count] = Engine(model, delegate=rung.engine.delegate, threads=count, name=name)
        return slowest_of(lambda: engines[count].scores(vision.to_model_input(image, rung.preprocess)))

    threads, seconds = choose_threads(measure, most, pace_s)
    tuned_ms = {count: round(value * 1000, 3) for count, value in seconds.items()}
    if threads == 1:
        return rung._replace(tuned_ms=tuned_ms)
    chosen = engines[threads]
    # Another number of threads is another plan of the same kernels: it proves itself as well.
    return Rung(chosen, rung.preprocess, prove(chosen, bundle, rung.preprocess), tuned_ms)

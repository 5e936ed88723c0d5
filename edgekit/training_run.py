"""`edgekit train`: a folder of photos becomes a classifier. The head first on cached features, then fine-tuning."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit import runs
from edgekit.artefacts import run_path
from edgekit.errors import PreprocessUnknownError, UsageError
from edgekit.preprocessing import choose_preprocess

if TYPE_CHECKING:
    from edgekit.run_writing import TrainedRun
    from edgekit.training.cache import Cache
    from edgekit.training.lessons import Course
    from edgekit.zoo.variants import Variant
    from edgekit.zoo.weights import Weights
    from edgekit_device.contract.preprocess import Preprocess

Progress = Callable[[str, int, int], None]
VIEWS = ("square", "center", "whole")
_RATE, _CAREFUL_RATE = 5e-4, 1e-4


@dataclass(frozen=True)
class Recipe:
    """How a run is trained; its fields are the options of the verb.

    Attributes:
        epochs: Of fine-tuning; 0 trains the head alone.
        head_epochs: On cached features, everything below frozen.
        rate: Largest step size of fine-tuning; None takes 1e-4 from trained weights and 5e-4 from random ones.
        batch: Pictures a step.
        resolution: Side of the input in pixels; None takes the variant's.
        view: What a board looks at: ``square`` (the middle square), ``center`` (a little less, as for ImageNet) or
            ``whole`` (all of it, squashed into a square).
        augment: ``none``, ``no-mirror``, ``photo``, ``any-way-up`` or ``inspection``.
        held_out: Share of each class that is judged once, at the end; split folders decide it where there are any.
        monitor: Share of the rest that early stopping watches.
        patience: Epochs without a better loss there until it stops; 0 never stops.
        smoothing: Share of the target spread over all classes.
        balanced: Every class counts the same, however many pictures it has.
        seed: The same seed gives the same result on one machine.
    """

    epochs: int = 10
    head_epochs: int = 30
    rate: float | None = None
    batch: int = 32
    resolution: int | None = None
    view: str = "square"
    augment: str = "photo"
    held_out: float = 0.2
    monitor: float = 0.1
    patience: int = 5
    smoothing: float = 0.1
    balanced: bool = True
    seed: int = 0

    def check(self) -> None:
        """Refuse values that cannot be meant.

        Raises:
            UsageError: With the option's name.
        """
        from edgekit.training.augmentation import find_augmentation

        find_augmentation(self.augment)
        if self.view not in VIEWS:
            raise UsageError(f"--view {self.view}: choose one of {', '.join(VIEWS)}")
        for name in ("held_out", "monitor", "smoothing"):
            if not 0 <= getattr(self, name) < 0.9:
                raise UsageError(f"--{name.replace('_', '-')} {getattr(self, name)}: must lie in [0, 0.9)")
        for name, least in (("epochs", 0), ("head_epochs", 0), ("batch", 1), ("patience", 0), ("seed", 0)):
            if getattr(self, name) < least:
                raise UsageError(f"--{name.replace('_', '-')} {getattr(self, name)}: must be at least {least}")
        if self.epochs == self.head_epochs == 0:
            raise UsageError("--epochs 0 --head-epochs 0: nothing would be learnt")
        if self.rate is not None and not 0 < self.rate < 1:
            raise UsageError(f"--rate {self.rate}: must lie between 0 and 1")

    def rate_from(self, trained: bool) -> float:
        """The largest step size, from weights that are trained or random.

        With BatchNorm's statistics frozen nothing holds a net that takes large steps: from ImageNet's weights lite0
        learnt 64 photos by heart at 1e-4, and at 1e-3 its loss rose threefold and stayed there.
        """
        return self.rate or (_CAREFUL_RATE if trained else _RATE)


def train(
    data: str | Path,
    *,
    variant: str | Variant,
    out: str | Path,
    weights: str | Path = "imagenet",
    preprocess: str | None = None,
    recipe: Recipe | None = None,
    force: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> TrainedRun:
    """Train a variant on a folder of photos.

    Args:
        data: ``DATA/<class>/*.jpg`` or ``DATA/<split>/<class>/*.jpg``.
        variant: A variant's name, one's own `Variant`, or a recipe.toml that describes one.
        out: The run: a bare name means runs/NAME. A run of the same recipe is gone on with, or returned as it is.
        weights: ``imagenet``, ``random`` (then BatchNorm is trained too), a weights file or another run.
        preprocess: ``tf-lite``, ``timm`` or a file, where nothing states how the weights want pictures.
        recipe: How; fields may also be given one by one, as in ``epochs=5``.
        force: Throw away a run of another recipe.
        progress: Called with (stage, done, total).
        **options: Fields of `Recipe`.

    Raises:
        EdgeKitError: Named by its class; a killed run goes on from its last epoch when called again.
    """
    from edgekit.bundling.labels import check_labels
    from edgekit.conversion.noise import captured, load_tensorflow
    from edgekit.run_writing import finish_run, read_run, versions
    from edgekit.training.cache import Cache
    from edgekit.training.folders import read_gallery
    from edgekit.training.lessons import Wishes, data_digest, prepare
    from edgekit.training.splitting import Shares
    from edgekit.zoo import find_weights

    how = _recipe(recipe, options)
    how.check()
    chosen = _variant(variant)
    own = run_path(str(weights)) / runs.MODEL
    found = find_weights(chosen, own if own.is_file() else weights, classes=1000, seed=how.seed)
    how = replace(how, rate=how.rate_from(found.trained))
    spec = input_spec(found, how, preprocess)
    gallery = read_gallery(Path(data), progress=progress)
    labels = check_labels(gallery.labels, path=str(data)).names
    document = {
        "schema": 1,
        "verb": "train",
        "model": {
            "variant": chosen.name,
            **{key: getattr(chosen, key) for key in ("width", "depth", "resolution")},
            "weights": _source(found),
            "weights_sha256": found.sha256,
        },
        "data": {"folder": str(data), "sha256": data_digest(gallery)},
        "training": asdict(how),
        "versions": versions(),
    }
    folder, finished = runs.open_run(out, document, force=force)
    if finished:
        return read_run(folder, skipped=gallery.skipped)
    began = time.monotonic()
    cache = Cache()
    wishes = Wishes(Shares(how.held_out, how.monitor), how.augment, how.balanced, how.seed)
    course = prepare(gallery, spec, wishes, cache, progress=progress)
    load_tensorflow()
    with captured():
        model, network, history = _teach(found, course, how, cache, folder, _fingerprint(document), progress)
        facts = {
            "verb": "train",
            "parent": found.sha256,
            "variant": chosen.name,
            "weights": {"source": _source(found), "sha256": found.sha256, "licence": found.licence},
            "labels": list(labels),
            "seconds": round(time.monotonic() - began, 1),
        }
        return finish_run(folder, model, network, course, Path(data), history, facts, progress=progress)


def _recipe(recipe: Recipe | None, options: dict[str, Any]) -> Recipe:
    from edgekit.errors import near_miss

    known = set(asdict(Recipe()))
    for name in options:
        if name not in known:
            raise UsageError(f"train has no option '{name}'{near_miss(name, known)}")
    return replace(recipe or Recipe(), **options)


def _variant(variant: str | Variant) -> Variant:
    from edgekit.zoo import get_variant
    from edgekit.zoo.variants import read_recipe

    if not isinstance(variant, str):
        return variant
    return read_recipe(Path(variant)) if variant.endswith(".toml") else get_variant(variant)


def _source(found: Weights) -> str:
    return found.source if found.source in ("imagenet", "random") else Path(found.source).name


def _fingerprint(document: dict[str, Any]) -> str:
    compared = {key: value for key, value in document.items() if key != "versions"}
    return hashlib.sha256(runs.to_toml(compared).encode()).hexdigest()[:16]


def input_spec(found: Weights, how: Recipe, choice: str | None = None) -> Preprocess:
    """The preprocessing that a run is trained with; a board will do the same.

    Raises:
        PreprocessUnknownError: Nothing states how the weights want pictures.
    """
    side = how.resolution or found.variant.resolution
    native = found.variant.resolution
    beside = Path(found.source).with_name(runs.PREPROCESS)
    if choice is None and beside.is_file():
        choice = str(beside)
    stated = found.preprocess_at(native)
    if choice is not None:
        stated = choose_preprocess(choice, (native, native), beside=Path(found.source))
    if stated is None:
        raise PreprocessUnknownError(found.source)
    # The share of the variant's own resolution: ImageNet's fixed border would be half of a 32-pixel picture.
    spec = replace(stated, height=side, width=side)
    if how.view == "center":
        return spec
    return replace(spec, crop="squash" if how.view == "whole" else "center", crop_fraction=1.0)


def _teach(
    found: Weights, course: Course, how: Recipe, cache: Cache, folder: Path, fingerprint: str, progress: Progress | None
) -> tuple[Any, Any, dict[str, Any]]:
    import keras

    from edgekit.keras_network import KerasNetwork, seed_dropout
    from edgekit.learning import Objective, Plan, cross_entropy
    from edgekit.training.loop import Loop
    from edgekit.zoo import build

    keras.utils.clear_session(free_memory=False)
    lessons, history = course.lessons, {}
    classes = len(lessons.labels)
    kernel, bias, losses = _head(found, course, how, cache, progress)
    tensors = {**found.tensors, "logits/kernel": kernel, "logits/bias": bias}
    ours = replace(found, tensors=tensors, classes=classes, labels=None)
    model = build(ours.variant, weights=ours, resolution=lessons.preprocess.height, batch=None)
    seed_dropout(model, how.seed)
    if losses:
        history["head"] = [{"epoch": at + 1.0, "loss": loss} for at, loss in enumerate(losses)]
    network = KerasNetwork(model, lessons.preprocess, frozen_statistics=found.trained)
    if how.epochs:
        patience = how.patience if len(lessons.monitor) else 0
        rate = how.rate_from(found.trained)
        plan = Plan(how.epochs, rate, how.batch, smoothing=how.smoothing, patience=patience, seed=how.seed)
        loop = Loop(folder / runs.CHECKPOINT, fingerprint, progress)
        history["fine-tune"] = loop(network, lessons, plan, Objective(cross_entropy(how.smoothing)), stage="fine-tune")
    return model, network, history


def _head(
    found: Weights, course: Course, how: Recipe, cache: Cache, progress: Progress | None
) -> tuple[Any, Any, list[float]]:
    """The dense layer on frozen features. Below random weights there is nothing worth learning from."""
    from edgekit.training.head import HeadPlan, train_head
    from edgekit.zoo.architecture import HEAD_FILTERS

    lessons = course.lessons
    classes = len(lessons.labels)
    if not how.head_epochs or not found.trained:
        kernel = np.random.default_rng([how.seed, 1]).normal(0, 0.01, (HEAD_FILTERS, classes)).astype(np.float32)
        return kernel, np.zeros(classes, np.float32), []
    features = _features(found, course, cache, progress)
    train = lessons.train
    plan = HeadPlan(epochs=how.head_epochs, smoothing=how.smoothing, dropout=found.variant.dropout)
    return train_head(features[train], lessons.targets[train], classes, lessons.weights[train], plan, how.seed)


def _features(found: Weights, course: Course, cache: Cache, progress: Progress | None) -> Any:
    """What the frozen network makes of every picture, (n, 1280); kept under weights, preprocessing and pictures."""
    from edgekit.keras_network import KerasNetwork
    from edgekit.training.loop import answers, compiled
    from edgekit.zoo import build

    lessons = course.lessons
    variant = found.variant
    shape = f"{variant.width}-{variant.depth}-{variant.padding}-{variant.bn_epsilon}"
    digest = found.sha256 or "none"
    key = hashlib.sha256(f"1;{digest};{shape};{course.canvases.key}".encode()).hexdigest()[:24]

    def fill(folder: Path) -> dict[str, Any]:
        model = build(variant, weights=found, resolution=lessons.preprocess.height, batch=None)
        run = compiled(KerasNetwork(model, lessons.preprocess), lessons, "features")
        places = np.arange(len(course.samples))
        np.save(folder / "features.npy", answers(run, lessons, places, stage="features", progress=progress))
        return {"pictures": len(places)}

    folder, _ = cache.folder(f"features-{key}", fill)
    return np.load(folder / "features.npy")

"""`edgekit compress`: a recipe of passes over a trained model, each where the last one ended."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit import runs
from edgekit.artefacts import run_path, write_json
from edgekit.errors import DatasetError, UsageError

if TYPE_CHECKING:
    from edgekit.compression.passes import Step, Subject
    from edgekit.origins import Origin
    from edgekit.run_writing import TrainedRun
    from edgekit.training.cache import Cache
    from edgekit.training.lessons import Course

Progress = Callable[[str, int, int], None]
_STAGES = "stages.json"


@dataclass(frozen=True)
class _Job:
    """One recipe under way."""

    folder: Path
    steps: tuple[Step, ...]
    fingerprint: str
    seed: int
    progress: Progress | None


def compress(
    source: str | Path,
    *,
    data: str | Path,
    out: str | Path,
    passes: Sequence[str] = (),
    recipe: str | Path | None = None,
    augment: str | None = None,
    preprocess: str | None = None,
    labels: str | Path | None = None,
    seed: int | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> TrainedRun:
    """Run passes over a trained classifier.

    Args:
        source: A run, a .keras file or a SavedModel: any functional or sequential classifier.
        data: Pictures: class folders named by label; pictures beside them have no label and serve teachers only.
        out: The new run: a bare name means runs/NAME. A run of the same recipe is gone on with.
        passes: As --pass takes them: ``distil=TEACHER:alpha=0.5,epochs=5``, ``qat=epochs=2``; in this order.
        recipe: A TOML file that lists them instead.
        augment: ``none``, ``no-mirror``, ``photo``, ``any-way-up`` or ``inspection``; by default the run's own.
        preprocess: For a model beside which nothing states it.
        labels: One a class, in the order of the scores, for a model that is no run.
        seed: By default the recipe's, or 0.
        force: Throw away a run of another recipe.
        progress: Called with (stage, done, total).

    Raises:
        EdgeKitError: Named by its class; a killed run goes on from its last epoch when called again.
    """
    from edgekit.compression.passes import parse_step
    from edgekit.compression.recipes import read_pass_list
    from edgekit.conversion.noise import captured, load_tensorflow
    from edgekit.run_writing import read_run, versions
    from edgekit.training.augmentation import find_augmentation
    from edgekit.training.cache import Cache
    from edgekit.training.folders import read_gallery
    from edgekit.training.lessons import data_digest

    if bool(passes) == bool(recipe):
        raise UsageError("say what to do: --pass NAME=ARGS, once or more, or --recipe FILE")
    listed = read_pass_list(Path(recipe)) if recipe else None
    steps = listed.steps if listed else tuple(parse_step(text) for text in passes)
    if "cluster" in [step.name for step in steps[:-1]]:
        raise UsageError("cluster goes last: what is taught behind it parts the values that weights share")
    seed = seed if seed is not None else (listed.seed if listed and listed.seed is not None else 0)
    parent = run_path(str(source))
    trained = runs.read_toml(parent / runs.RECIPE) if (parent / runs.RECIPE).is_file() else {}
    augment = augment or trained.get("training", trained).get("augment") or "photo"
    find_augmentation(augment)
    gallery = read_gallery(Path(data), labelled=False, progress=progress)
    load_tensorflow()
    with captured():
        from edgekit.origins import find_origin

        origin = find_origin(source, "imagenet", preprocess, labels, seed)
    document = {
        "schema": 1,
        "verb": "compress",
        "seed": seed,
        "augment": augment,
        "source": {"name": str(source), "sha256": origin.parent},
        "data": {"folder": str(data), "sha256": data_digest(gallery)},
        "pass": [step.document() for step in steps],
        "versions": versions(),
    }
    folder, finished = runs.open_run(out, document, force=force)
    if finished:
        return read_run(folder, skipped=gallery.skipped)
    began = time.monotonic()
    compared = {key: value for key, value in document.items() if key != "versions"}
    job = _Job(folder, steps, hashlib.sha256(runs.to_toml(compared).encode()).hexdigest()[:16], seed, progress)
    cache = Cache()
    course = course_of(gallery, origin, parent, augment, cache, seed, progress)
    with captured():
        return _run(job, origin, course, cache, Path(data), began)


def course_of(
    gallery: Any, origin: Origin, parent: Path, augment: str, cache: Cache, seed: int, progress: Progress | None
) -> Course:
    """The pictures, held out as they were for the source."""
    from edgekit.training.lessons import Wishes, prepare

    labels = origin.labels or gallery.labels
    classes = int(origin.model.output_shape[-1])
    if len(labels) != classes:
        raise DatasetError(
            str(gallery.folder),
            f"has {len(labels)} classes, and the model {classes}",
            "name its labels in their order: --labels FILE",
        )
    strange = [label for label in gallery.labels if label not in labels]
    if strange:
        raise DatasetError(
            str(gallery.folder),
            f"folder '{strange[0]}' is no class of the model",
            "name folders by its labels; pictures without a class lie beside the folders",
        )
    split = runs.read_split(parent)
    earlier = {entry["sha256"]: entry["role"] for entry in split["pictures"]} if split else None
    wishes = Wishes(augment=augment, seed=seed)
    return prepare(gallery, origin.preprocess, wishes, cache, labels=labels, earlier=earlier, progress=progress)


def _run(job: _Job, origin: Origin, course: Course, cache: Cache, data: Path, began: float) -> TrainedRun:
    from edgekit.compression.passes import Subject, Workshop, run_pass
    from edgekit.keras_network import KerasNetwork, seed_dropout
    from edgekit.run_writing import finish_run
    from edgekit.teachers import open_teacher
    from edgekit.training.loop import Loop

    done, history, model, known = _resume(job, origin.model)
    subject: Subject = Subject(model, origin.preprocess, course.lessons.labels, facts=known)
    for number in range(done, len(job.steps)):
        step = job.steps[number]
        seed_dropout(subject.model, job.seed + number)
        workshop = Workshop(
            lessons=course.lessons,
            fit=Loop(job.folder / runs.CHECKPOINT, f"{job.fingerprint}:{number}", job.progress),
            open_teacher=lambda name: open_teacher(name, origin.preprocess.color),
            cached=lambda key, fill: cache.folder(key, fill)[0],
            seed=job.seed,
            progress=job.progress,
            keep=_Kept(job.folder, number + 1).write,
            kept=_Kept(job.folder, number + 1).read,
        )
        subject = run_pass(subject, step, workshop)
        history |= {f"{number + 1} {name}": entries for name, entries in workshop.history.items()}
        if number + 1 < len(job.steps):
            subject.model.save(job.folder / f"stage-{number + 1}.keras")
            stages = {"schema": 1, "done": number + 1, "history": history, "facts": dict(subject.facts)}
            write_json(job.folder / _STAGES, stages)
    network = subject.network or KerasNetwork(subject.model, subject.preprocess)
    facts = {
        **subject.facts,
        "verb": "compress",
        "parent": origin.parent,
        "variant": origin.variant,
        "weights": dict(origin.weights),
        "passes": [step.document() for step in job.steps],
        "seconds": round(time.monotonic() - began, 1),
    }
    result = finish_run(
        job.folder,
        subject.model,
        network,
        course,
        data,
        history,
        facts,
        ranges=subject.ranges,
        progress=job.progress,
    )
    for left in job.folder.glob("stage*"):
        left.unlink()
    return result


@dataclass(frozen=True)
class _Kept:
    """Models inside a pass, kept until the run is done: stage-2-NAME.keras."""

    folder: Path
    number: int

    def write(self, name: str, model: Any) -> None:
        """Whole or not there."""
        place = self._place(name)
        staged = place.with_name(f"stage-part-{place.name}")
        model.save(staged)
        staged.replace(place)

    def read(self, name: str) -> Any:
        """None where nothing was kept."""
        from edgekit.zoo import load_keras

        place = self._place(name)
        return load_keras(str(place)) if place.is_file() else None

    def _place(self, name: str) -> Path:
        return self.folder / f"stage-{self.number}-{name}.keras"


def _resume(job: _Job, model: Any) -> tuple[int, dict[str, Any], Any, dict[str, Any]]:
    """(passes done, their history, the model behind them, what is known of it)."""
    from edgekit.zoo import load_keras

    found = runs.read_json(job.folder / _STAGES)
    if found is None:
        return 0, {}, model, {}
    model = load_keras(str(job.folder / f"stage-{found['done']}.keras"))
    return int(found["done"]), dict(found["history"]), model, dict(found.get("facts", {}))

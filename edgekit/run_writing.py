"""The end of a run, after training as after compression: judge it once on what was held out, and write its folder."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit import runs
from edgekit.artefacts import sha256_of, sync_folder, write_atomically, write_json

if TYPE_CHECKING:
    from edgekit.learning import Network
    from edgekit.training.lessons import Course

Progress = Any
PHOTOS, LEAST_PHOTOS = 64, 8


@dataclass(frozen=True)
class TrainedRun:
    """What `train` or `compress` made.

    Attributes:
        folder: The run.
        labels: One a class.
        held_out: Pictures it was judged on; 0 when none were held out.
        top1: Share of them that is right; None when none were held out.
        top1_interval: 95 %, Wilson's.
        per_class: label -> (right, pictures) of the held-out ones.
        history: Stage -> one entry an epoch.
        skipped: (name, reason) of pictures that were not used.
        facts: RUN.json.
        resumed: Whether it was finished before this call.
    """

    folder: Path
    labels: tuple[str, ...]
    held_out: int
    top1: float | None
    top1_interval: tuple[float, float] | None
    per_class: Mapping[str, tuple[int, int]]
    history: Mapping[str, Sequence[Mapping[str, float]]]
    skipped: tuple[tuple[str, str], ...]
    facts: Mapping[str, Any]
    resumed: bool = False

    @property
    def warnings(self) -> tuple[str, ...]:
        """What went wrong without an error, each with what to do about it."""
        found = []
        for stage, epochs in self.history.items():
            losses = [epoch["loss"] for epoch in epochs if "loss" in epoch]
            # While a pass takes more and more away, its loss may rise.
            if stage in ("fine-tune", "distil", "qat") and len(losses) > 1 and losses[-1] >= losses[0]:
                found.append(f"{stage}: the loss rose, {losses[0]:.3f} to {losses[-1]:.3f}: take a smaller rate")
        confusion = self.facts.get("confusion", ())
        true, said = {int(row[0]) for row in confusion}, {int(row[1]) for row in confusion}
        if len(true) > 1 and len(said) == 1:
            found.append(f"it says '{self.labels[said.pop()]}' to every held-out picture: it has learnt nothing")
        return tuple(found)


def finish_run(
    folder: Path,
    model: Any,
    network: Network,
    course: Course,
    data: Path,
    history: Mapping[str, Sequence[Mapping[str, float]]],
    facts: Mapping[str, Any],
    *,
    ranges: Mapping[str, tuple[float, float]] | None = None,
    progress: Progress | None = None,
) -> TrainedRun:
    """Judge and write; RUN.json comes last.

    Args:
        folder: The run.
        model: The ``keras.Model`` to keep; it ends in probabilities or logits.
        network: What is judged: the model, or what simulates its integers.
        course: The pictures.
        data: Where they lie.
        history: Stage -> epochs.
        facts: What RUN.json is to say besides.
        ranges: Layer -> smallest and largest value, after quantisation-aware training.
        progress: Called with (stage, done, total).
    """
    confusion = judge_held_out(network, course, progress)
    n = sum(confusion.values())
    right = sum(count for (true, said), count in confusion.items() if true == said)
    _save_model(folder, model)
    labels = course.lessons.labels
    write_atomically(folder / runs.LABELS, "".join(f"{label}\n" for label in labels).encode())
    write_json(folder / runs.PREPROCESS, course.lessons.preprocess.to_json())
    write_json(folder / runs.SPLIT, course.split_document(data))
    write_json(folder / runs.HISTORY, {"schema": 1, "stages": history})
    if ranges is not None:
        write_json(folder / runs.RANGES, {"schema": 1, "layers": {k: list(v) for k, v in ranges.items()}})
    _write_photos(folder, course)
    _draw(folder, history, confusion, labels)
    top1, interval = None, None
    if n:
        from edgekit.verification.intervals import wilson

        top1, interval = right / n, wilson(right / n, n)
    roles = Counter(course.roles)
    document = {
        **facts,
        "sha256": sha256_of(folder / runs.MODEL),
        "weights_sha256": weights_digest(model),
        "labels": list(labels),
        "pictures": dict(roles),
        "skipped": len(course.skipped),
        "held_out": {"n": n, "top1": top1, "top1_interval": list(interval) if interval else None},
        "confusion": [[*pair, count] for pair, count in sorted(confusion.items())],
        "versions": versions(),
    }
    runs.write_record(folder, document)
    (folder / runs.CHECKPOINT).unlink(missing_ok=True)
    return read_run(folder, resumed=False, skipped=course.skipped)


def read_run(folder: Path, *, resumed: bool = True, skipped: tuple[tuple[str, str], ...] = ()) -> TrainedRun:
    """A finished run as the verbs return it."""
    record = runs.read_record(folder)
    facts = record.facts if record else {}
    labels = tuple(facts.get("labels", ()))
    judged = facts.get("held_out", {})
    counts: dict[str, tuple[int, int]] = {}
    for true, said, count in facts.get("confusion", ()):
        hits, total = counts.get(labels[true], (0, 0))
        counts[labels[true]] = hits + (count if true == said else 0), total + count
    interval = judged.get("top1_interval")
    stages = (runs.read_json(folder / runs.HISTORY) or {}).get("stages", {})
    return TrainedRun(
        folder=folder,
        labels=labels,
        held_out=int(judged.get("n", 0)),
        top1=judged.get("top1"),
        top1_interval=(interval[0], interval[1]) if interval else None,
        per_class=counts,
        history=stages,
        skipped=skipped,
        facts=facts,
        resumed=resumed,
    )


def judge_held_out(network: Network, course: Course, progress: Progress | None = None) -> Counter[tuple[int, int]]:
    """(true class, said class) -> pictures, of what was held out and has a label."""
    from edgekit.training.loop import answers, compiled

    places = course.held_out[course.lessons.targets[course.held_out] >= 0]
    if not len(places):
        return Counter()
    said = answers(compiled(network, course.lessons), course.lessons, places, stage="judge", progress=progress)
    pairs = zip(course.lessons.targets[places].tolist(), said.argmax(axis=1).tolist(), strict=True)
    return Counter(pairs)


def weights_digest(model: Any) -> str:
    """Digest of all weights: a .keras file also holds the time it was saved."""
    digest = hashlib.sha256()
    for variable in model.weights:
        digest.update(np.ascontiguousarray(variable.numpy()).tobytes())
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """What made a run."""
    found = {}
    for package in ("edgekit", "tensorflow", "tensorflow-cpu", "keras", "numpy", "opencv-python-headless"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _save_model(folder: Path, model: Any) -> None:
    staged = folder / "part-model.keras"
    model.save(staged)
    staged.replace(folder / runs.MODEL)
    sync_folder(folder)


def _write_photos(folder: Path, course: Course) -> None:
    """Some of the pictures that were learnt from, as the model sees them: `convert` calibrates on them."""
    import cv2

    lessons = course.lessons
    if len(lessons.train) < LEAST_PHOTOS:
        return  # Too few to calibrate on: `convert` then takes those that ship.
    by_class: dict[int, list[int]] = {}
    for at in sorted(lessons.train.tolist(), key=lambda at: course.samples[at].sha256):
        by_class.setdefault(int(lessons.targets[at]), []).append(at)
    turns = [group[turn] for turn in range(PHOTOS) for group in by_class.values() if turn < len(group)]
    for at in turns[:PHOTOS]:
        pixels = lessons.exact(np.array([at]))[0]
        own = lessons.targets[at]
        home = lessons.labels[own] if own >= 0 else "unlabelled"
        done, data = cv2.imencode(".png", pixels[..., ::-1] if pixels.shape[2] == 3 else pixels)
        if done:
            write_atomically(folder / runs.PHOTOS / home / f"{course.samples[at].sha256[:16]}.png", data.tobytes())


def _draw(
    folder: Path,
    history: Mapping[str, Sequence[Mapping[str, float]]],
    confusion: Mapping[tuple[int, int], int],
    labels: Sequence[str],
) -> None:
    from edgekit.reporting.curves import curves_svg
    from edgekit.reporting.pictures import confusion_svg

    lines = {}
    for stage, epochs in history.items():
        for key, name in (("loss", "loss"), ("monitor_loss", "loss, watched"), ("monitor_top1", "top-1, watched")):
            points = [(entry["epoch"], entry[key]) for entry in epochs if key in entry]
            if points:
                lines[f"{stage}: {name}"] = points
    if lines:
        picture = curves_svg("Learning curves", "epoch", "loss, and top-1 as a share", lines)
        write_atomically(folder / "curves.svg", picture.encode())
    if confusion:
        write_atomically(folder / "confusion.svg", confusion_svg(confusion, labels).encode())

"""Accuracy of a model on labelled images, and of another on the same ones: answers in, figures out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgekit.errors import DatasetError
from edgekit.verification.bounds import Drop, judge_drop
from edgekit.verification.crew import Judged
from edgekit.verification.intervals import wilson
from edgekit_device.meter import BINS, histogram_bin


@dataclass(frozen=True)
class ClassResult:
    """One class: how many images of it there were, and how many got it right."""

    index: int
    label: str
    n: int
    right: int

    @property
    def top1(self) -> float:
        """Share that is right."""
        return self.right / self.n if self.n else 0.0


@dataclass(frozen=True)
class Evaluation:
    """What was measured on labelled images.

    Attributes:
        n: Images judged; files of the same bytes count once.
        top1: Share whose class has the highest score.
        top1_interval: 95 %, Wilson's; it speaks of images like these, drawn independently.
        top5: Share whose class is among the five highest scores; None for a model of five classes or fewer.
        per_class: Classes that have images, in the model's order.
        confusion: (true class, predicted class) -> images.
        drop: Against another model on the same images; None if there was none.
        against_top1: The other model's.
        skipped: (file, reason), sorted.
        passed_over: Files that do not promise to be images.
        entropy_hist: Images by entropy / ln(classes), in 16 equal bins of [0, 1].
        margin_hist: Images by difference of the two highest probabilities, likewise.
        extra: Facts about the run: model, data, speed.
    """

    n: int
    top1: float
    top1_interval: tuple[float, float]
    top5: float | None
    per_class: tuple[ClassResult, ...]
    confusion: Mapping[tuple[int, int], int]
    drop: Drop | None
    against_top1: float | None
    skipped: tuple[tuple[str, str], ...]
    passed_over: int
    entropy_hist: tuple[int, ...]
    margin_hist: tuple[int, ...]
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The document of `edgekit evaluate --json`; also a bundle's baseline."""
        drop = self.drop
        return {
            **self.extra,
            "n": self.n,
            "top1": self.top1,
            "top1_interval": list(self.top1_interval),
            "top5": self.top5,
            "per_class": [
                {"class": c.index, "label": c.label, "n": c.n, "right": c.right, "top1": c.top1} for c in self.per_class
            ],
            "confusion": [[*pair, count] for pair, count in sorted(self.confusion.items())],
            "class_mix": {str(index): count for index, count in self.class_mix.items()},
            "entropy_hist": list(self.entropy_hist),
            "margin_hist": list(self.margin_hist),
            "skipped": [{"file": name, "reason": reason} for name, reason in self.skipped],
            "passed_over": self.passed_over,
            "against_top1": self.against_top1,
            "verdict": drop.verdict if drop else None,
            "epsilon_points": _points(drop.epsilon) if drop else None,
            "drop_points": _points(drop.observed) if drop else None,
            "drop_upper_points": _points(drop.upper) if drop else None,
            "drop_lower_points": _points(drop.lower) if drop else None,
            "images_missing": drop.images_missing if drop else None,
            "lost": drop.lost if drop else None,
            "gained": drop.gained if drop else None,
        }

    @property
    def class_mix(self) -> dict[int, int]:
        """How often each class was predicted, whatever the truth: what a board will count."""
        counts: Counter[int] = Counter()
        for (_, predicted), count in self.confusion.items():
            counts[predicted] += count
        return dict(sorted(counts.items()))

    def worst_confusions(self, limit: int = 10) -> list[tuple[int, int, int]]:
        """Most frequent mistakes: (true class, predicted class, images)."""
        wrong = [(true, predicted, n) for (true, predicted), n in self.confusion.items() if true != predicted]
        return sorted(wrong, key=lambda row: (-row[2], row[:2]))[:limit]


def evaluate_answers(
    files: Sequence[tuple[str, int]],
    judged: Sequence[Judged],
    labels: Sequence[str],
    *,
    epsilon: float | None = None,
    passed_over: int = 0,
    extra: Mapping[str, Any] | None = None,
) -> Evaluation:
    """Turn answers into figures.

    Args:
        files: (name, class index) of each image.
        judged: What became of each, in the same order; two models make a comparison, the second is the reference.
        labels: One per class.
        epsilon: Largest acceptable drop, as a share.
        passed_over: Files that were not looked at.
        extra: Facts to carry along.

    Raises:
        DatasetError: Not one image could be used.
    """
    rows, skipped = _usable(files, judged)
    if not rows:
        named = ", ".join(f"{name} ({reason})" for name, reason in skipped[:3])
        raise DatasetError("evaluation", f"none of {len(files)} images can be used: {named}", "check the files")
    n = len(rows)
    tops = [(true, answers.models[0]["top"]) for true, answers in rows]
    right = [top[0] == true for true, top in tops]
    counts = Counter(true for true, _ in tops)
    hits = Counter(true for true, top in tops if top[0] == true)
    drop = against = None
    if len(rows[0][1].models) > 1:
        reference = [answers.models[1]["top"][0] == true for true, answers in rows]
        lost = sum(theirs and not ours for ours, theirs in zip(right, reference, strict=True))
        gained = sum(ours and not theirs for ours, theirs in zip(right, reference, strict=True))
        drop, against = judge_drop(n, lost, gained, epsilon), sum(reference) / n
    return Evaluation(
        n=n,
        top1=sum(right) / n,
        top1_interval=wilson(sum(right) / n, n),
        top5=sum(true in top for true, top in tops) / n if len(labels) > 5 else None,
        per_class=tuple(ClassResult(i, labels[i], counts[i], hits[i]) for i in sorted(counts)),
        confusion=Counter((true, top[0]) for true, top in tops),
        drop=drop,
        against_top1=against,
        skipped=tuple(sorted(skipped)),
        passed_over=passed_over,
        entropy_hist=_histogram([answers.models[0]["entropy"] for _, answers in rows]),
        margin_hist=_histogram([answers.models[0]["margin"] for _, answers in rows]),
        extra=extra or {},
    )


def _usable(
    files: Sequence[tuple[str, int]], judged: Sequence[Judged]
) -> tuple[list[tuple[int, Judged]], list[tuple[str, str]]]:
    """Images that count once each: bounds speak of independent images, and a copy is none.

    The same bytes under two classes cannot both be right: neither is used.
    """
    skipped: list[tuple[str, str]] = []
    places: dict[str, list[int]] = defaultdict(list)
    for at, answers in enumerate(judged):
        if answers.reason is None:
            places[answers.sha256].append(at)
        else:
            skipped.append((files[at][0], answers.reason))
    rows = []
    for same in places.values():
        first, *copies = sorted(same, key=lambda at: files[at][0])
        if len({files[at][1] for at in same}) > 1:
            pairs = zip([first, *copies], [*copies, first], strict=True)
            skipped += [(files[at][0], f"the same bytes as {files[twin][0]}, in another class") for at, twin in pairs]
            continue
        rows.append((files[first][1], judged[first]))
        skipped += [(files[at][0], f"the same bytes as {files[first][0]}") for at in copies]
    return rows, skipped


def _histogram(values: Sequence[float]) -> tuple[int, ...]:
    counts = Counter(histogram_bin(value) for value in values)
    return tuple(counts[i] for i in range(BINS))


def _points(share: float | None) -> float | None:
    return None if share is None else round(100 * share, 4)

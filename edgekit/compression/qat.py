"""Pass `qat`: training goes on with every weight and every edge rounded as the int8 graph will round them.

BatchNorm is folded first, its statistics as they stand. What comes out is a float model and the range of every edge;
either engine makes the same int8 graph from them, and nothing needs to be calibrated.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from edgekit.compression.distil import weighing_of
from edgekit.compression.keras_graph import fold
from edgekit.compression.passes import Step, Subject, Teacher, Value, Workshop
from edgekit.compression.qat_network import NAME, QatNetwork, best_range
from edgekit.compression.teaching import Itself, follow
from edgekit.errors import PassError
from edgekit.learning import Objective, Plan, cross_entropy

SUBJECT = None
DEFAULTS: dict[str, Value] = {
    "epochs": 2,
    "rate": 1e-4,
    "batch": 32,
    # The float model itself: nothing else says so exactly what rounding must not change.
    "teacher": "self",
    "alpha": 0.5,
    "temperature": 2.0,
    "views": 2,
}
_CALIBRATED = 128  # Pictures that the ranges begin with.
_VALUES = 50_000  # Of an edge, looked at for its range.


def problem_with(step: Step) -> str | None:
    """What is wrong with the values of a step; None if nothing is."""
    if int(step.values["epochs"]) < 0:
        return "epochs must not be negative"
    for key in ("batch", "views"):
        if int(step.values[key]) < 1:
            return f"{key} must be at least 1"
    if not 0 < float(step.values["rate"]) < 1:
        return "rate must lie between 0 and 1"
    return weighing_of(step).problem()


def qat(subject: Subject, step: Step, workshop: Workshop) -> Subject:
    """Fold, round, teach; see the module.

    Raises:
        PassError: A layer has no int8 form here, or there is nothing to learn from.
    """
    lessons = workshop.lessons
    labelled = (lessons.targets[lessons.train] >= 0).any()
    follows = str(step.values["teacher"]) not in ("", "none") and float(step.values["alpha"]) > 0
    if not labelled and not (follows and float(step.values["alpha"]) == 1):
        raise PassError(NAME, "no picture has a label", "follow the float model alone: alpha=1")
    folded = fold(subject.model, NAME)
    network = QatNetwork(folded, subject.preprocess)
    network.set_ranges(first_ranges(network, workshop))
    epochs = int(step.values["epochs"])
    views = min(epochs, int(step.values["views"])) if follows else 0
    # `follow` may wrap the network; what is learnt is the same.
    taught: Any = network
    objective = Objective(cross_entropy(0.1))
    if follows and epochs:
        teacher = _teacher(subject, str(step.values["teacher"]), workshop)
        taught, objective = follow(subject, network, teacher, weighing_of(step), views, workshop, NAME)
    if epochs:
        rate, batch = float(step.values["rate"]), int(step.values["batch"])
        plan = Plan(epochs, rate, batch, decay=0.0, views=views, seed=workshop.seed)
        workshop.history["qat"] = workshop.fit(taught, lessons, plan, objective, stage="qat")
    return replace(subject, model=network.folded_model(), ranges=network.found_ranges(), network=network)


def first_ranges(network: QatNetwork, workshop: Workshop) -> dict[str, tuple[float, float]]:
    """Ranges that fit some pictures best, before anything is learnt."""
    lessons = workshop.lessons
    places = np.random.default_rng([workshop.seed, 8]).permutation(lessons.train)[:_CALIBRATED]
    kept: dict[str, list[Any]] = {}
    each = max(1, _VALUES // max(1, len(places) // 16))
    for start in range(0, len(places), 16):
        for key, value in network.observe(lessons.exact(places[start : start + 16])).items():
            flat = np.asarray(value).ravel()
            kept.setdefault(key, []).append(flat[:: max(1, flat.size // each)])
    return {key: best_range(np.concatenate(parts)) for key, parts in kept.items()}


def _teacher(subject: Subject, name: str, workshop: Workshop) -> Teacher:
    return Itself(subject) if name == "self" else workshop.open_teacher(name)

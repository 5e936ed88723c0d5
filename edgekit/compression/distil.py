"""Pass `distil`: a student learns a teacher's scores, and its features if asked, beside the labels.

Source of the loss: G. Hinton, O. Vinyals, J. Dean, "Distilling the knowledge in a neural network", 2015.
"""

from __future__ import annotations

from edgekit.compression.mending import MendingNetwork, zeros_of
from edgekit.compression.passes import Step, Subject, Value, Workshop
from edgekit.compression.teaching import Weighing, follow
from edgekit.errors import PassError
from edgekit.keras_network import KerasNetwork
from edgekit.learning import Plan

SUBJECT = "teacher"
DEFAULTS: dict[str, Value] = {
    "alpha": 0.5,
    "temperature": 4.0,
    "features": 0.0,
    "epochs": 5,
    "rate": 1e-4,
    "batch": 32,
    "views": 2,
}


def problem_with(step: Step) -> str | None:
    """What is wrong with the values of a step; None if nothing is."""
    found = weighing_of(step).problem()
    if not found and weighing_of(step).alpha == 0 and not step.values["features"]:
        found = "alpha=0 without features follows no teacher"
    return found or _plain_problem(step)


def _plain_problem(step: Step) -> str | None:
    for key in ("epochs", "batch", "views"):
        if int(step.values[key]) < 1:
            return f"{key} must be at least 1"
    return None if 0 < float(step.values["rate"]) < 1 else "rate must lie between 0 and 1"


def weighing_of(step: Step) -> Weighing:
    """The arguments as numbers."""
    return Weighing(
        float(step.values["alpha"]), float(step.values["temperature"]), float(step.values.get("features", 0.0))
    )


def distil(subject: Subject, step: Step, workshop: Workshop) -> Subject:
    """Teach the model; see the module.

    Raises:
        PassError: The teacher does not fit.
    """
    lessons, weighing = workshop.lessons, weighing_of(step)
    if weighing.alpha < 1 and not (lessons.targets[lessons.train] >= 0).any():
        raise PassError("distil", "no picture has a label", "follow the teacher alone: alpha=1")
    sparse = bool(zeros_of(subject.model))
    # What pruning has made zero stays so.
    student = (MendingNetwork if sparse else KerasNetwork)(subject.model, subject.preprocess)
    epochs = int(step.values["epochs"])
    views = min(epochs, int(step.values["views"]))
    teacher = workshop.open_teacher(step.subject)
    network, objective = follow(subject, student, teacher, weighing, views, workshop, "distil")
    plan = Plan(epochs, float(step.values["rate"]), int(step.values["batch"]), views=views, seed=workshop.seed)
    workshop.history["distil"] = workshop.fit(network, lessons, plan, objective, stage="distil")
    if isinstance(student, MendingNetwork):
        student.settle_masks()
    return subject

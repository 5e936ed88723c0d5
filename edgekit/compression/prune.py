"""Pass `prune`: `structured` takes channels and blocks out, `weights` makes single weights zero."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from edgekit.compression.passes import Step, Subject, Value, Workshop
from edgekit.compression.sizes import sized
from edgekit.errors import near_miss

SUBJECT = "kind"
EXAMPLE = "prune=structured:macs=0.5,epochs=5"
# kind -> "module:attribute"; the module also has DEFAULTS and problem_with.
KINDS = {
    "structured": "edgekit.compression.prune_structured:prune_structured",
    "weights": "edgekit.compression.prune_weights:prune_weights",
}


def defaults_of(kind: str) -> Mapping[str, Value]:
    """The arguments of a kind.

    Raises:
        ValueError: There is no such kind; the near miss is named.
    """
    if kind not in KINDS:
        raise ValueError(f"prune knows no '{kind}'{near_miss(kind, KINDS)} (known: {', '.join(KINDS)}): {EXAMPLE}")
    found: Mapping[str, Value] = _module(kind).DEFAULTS
    return found


def problem_with(step: Step) -> str | None:
    """What is wrong with the values of a step; None if nothing is."""
    found: str | None = _module(step.subject).problem_with(step.values)
    return found


def prune(subject: Subject, step: Step, workshop: Workshop) -> Subject:
    """Prune the model, and say how much smaller it is.

    Raises:
        PassError: It cannot be done with this model or these pictures.
    """
    work = getattr(_module(step.subject), KINDS[step.subject].split(":")[1])
    return sized(subject, step.subject, lambda: work(subject, step, workshop))


def _module(kind: str) -> Any:
    return import_module(KINDS[kind].split(":")[0])

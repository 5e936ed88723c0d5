"""Pass `prune`: `structured` takes channels and blocks out, `weights` makes single weights zero."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any

from edgekit.compression.passes import Step, Subject, Value, Workshop
from edgekit.compression.sizes import size_facts
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
    earlier = subject.facts.get("pruned") or {}
    before = earlier.get("before") or size_facts(subject.model)
    attribute = KINDS[step.subject].split(":")[1]
    done: Subject = getattr(_module(step.subject), attribute)(subject, step, workshop)
    known = dict(done.facts)
    notes = known.pop("notes", [])
    facts = pruned_facts(earlier, step.subject, before, size_facts(done.model), notes)
    return replace(done, facts={**known, "pruned": facts})


def pruned_facts(
    earlier: Mapping[str, Any], kind: str, before: Mapping[str, int], after: Mapping[str, int], notes: Sequence[str]
) -> dict[str, Any]:
    """What RUN.json says under ``pruned``: of all passes of a run that made the model smaller."""
    kinds = [word for word in (earlier.get("kind"), kind) if word]
    return {
        "kind": "+".join(kinds),
        "before": dict(before),
        "after": dict(after),
        "notes": [*earlier.get("notes", ()), *notes],
    }


def _module(kind: str) -> Any:
    return import_module(KINDS[kind].split(":")[0])

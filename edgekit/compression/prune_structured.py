"""`prune=structured`: channels and blocks taken out, to a budget, with training in between."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from edgekit.compression.channel_scores import WAYS, worth_of
from edgekit.compression.channels import NAME, find_channels
from edgekit.compression.choosing import Cost, Rule, Worth, choose, int8_bytes, multiply_adds, total_cost
from edgekit.compression.kernel_times import predicted_ms
from edgekit.compression.mending import TEACHING, MendingNetwork, mend, teacher_of, teaching_problem
from edgekit.compression.passes import Step, Subject, Value, Workshop
from edgekit.compression.rebuilding import rebuild
from edgekit.compression.statistics import Statistics
from edgekit.errors import near_miss
from edgekit.keras_network import seed_dropout

DEFAULTS: dict[str, Value] = {
    # Below 1 a share of what the model takes; from 1 on multiply-adds, bytes or predicted ms. One of them is given.
    "macs": 0.0,
    "bytes": 0.0,
    "ms": 0.0,
    # What a channel's score is held against when all are ranked together: the budget's unit, or another.
    "per": "auto",
    "by": "taylor",
    "what": "channels",
    "round": 8,
    "floor": 0.2,
    "spread": "auto",
    "steps": 1,
    "pictures": 512,
    **TEACHING,
}
_BUDGETS: dict[str, Cost] = {"macs": multiply_adds, "bytes": int8_bytes, "ms": predicted_ms}
_WORDS = {
    "per": ("auto", *_BUDGETS),
    "by": WAYS,
    "what": ("channels", "blocks", "both"),
    "spread": ("auto", "global", "even"),
}


def problem_with(values: Mapping[str, Value]) -> str | None:
    """What is wrong with the arguments; None if nothing is."""
    asked = [key for key in _BUDGETS if float(values[key])]
    if len(asked) != 1:
        given = "none is given" if not asked else f"{' and '.join(asked)} are given"
        return f"{' or '.join(f'{key}=0.5' for key in _BUDGETS)} says how small: {given}"
    if float(values[asked[0]]) < 0:
        return f"{asked[0]} must be positive"
    for key, known in _WORDS.items():
        word = str(values[key])
        if word not in known:
            return f"{key} must be one of {', '.join(known)}, not '{word}'{near_miss(word, known)}"
    if not 0 <= float(values["floor"]) < 1:
        return "floor must lie between 0 and 1"
    for key in ("round", "steps", "pictures"):
        if int(values[key]) < 1:
            return f"{key} must be at least 1"
    if values["what"] != "channels" and rule_of(values).spread == "even":
        return "what=blocks and what=both need one ranking of all: by=taylor or spread=global"
    return teaching_problem(values)


def rule_of(values: Mapping[str, Value]) -> Rule:
    """How to choose. Only Taylor's scores can be compared across layers; the others take the same share of each."""
    spread = str(values["spread"])
    if spread == "auto":
        spread = "global" if values["by"] == "taylor" else "even"
    return Rule(int(values["round"]), float(values["floor"]), spread, str(values["what"]))


def prune_structured(subject: Subject, step: Step, workshop: Workshop) -> Subject:
    """Score, cut, let BatchNorm's statistics follow, teach; `steps` times, each time nearer to the budget.

    Raises:
        PassError: The model cannot be followed, or the budget not met.
    """
    graph = find_channels(subject.model)
    key = next(key for key in _BUDGETS if float(step.values[key]))
    cost, asked = _BUDGETS[key], float(step.values[key])
    whole = total_cost(graph, cost)
    budget = asked * whole if asked < 1 else asked
    rule = rule_of(step.values)
    rule = replace(rule, least={group.makers: rule.floor * len(group.channels) for group in graph.groups})
    # Said before hours of teaching: whatever the scores are, this is what can go.
    nothing = Worth(np.zeros(graph.count), {block.name: 0.0 for block in graph.blocks})
    unit = f"{key}={asked:g}"
    choose(graph, nothing, budget, cost, rule, unit)
    teacher = teacher_of(subject, step, workshop)
    steps, epochs = int(step.values["steps"]), int(step.values["epochs"])
    model = subject.model
    for number in range(1, steps + 1):
        stage = NAME if steps == 1 else f"{NAME} {number}"
        done = workshop.kept(f"{number}-taught")
        if done is not None:
            model = done
            continue
        cut = workshop.kept(f"{number}-cut")
        if cut is None:
            # Each step takes the same share of what is left.
            aim = whole * (budget / whole) ** (number / steps)
            shop = replace(workshop, seed=workshop.seed + number)
            cut = _smaller(model, key, aim, unit, step, rule, shop)
            workshop.keep(f"{number}-cut", cut)
        model = cut
        seed_dropout(model, workshop.seed + number)
        share = epochs * number // steps - epochs * (number - 1) // steps
        network = MendingNetwork(model, subject.preprocess)
        mend(subject, network, teacher, step, workshop, epochs=share, stage=stage)
        network.settle_masks()
        if number < steps:
            workshop.keep(f"{number}-taught", model)
    return replace(subject, model=model)


def _smaller(model: Any, key: str, budget: float, unit: str, step: Step, rule: Rule, workshop: Workshop) -> Any:
    graph, cost = find_channels(model), _BUDGETS[key]
    if total_cost(graph, cost) <= budget:
        return model
    pictures = int(step.values["pictures"])
    worth = worth_of(
        model,
        graph,
        str(step.values["by"]),
        workshop.lessons,
        pictures=pictures,
        seed=workshop.seed,
        progress=workshop.progress,
    )
    cut = choose(graph, worth, budget, cost, rule, unit, _BUDGETS.get(str(step.values["per"])))
    whole = Statistics(model, workshop.lessons)
    whole.remember(pictures=pictures, seed=workshop.seed)
    smaller = rebuild(model, graph, cut)
    left = Statistics(smaller, workshop.lessons)
    left.follow(whole, {op.name: cut.kept[graph.of[op.output]] for op in graph.found})
    left.measure(pictures=pictures, seed=workshop.seed, progress=workshop.progress)
    return smaller

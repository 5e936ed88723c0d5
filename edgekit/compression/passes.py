"""Passes: one a file, one signature, chosen by name. A recipe is a list of them, run in the order given.

A pass takes a `Subject` and gives one back. It is handed a `Workshop`: the pictures, the loop that teaches, a place to
cache, and a way to open teachers; so that no pass knows how pictures are read or checkpoints are written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from edgekit.errors import PassArgumentError, PassError, near_miss
from edgekit.learning import Fit, Lessons, Network, Progress
from edgekit_device.contract.preprocess import Preprocess

# name -> "module:attribute"; the module also has SUBJECT (what stands before the colon, or None) and DEFAULTS, or
# `defaults_of` where they hang on the subject, which then is one of a few words.
PASSES = {
    "prune": "edgekit.compression.prune:prune",
    "cluster": "edgekit.compression.cluster:cluster",
    "distil": "edgekit.compression.distil:distil",
    "qat": "edgekit.compression.qat:qat",
}

Value = str | int | float | bool


@dataclass(frozen=True)
class Subject:
    """A classifier between two passes.

    Attributes:
        model: A ``keras.Model``, functional or sequential.
        preprocess: How pictures become its input (float input).
        labels: One a class.
        ranges: Layer -> smallest and largest value behind it, after `qat`; None before. ``image`` is the input.
        network: What is judged, where that is not the model itself: after `qat` it rounds as the integers will.
        facts: What RUN.json is to say of it.
    """

    model: Any
    preprocess: Preprocess
    labels: tuple[str, ...]
    ranges: Mapping[str, tuple[float, float]] | None = None
    network: Network | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """One pass of a recipe.

    Attributes:
        name: A key of PASSES.
        subject: What stands before the colon, as a teacher's name; empty where the pass takes none.
        values: The arguments, defaults filled in.
    """

    name: str
    subject: str
    values: Mapping[str, Value]

    def document(self) -> dict[str, Any]:
        """As it stands in recipe.toml."""
        return {"pass": self.name, **({"subject": self.subject} if self.subject else {}), **self.values}


class Teacher(Protocol):
    """Somebody who knows: any model that gives one score a class."""

    @property
    def name(self) -> str:
        """As the recipe calls it."""

    @property
    def digest(self) -> str:
        """Names its weights and preprocessing, for caches."""

    @property
    def labels(self) -> tuple[str, ...] | None:
        """Its classes, where they are known."""

    def answers(self, pixels: Any, output: str) -> Any:
        """What it says of pictures.

        Args:
            pixels: uint8, shape (n, H, W, 3), RGB, as a student sees them.
            output: ``logits`` or ``features``.

        Returns:
            float32, shape (n, classes) or (n, d).
        """


@dataclass(frozen=True)
class Workshop:
    """What a pass works with.

    Attributes:
        lessons: The pictures.
        fit: The loop.
        open_teacher: Finds a teacher by the name that a recipe gives it.
        cached: (key, fill) -> folder: `fill` writes files into a folder once, and never again for that key.
        seed: Draws.
        progress: Called with (stage, done, total).
        history: Stage -> one entry an epoch; filled by the passes.
        keep: (name, model): writes a model down until the pass is done, so that a killed one goes on behind it.
        kept: What was kept under a name; None where nothing was.
    """

    lessons: Lessons
    fit: Fit
    open_teacher: Callable[[str], Teacher]
    cached: Callable[[str, Callable[[Path], dict[str, Any]]], Path]
    seed: int = 0
    progress: Progress | None = None
    history: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    keep: Callable[[str, Any], None] = lambda name, model: None
    kept: Callable[[str], Any] = lambda name: None


Pass = Callable[[Subject, Step, Workshop], Subject]


def run_pass(subject: Subject, step: Step, workshop: Workshop) -> Subject:
    """Run one pass.

    Raises:
        PassError: It cannot work on this model or these pictures.
        PassArgumentError: No pass has this name.
    """
    module, name = _home(step.name)
    if subject.ranges is not None:
        raise PassError(step.name, "stands behind qat, and would make its ranges untrue", "put qat last")
    run: Pass = getattr(module, name)
    return run(subject, step, workshop)


def parse_step(text: str) -> Step:
    """Read what --pass says: ``prune=structured:macs=0.5``, ``distil=TEACHER:epochs=5``, ``qat=epochs=2`` or ``qat``.

    Raises:
        PassArgumentError: No such pass or argument; the near miss is named.
    """
    name, _, rest = text.partition("=")
    name = name.strip()
    module, _ = _home(name)
    subject = ""
    if module.SUBJECT:
        # A teacher may be a path with a colon in it; arguments are what stands behind the last one. A word has none.
        head, colon, tail = rest.partition(":") if hasattr(module, "defaults_of") else rest.rpartition(":")
        subject, rest = (head, tail) if colon and ("=" in tail or not tail) else (rest, "")
    values = {}
    for part in (piece.strip() for piece in rest.split(",")):
        if part:
            key, equals, word = part.partition("=")
            if not equals:
                raise PassArgumentError(f"--pass {text}", part, f"'{part}' is no argument; write name=value")
            values[key.strip()] = _value(word.strip())
    return make_step(name, subject.strip(), values, where=f"--pass {text}")


def make_step(name: str, subject: str, values: Mapping[str, Any], *, where: str) -> Step:
    """Check a step and fill in its defaults.

    Args:
        name: A key of PASSES.
        subject: A teacher, for those that take one.
        values: Arguments.
        where: Begins the message of an error.

    Raises:
        PassArgumentError: As in `parse_step`.
    """
    module, _ = _home(name, where)
    if module.SUBJECT and not subject:
        usage = getattr(module, "EXAMPLE", f"{name}={module.SUBJECT.upper()}:epochs=5")
        raise PassArgumentError(where, module.SUBJECT, f"{name} needs a {module.SUBJECT}: {usage}")
    if subject and not module.SUBJECT:
        raise PassArgumentError(where, "teacher", f"{name} takes no '{subject}' before its arguments")
    defaults = _defaults(module, subject, where)
    for key, value in values.items():
        if key not in defaults:
            known = ", ".join(defaults)
            miss = near_miss(key, defaults)
            raise PassArgumentError(where, key, f"{name} has no argument '{key}'{miss} (known: {known})")
        wanted = type(defaults[key])
        fits = isinstance(value, wanted) and (wanted is bool or not isinstance(value, bool))
        if not fits and not (wanted is float and isinstance(value, int) and not isinstance(value, bool)):
            kind = {float: "a number", int: "a whole number", bool: "true or false", str: "a word"}[wanted]
            raise PassArgumentError(where, key, f"{name}'s {key} must be {kind}, not {value!r}")
    made = {key: type(default)(values.get(key, default)) for key, default in defaults.items()}
    step = Step(name, subject, made)
    problem = module.problem_with(step)
    if problem:
        raise PassArgumentError(where, problem.split()[0].partition("=")[0], problem)
    return step


def _defaults(module: Any, subject: str, where: str) -> Mapping[str, Value]:
    try:
        found: Mapping[str, Value] = module.defaults_of(subject) if hasattr(module, "defaults_of") else module.DEFAULTS
    except ValueError as cause:
        raise PassArgumentError(where, module.SUBJECT, str(cause)) from cause
    return found


def subject_key(name: str) -> str:
    """What a recipe file calls the subject of a pass; ``teacher`` where no pass has this name."""
    return (_home(name)[0].SUBJECT or "") if name in PASSES else "teacher"


def _home(name: str, where: str = "") -> tuple[Any, str]:
    if name not in PASSES:
        problem = f"no pass is called '{name}'{near_miss(name, PASSES)} (known: {', '.join(PASSES)})"
        raise PassArgumentError(where or f"--pass {name}", "name", problem)
    module, attribute = PASSES[name].split(":")
    return import_module(module), attribute


def _value(word: str) -> Value:
    if word in ("true", "false"):
        return word == "true"
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word

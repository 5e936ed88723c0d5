"""recipe.toml of `edgekit compress`: a list of passes as data. A mistake is named with its line and the near miss.

seed = 0

[[pass]]
name = "prune"
kind = "structured"
macs = 0.5

[[pass]]
name = "distil"
teacher = "runs/lite2"
epochs = 5

[[pass]]
name = "qat"
epochs = 2
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.compression.passes import PASSES, Step, make_step, subject_key
from edgekit.errors import PassArgumentError, RecipeError, UsageError, near_miss

_TOP = ("seed", "pass", "schema")


@dataclass(frozen=True)
class PassList:
    """What a recipe file asks for.

    Attributes:
        steps: In order.
        seed: None where the file says nothing.
    """

    steps: tuple[Step, ...]
    seed: int | None = None


def read_pass_list(path: Path) -> PassList:
    """Read a recipe.

    Raises:
        RecipeError: Not TOML, an unknown key, pass or argument, or a value of another kind; with its line.
        UsageError: There is no such file.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as cause:
        raise UsageError(f"--recipe {path}: cannot be read ({cause})") from cause
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as cause:
        raise RecipeError(str(path), "", f"is not TOML ({cause})") from cause
    for key in document:
        if key not in _TOP:
            raise RecipeError(f"{path}:{_line(text, key)}", key, f"is not a key of a recipe{near_miss(key, _TOP)}")
    seed = document.get("seed")
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int) or seed < 0):
        raise RecipeError(f"{path}:{_line(text, 'seed')}", "seed", "must be a whole number from 0 on")
    listed = document.get("pass")
    if not isinstance(listed, list) or not listed or not all(isinstance(item, dict) for item in listed):
        raise RecipeError(str(path), "pass", 'lists no pass; write [[pass]] and name = "qat" below it')
    return PassList(tuple(_step(path, text, at, entry) for at, entry in enumerate(listed)), seed)


def _step(path: Path, text: str, number: int, entry: dict[str, Any]) -> Step:
    begins = [at for at, line in enumerate(text.splitlines(), 1) if re.match(r"\s*\[\[\s*pass\s*\]\]", line)]
    first = begins[number] if number < len(begins) else 1
    last = begins[number + 1] - 1 if number + 1 < len(begins) else len(text.splitlines())
    values = dict(entry)
    name = values.pop("name", None)
    subject = values.pop(subject_key(name), "") if isinstance(name, str) else ""
    if not isinstance(name, str):
        raise RecipeError(f"{path}:{first}", "name", f"is missing: which pass? (known: {', '.join(PASSES)})")
    try:
        return make_step(name, str(subject), values, where=str(path))
    except PassArgumentError as cause:
        key = cause.key if cause.key in entry else "name"
        raise RecipeError(f"{path}:{_line(text, key, first, last)}", key, f"is wrong: {cause.problem}") from cause


def _line(text: str, key: str, first: int = 1, last: int | None = None) -> int:
    """The line on which a key stands; the first of its block where it stands nowhere."""
    pattern = re.compile(rf"""\s*\[*\s*["']?{re.escape(key)}["']?\s*[=\].]""")
    for at, line in enumerate(text.splitlines(), 1):
        if at >= first and (last is None or at <= last) and pattern.match(line):
            return at
    return first

"""A classifier of digits, trained once with a net of a few layers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from edgekit import train
from edgekit.run_writing import TrainedRun
from edgekit.zoo.variants import Variant
from tests.worlds.photo_folders import digits_folder

TINY = Variant("tiny", width=0.25, depth=0.3, resolution=32)
OPTIONS: dict[str, Any] = {"epochs": 8, "rate": 3e-3, "augment": "no-mirror", "patience": 0}


class Digits(NamedTuple):
    """A run, and the pictures it learnt from."""

    run: TrainedRun
    data: Path
    steps: list[int]


@pytest.fixture(scope="session")
def cache_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("cache")
        patch.setenv("XDG_CACHE_HOME", str(home))
        yield home


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory, cache_home: Path) -> Digits:
    folder = tmp_path_factory.mktemp("digits")
    data = digits_folder(folder / "data", 30)
    steps: list[int] = []

    def note(stage: str, done: int, total: int) -> None:
        if stage == "fine-tune":
            steps.append(done)

    run = train(data, variant=TINY, weights="random", out=folder / "run", progress=note, **OPTIONS)
    return Digits(run, data, steps)

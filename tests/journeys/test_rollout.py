"""A release goes over the air to two boards that run: the verbs that an operator types, and real edgekit-device."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from edgekit.publishing.reading import RepositoryFiles
from edgekit_device.ota.depot import ROOT_JSON
from tests.worlds.bundles import Signer
from tests.worlds.trial_board import Board, Recipe, bad_recipes

LIMIT_S = 400.0
# What a toy of 0.1 ms makes of a busy machine is not to be judged here.
GATES = "fps=off,p95=off,mix=off,margin=off"


class Operator:
    """A machine with `fleet up`, and boards that were flashed."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.env = {**os.environ, "EDGEKIT_CONFIG_HOME": str(base / "home"), "NO_COLOR": "1"}
        self.signer = Signer.make(base / "home" / "keys")
        self.boards: list[Board] = []

    def edgekit(self, *words: str) -> dict[str, Any]:
        """Type a verb; what it says as JSON."""
        command = [sys.executable, "-m", "edgekit", *words, "--json"]
        done = subprocess.run(command, cwd=self.base, env=self.env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    def up(self, stack: ExitStack) -> dict[str, Any]:
        """`fleet up`, until the stack ends."""
        words = ["fleet", "up", "--local", "--port", "0", "--broker-port", "0", "--json"]
        command = [sys.executable, "-m", "edgekit", *words]
        process = subprocess.Popen(command, cwd=self.base, env=self.env, stdout=subprocess.PIPE, text=True)
        assert process.stdout
        stack.callback(process.stdout.close)
        stack.callback(process.wait, 60)
        stack.callback(process.terminate)
        return dict(json.loads(process.stdout.readline()))

    def board(self, stack: ExitStack, device: str, up: dict[str, Any]) -> None:
        """One that serves toy-1.0.0, knows where updates are and whom to believe, and is a member."""
        board = stack.enter_context(Board(self.base / device, self.signer))
        board.committed("1.0.0")
        (board.root / "etc/edgekit/device.toml").write_text(
            f'updates = "{up["dashboard"].partition("/?")[0]}/updates/"\n'
        )
        (board.root / ROOT_JSON).parent.mkdir(parents=True)
        (board.root / ROOT_JSON).write_bytes(RepositoryFiles(self.base / "updates").root_bytes())
        board.start("--broker", up["broker"], "--site", "home", "--id", device)
        self.boards.append(board)

    def release(self, version: str, recipe: Recipe | None = None) -> str:
        """Publish a bundle."""
        path = self.boards[0].bundle(recipe or Recipe(), version)
        self.edgekit("fleet", "publish", str(path))
        return path.stem

    def roll_out(self, name: str) -> dict[str, Any]:
        """Start a rollout, and wait until it is over."""
        words = ["--waves", "1,100%", "--max-failures", "0", "--readings", "2", "--gates", GATES]
        number = str(self.edgekit("fleet", "rollout", "start", name, *words)["rollout"])

        def state() -> dict[str, Any]:
            return dict(self.edgekit("fleet", "rollout", "status", number)["rollouts"][0])

        wait(lambda: state()["state"] in ("done", "stopped"), lambda: str(state()))
        return state()


def wait(true: Callable[[], bool], words: Callable[[], str]) -> None:
    until = time.monotonic() + LIMIT_S
    while not true():
        assert time.monotonic() < until, words()
        time.sleep(3.0)  # Each look is a program that starts.


@pytest.fixture
def operator(tmp_path: Path) -> Iterator[Operator]:
    made = Operator(tmp_path)
    first = made.signer.bundle(tmp_path / "first", version="0.9.0")
    made.edgekit("fleet", "publish", str(first))
    with ExitStack() as stack:
        up = made.up(stack)
        for device in ("porch", "shed"):
            made.board(stack, device, up)
        for board in made.boards:
            board.wait_reading("toy-1.0.0", 120.0)
        wait(lambda: made.edgekit("fleet", "status")["online"] == 2, lambda: "not both online")
        yield made


def test_a_release_that_is_published_and_rolled_out_runs_on_both_boards_and_a_bad_one_on_none(
    operator: Operator,
) -> None:
    good = operator.release("1.1.0")
    ended = operator.roll_out(good)
    assert ended["state"] == "done", ended
    for board in operator.boards:
        assert board.current == good
        board.wait_reading(good)
    bad = operator.release("1.2.0", bad_recipes()["golden below the floor"])
    ended = operator.roll_out(bad)
    assert ended["state"] == "stopped", ended
    # One was told, by one the rollout was stopped, and that one never let it in.
    assert sum(any(bad in line for line in board.said) for board in operator.boards) == 1
    for board in operator.boards:
        assert board.current == good
        board.wait_reading(good)

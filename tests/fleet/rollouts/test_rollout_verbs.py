"""`edgekit fleet rollout` on the command line."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from edgekit.cli import main
from edgekit.fleet.database import sqlite_url
from edgekit.fleet.store import Store
from edgekit.publishing.keys import UpdateKeys
from edgekit.publishing.repository import Repository
from tests.worlds.rollout_fleet import NEW_RELEASE, Board
from tests.worlds.rollout_rows import RowBoards

Said = pytest.CaptureFixture[str]


def test_the_verbs_say_where_it_stands_and_what_comes_next(tmp_path: Path, capsys: Said) -> None:
    store, updates = str(tmp_path / "fleet.db"), tmp_path / "updates"
    with Store(sqlite_url(Path(store))) as opened:
        RowBoards(opened, [Board(n) for n in range(4)], time.time())

    def rollout(*words: str) -> tuple[int, str]:
        code = main(["fleet", "rollout", *words, "--store", store])
        said = capsys.readouterr()
        return code, said.out + said.err

    assert rollout("status") == (0, "no rollout yet\nnext: edgekit fleet rollout start BUNDLE\n")
    assert "there is no rollout" in rollout("pause")[1]
    # A repository that does not offer it: refused before any board hears of it.
    repository = Repository(updates, UpdateKeys(tmp_path / "keys"))
    repository.create()
    code, said = rollout("start", NEW_RELEASE, "--updates", str(updates))
    assert (code, NEW_RELEASE in said) == (1, True)
    bundle = tmp_path / f"{NEW_RELEASE}.edgekit"
    bundle.write_bytes(b"a bundle")
    repository.publish({f"bundles/{bundle.name}": bundle}, {"notes": "sees foxes"})
    code, said = rollout("start", NEW_RELEASE, "--updates", str(updates), "--waves", "1,100%")
    assert code == 0
    assert "waves  [1: 1]  100%: 4  (boards, cumulative)" in said
    assert max(map(len, said.splitlines())) <= 80
    assert rollout("pause")[0] == 0
    code, said = rollout("resume", "--json")
    assert json.loads(said)["state"] == "running"
    assert rollout("abort", "1")[0] == 0
    code, said = rollout("abort", "1")
    assert (code, said.count("\n")) == (1, 1)
    assert rollout("pin", "home.b1", "--reason", "demo")[0] == 0
    assert rollout("unpin", "home.b1")[0] == 0
    assert json.loads(rollout("status", "--json")[1])["rollouts"][0]["state"] == "stopping"
    assert rollout("start", NEW_RELEASE, "--where", "sight=x")[0] == 2

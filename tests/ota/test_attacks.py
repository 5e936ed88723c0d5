"""Attacks on an update are refused, each under its own name, and what served serves on. Gate A5 strikes every one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.worlds.attacks import ATTACKS, Case, cases, strike

TABLE = cases()
SLOW = ("one byte at a time", "headers too", "one byte for each request", "half of it", "code 503")


def quick() -> list[Case]:
    """One case of each attack on each file, without those that wait for a deadline."""
    seen: dict[tuple[str, str], Case] = {}
    for case in TABLE:
        if case.name not in SLOW:
            seen.setdefault((case.attack, case.file), case)
    return list(seen.values())


@pytest.mark.parametrize("case", quick(), ids=lambda case: case.id)
def test_an_attack_is_refused_under_its_name_and_the_old_release_serves_on(case: Case, tmp_path: Path) -> None:
    outcome = strike(case, tmp_path)
    assert outcome.error == case.error, outcome.words
    assert outcome.serving == "toy-1.0.0"


@pytest.mark.parametrize("file", ["timestamp", "bundle"])
def test_a_drip_is_refused_at_the_least_rate(file: str, tmp_path: Path) -> None:
    case = next(c for c in TABLE if (c.attack, c.file, c.name) == ("slow retrieval", file, "one byte at a time"))
    assert strike(case, tmp_path).error == "SlowRetrievalError"


def test_without_an_attack_the_same_update_is_taken(tmp_path: Path) -> None:
    case = TABLE[0]._replace(do=lambda world: None)
    outcome = strike(case, tmp_path)
    assert (outcome.error, outcome.serving) == (None, "toy-1.1.0")


def test_the_table_knows_every_attack_and_says_nothing_twice() -> None:
    assert {case.attack for case in TABLE} == set(ATTACKS)
    assert len({case.id for case in TABLE}) == len(TABLE) >= 72

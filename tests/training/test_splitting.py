from __future__ import annotations

import hashlib
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.errors import DatasetError
from edgekit.training.splitting import HELD_OUT, LEFT_OUT, MONITOR, TRAIN, Shares, split


def digests(count: int, salt: str = "") -> list[str]:
    return [hashlib.sha256(f"{salt}{at}".encode()).hexdigest() for at in range(count)]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(5, 60), min_size=2, max_size=5), st.integers(0, 9), st.floats(0.1, 0.4))
def test_every_class_gives_its_share(sizes: list[int], seed: int, share: float) -> None:
    labels = [f"c{at}" for at, size in enumerate(sizes) for _ in range(size)]
    roles = split(digests(len(labels)), labels, range(len(labels)), Shares(share, 0.1), seed)
    held = Counter(label for label, role in zip(labels, roles, strict=True) if role == HELD_OUT)
    for at, size in enumerate(sizes):
        assert held[f"c{at}"] == max(1, round(share * size))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_what_belongs_together_is_never_torn_apart(data: st.DataObject) -> None:
    count = data.draw(st.integers(30, 80))
    numbers = data.draw(st.lists(st.integers(0, 20), min_size=count, max_size=count))
    labels = [f"c{number % 2}" for number in numbers]
    try:
        roles = split(digests(count), labels, numbers, Shares(0.25, 0.2), 3)
    except DatasetError:
        return
    by_cluster: dict[int, set[str]] = {}
    for number, role in zip(numbers, roles, strict=True):
        by_cluster.setdefault(number, set()).add(role)
    assert all(len(found) == 1 for found in by_cluster.values())
    assert {role for label, role in zip(labels, roles, strict=True) if label == "c0"} >= {TRAIN, HELD_OUT}


def test_a_grown_data_set_keeps_what_it_held_out() -> None:
    few, many = digests(100), digests(150)
    labels = ["a", "b"] * 75
    before = split(few, labels[:100], range(100), Shares(), 0)
    after = split(many, labels, range(150), Shares(), 0)
    old = {at for at in range(100) if before[at] == HELD_OUT}
    new = {at for at in range(150) if after[at] == HELD_OUT}
    assert len(old & new) >= 0.6 * len(old)


def test_another_seed_holds_out_others() -> None:
    labels = ["a", "b"] * 50
    one, two = (split(digests(100), labels, range(100), Shares(), seed) for seed in (0, 1))
    assert one != two
    assert one == split(digests(100), labels, range(100), Shares(), 0)


def test_a_class_of_one_burst_cannot_be_judged() -> None:
    labels = ["a"] * 6 + ["b"] * 6
    numbers = [0] * 6 + list(range(1, 7))
    with pytest.raises(DatasetError, match=r"class 'a'.*6 pictures.*none can be held out"):
        split(digests(12), labels, numbers, Shares(), 0)
    roles = split(digests(12), labels, numbers, Shares(held_out=0.0), 0)
    assert HELD_OUT not in roles


def test_an_earlier_split_stands_and_what_belongs_to_it_is_left_out() -> None:
    labels = ["a", "b"] * 20
    numbers = [*range(38), 0, 1]  # The last two belong to the first two.
    fixed = {0: HELD_OUT, 1: HELD_OUT, 2: MONITOR, 3: MONITOR}
    roles = split(digests(40), labels, numbers, Shares(), 0, fixed=fixed)
    assert roles[:4] == [HELD_OUT, HELD_OUT, MONITOR, MONITOR]
    assert roles[38:] == [LEFT_OUT, LEFT_OUT]
    assert set(roles[4:38]) == {TRAIN}

"""Host and board of different versions: the table of docs/guide/versions.md, row by row."""

from __future__ import annotations

import pytest

from edgekit_device import __version__
from edgekit_device.contract.versions import GO, REFUSE, UPDATE, WARN, advise, numbers

# (host, board, requires, board's schema, action, words of the reason)
TABLE = [
    ("0.3.0", None, {}, None, UPDATE, "no runtime"),
    ("0.3.0", "0.3.0", {}, None, GO, None),
    ("0.3.0", "0.3.0", {"runtime": "0.3.0", "schema": 1}, None, GO, None),
    ("0.3.0", "0.2.9", {}, None, UPDATE, "older than this host"),
    ("0.3.0", "0.2.9", {"runtime": "0.3.0"}, None, UPDATE, "becomes 0.3.0"),
    ("1.0.0", "0.9.0", {}, None, UPDATE, "older"),
    ("0.3.0", "0.3.0", {"runtime": "0.4.0"}, None, REFUSE, "upgrade this host"),
    ("0.3.0", None, {"runtime": "0.4.0"}, None, REFUSE, "upgrade this host"),
    ("0.3.0", "0.3.1", {}, None, WARN, "newer"),
    ("0.3.0", "0.3.9", {"runtime": "0.3.8"}, None, WARN, "stays as it is"),
    ("1.3.0", "1.9.0", {"runtime": "1.8.0"}, None, WARN, "stays as it is"),
    ("1.3.0", "1.4.0", {"runtime": "1.5.0"}, None, REFUSE, "upgrade this host"),
    ("0.3.0", "0.4.0", {}, None, REFUSE, "does not know"),
    ("0.3.0", "1.0.0", {}, None, REFUSE, "does not know"),
    ("1.4.0", "2.0.0", {}, None, REFUSE, "pip install --upgrade edgekit"),
    ("0.3.0", "0.3.0", {}, 2, REFUSE, "schema 2"),
    ("0.3.0", "0.3.0", {}, 0, UPDATE, "schema 0"),
    ("0.3.0", "0.3.0", {"schema": 2}, None, REFUSE, "requires"),
    ("0.3.0", "0.4.0", {"schema": 2}, 2, REFUSE, "does not know"),
    ("0.3.0", "0.3.0.dev4+local", {}, None, GO, None),
    ("0.3", "0.3.0", {}, None, GO, None),
]


@pytest.mark.parametrize(("host", "board", "requires", "schema", "action", "words"), TABLE, ids=str)
def test_each_pair_of_versions_has_one_answer(host, board, requires, schema, action, words) -> None:
    advice = advise(host, board, requires, board_schema=schema)
    assert advice.action == action
    assert (advice.reason is None) if words is None else (words in (advice.reason or ""))


def test_a_host_and_the_runtime_it_carries_go_together() -> None:
    assert advise(__version__, __version__, {"runtime": __version__, "schema": 1}).action == GO


@pytest.mark.parametrize("least", ["0.0.0", "0.1.0", "0.2.0", "0.3.0", "0.4.0", "1.0.0"])
@pytest.mark.parametrize("board", [None, "0.1.0", "0.2.0", "0.3.0", "1.0.0"])
def test_after_whatever_is_advised_the_board_meets_what_the_bundle_requires(board, least) -> None:
    """Whoever goes on ends with a runtime that is new enough: no board is sent what it must refuse."""
    advice = advise("0.2.0", board, {"runtime": least})
    if advice.action != REFUSE:
        ends_with = "0.2.0" if advice.action == UPDATE else board or ""
        assert numbers(ends_with) >= numbers(least)


@pytest.mark.parametrize("text", ["", "x", "9" * 400, "1.2.3.4.5", "-1"])
def test_any_text_has_three_numbers(text) -> None:
    assert len(numbers(text)) == 3

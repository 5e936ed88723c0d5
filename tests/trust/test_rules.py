"""The one table: what is not in it is refused, and no id can reach past its own topics."""

from __future__ import annotations

import pytest

from edgekit.trust.authority import check_board_name
from edgekit.trust.dynamic_security import Account, Hashed, access_list, commands_for
from edgekit.trust.rules import BOARD, COLLECTOR, ROLES, TABLE, in_words, matches, may, rules_for
from edgekit_device.contract.errors import UsageError
from edgekit_device.contract.topics import KINDS, topic

PORCH, BARN = rules_for(BOARD, "home", "porch"), rules_for(BOARD, "home", "barn")
# Names by which a client of other brokers has reached topics of others.
HOSTILE = (
    "devA/x", "+", "#", "a/#", "../b", "home/porch", "$share", "a b", "", "-a", "Ä", "a\0b", "a%c", "%u", "a" * 64,
    "a.b.c", ".", "porch\n", "PORCH",
)  # fmt: skip


def test_a_board_speaks_and_hears_on_its_own_topics_only() -> None:
    for kind in KINDS.values():
        own, other = topic("home", "porch", kind), topic("home", "barn", kind)
        assert may(PORCH, "publish", own) == (kind.sender == "device")
        assert may(PORCH, "subscribe", own) == (kind.sender == "host" or kind.name == "status")
        assert may(PORCH, "retain", own) == (kind.sender == "device" and kind.retain)
        assert not any(may(PORCH, verb, other) for verb in ("publish", "subscribe", "will", "retain"))


def test_only_the_status_may_be_a_last_will() -> None:
    assert [rule.topic for rule in PORCH if rule.will] == ["edgekit/v1/home/porch/status"]


def test_every_kind_of_the_contract_is_somebodys_to_say_and_somebodys_to_hear() -> None:
    collector = rules_for(COLLECTOR)
    for kind in KINDS.values():
        name = topic("home", "porch", kind)
        both = [may(PORCH, "publish", name), may(collector, "publish", name)]
        assert sorted(both) == [False, True], kind
        assert may(collector if both[0] else PORCH, "subscribe", name)


@pytest.mark.parametrize("name", HOSTILE, ids=repr)
def test_a_name_that_could_be_topic_syntax_is_no_board(name: str) -> None:
    for whole in (f"home.{name}", f"{name}.porch", name):
        with pytest.raises(UsageError):
            check_board_name(whole)
    with pytest.raises(UsageError):
        rules_for(BOARD, "home", name)


def test_no_role_but_the_administrator_reaches_the_accounts() -> None:
    for role in ROLES:
        rules = rules_for(role, "home", "porch") if role == BOARD else rules_for(role)
        assert may(rules, "publish", "$CONTROL/dynamic-security/v1") == (role == "administrator")


def test_the_brokers_list_grants_what_the_table_grants_and_no_wildcard_to_a_board() -> None:
    granted = access_list(PORCH)
    assert all(entry["allow"] for entry in granted)
    assert not [
        entry
        for entry in granted
        if "+" in entry["topic"] or "#" in entry["topic"] or "pattern" in entry["acltype"].lower()
    ]
    sent = {entry["topic"] for entry in granted if entry["acltype"] == "publishClientSend"}
    assert sent == {rule.topic for rule in PORCH if rule.publish}
    heard = {entry["topic"] for entry in granted if entry["acltype"] == "publishClientReceive"}
    assert heard == {rule.topic for rule in PORCH if rule.subscribe}


def test_the_words_for_other_brokers_hold_every_row() -> None:
    assert len(in_words().splitlines()) == len(TABLE) + 2


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("a/+/c", "a/b/c", True), ("a/+/c", "a/b/d", False), ("a/#", "a", True), ("a/#", "a/b/c", True),
        ("+/b", "$SYS/b", False), ("#", "$SYS/b", False), ("a/+", "a", False), ("a/+", "a/b/c", False),
        ("a", "a/b", False),
    ],
)  # fmt: skip
def test_filters_match_as_the_standard_says(pattern: str, name: str, fits: bool) -> None:
    assert matches(pattern, name) is fits


def test_a_revoked_account_is_cut_before_it_is_deleted() -> None:
    gone = Account("home.porch", BOARD, "home", "porch", Hashed(b"", b""), enabled=False)
    assert [c["command"] for c in commands_for(gone, None)] == ["disableClient", "deleteClient", "deleteRole"]

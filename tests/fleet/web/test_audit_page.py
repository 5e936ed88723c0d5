"""The audit log as a page."""

from __future__ import annotations

import pytest

from edgekit.cli import main
from edgekit.fleet import audit
from edgekit.fleet.batch import BoardKey
from edgekit.fleet.web import users
from tests.worlds.dashboards import PASSWORD, Shown

HTML = {"accept": "text/html"}


def test_who_logs_in_acknowledges_and_silences_stands_in_the_log(world: Shown) -> None:
    olga, adam = world.person("olga"), world.person("adam")
    headers = {"origin": world.origin, "x-csrf-token": world.csrf(olga)}
    document = {"site": "orchard", "device": "row-02", "kind": "rung_lost"}
    assert olga.post("/api/v1/alerts/acknowledge", json=document, headers=headers).json() == {"done": True}
    assert olga.post("/api/v1/alerts/silence", json={**document, "minutes": 60}, headers=headers).is_success
    assert olga.post("/api/v1/alerts/silence", json={**document, "minutes": 0}, headers=headers).is_success
    found = [(e.who, e.what, e.target) for e in audit.entries(world.store, words="olga")]
    assert found[:3] == [
        ("olga", "silence lifted", "orchard.row-02 rung_lost"),
        ("olga", "alert silenced", "orchard.row-02 rung_lost for 60 min"),
        ("olga", "alert acknowledged", "orchard.row-02 rung_lost"),
    ]
    assert ("olga", "logged in", "from 127.0.0.1") in found
    text = adam.get("/audit?q=rung_lost", headers=HTML).text
    assert "alert acknowledged" in text
    assert "logged in" not in text


def test_only_administrators_are_shown_the_log_and_the_way_to_it(world: Shown) -> None:
    for name, sees in (("victor", False), ("olga", False), ("adam", True)):
        person = world.person(name)
        assert (person.get("/audit", headers=HTML).status_code == 200) == sees
        assert ('href="/audit"' in person.get("/", headers=HTML).text) == sees


def test_an_administrator_of_one_site_reads_what_was_done_there_and_nothing_else(world: Shown) -> None:
    users.add(world.store, "hera", "administrator", PASSWORD, ("harbour",))
    audit.record(world.store, audit.on_board("olga", "logs asked for", BoardKey("harbour", "pier-a")))
    audit.record(world.store, audit.on_board("olga", "logs asked for", BoardKey("orchard", "row-07")))
    text = world.person("hera").get("/audit", headers=HTML).text
    assert "harbour.pier-a" in text
    assert "orchard" not in text
    assert "user set" not in text


def test_the_log_is_paged_and_what_stands_in_it_is_text(world: Shown) -> None:
    for number in range(130):
        audit.record(world.store, audit.Act("olga", "tried", f"<script>alert({number})</script>", "it's <b>no</b>"))
    adam = world.person("adam")
    first = adam.get("/audit?q=tried", headers=HTML).text
    assert "<script>alert" not in first
    assert "&lt;script&gt;alert(129)" in first
    older = first.split("before=")[1].split('"')[0]
    second = adam.get(f"/audit?q=tried&before={older}", headers=HTML).text
    assert "alert(29)" in second
    assert "alert(30)" not in second
    for odd in ("before=x", "before=999999999999999999999", "q=%00", "q=%25", "before=-1"):
        assert adam.get(f"/audit?{odd}", headers=HTML).status_code == 200


def test_the_verb_prints_the_log(world: Shown, capsys: pytest.CaptureFixture[str]) -> None:
    audit.record(world.store, audit.Act("olga", "board refused", "home.\x1b[2Jporch", "not ours"))
    path = world.store._engine.url.database
    assert main(["fleet", "audit", "board refused", "--store", str(path)]) == 0
    line = capsys.readouterr().out.splitlines()[0]
    assert line.endswith("olga  board refused home.\N{REPLACEMENT CHARACTER}[2Jporch: not ours")

"""E7, the short form: the API says what its description says, and nothing to whoever is not logged in."""

from __future__ import annotations

from tests.worlds.api_fuzz import fuzz
from tests.worlds.dashboards import Shown


def test_the_api_keeps_its_own_description(world: Shown) -> None:
    found = fuzz(world, examples=6)
    assert found.passed, found.said
    assert found.requests > 30


def test_whoever_is_not_logged_in_gets_refusals_only(world: Shown) -> None:
    found = fuzz(world, examples=3, login=False)
    assert found.passed, found.said
    assert found.requests > 15


def test_a_program_with_the_token_reads_numbers(world: Shown) -> None:
    program = world.program()
    fleet = program.get("/api/v1/fleet").json()
    assert (fleet["boards"], fleet["needing"]) == (24, 7)
    worst = program.get("/api/v1/boards", params={"show": "needs"}).json()["boards"]
    assert {board["device"] for board in worst[:3]} == {"pier-c", "gate", "garage"}
    detail = program.get("/api/v1/boards/harbour/pier-c").json()
    assert (detail["desired"]["bundle"], detail["reported"]["bundle"]) == ("lite1-1.1.0", "lite1-1.0.0")
    series = program.get("/api/v1/boards/home/porch/series", params={"range": "1h"}).json()
    assert len(series["at"]) == len(series["fps"]) > 50
    events = program.get("/api/v1/boards/orchard/row-02/events").json()
    assert events[0]["kind"] == "delegate_fallback"


def test_metrics_are_what_prometheus_reads(world: Shown) -> None:
    answer = world.program().get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    values = dict(line.rsplit(" ", 1) for line in answer.text.splitlines() if not line.startswith("#"))
    assert values['edgekit_boards{state="online"}'] == "22"
    assert values['edgekit_board_up{site="home",device="garage"}'] == "0"
    assert float(values['edgekit_board_fps{site="home",device="porch"}']) > 25
    assert values['edgekit_findings{kind="camera"}'] == "1"

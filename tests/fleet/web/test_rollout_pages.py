"""Rollouts and releases as pages: what people see, and what they may do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from edgekit.cli.fleet_publish import check_published
from edgekit.fleet import audit
from edgekit.fleet.database import sqlite_url
from edgekit.fleet.rollouts import orders
from edgekit.fleet.rollouts.engine import Engine
from edgekit.fleet.rollouts.plan import Limits, Plan
from edgekit.fleet.rollouts.releases import rows
from edgekit.fleet.store import Store
from edgekit.fleet.web import users
from edgekit.publishing.keys import UpdateKeys
from edgekit.publishing.repository import Repository
from tests.worlds.dashboards import PASSWORD, PEOPLE, Shown, shown
from tests.worlds.rollout_fleet import BAD, GOOD, NEW_RELEASE, OLD_RELEASE, SLOW, Board
from tests.worlds.rollout_rows import SITE, RowBoards

HTML = {"accept": "text/html"}
BEGAN_S = 1_790_000_000.0


class Home:
    """A dashboard on boards that follow a rollout."""

    def __init__(self, world: Shown, boards: RowBoards) -> None:
        self.world, self.boards = world, boards
        self.engine = Engine(world.store, boards.hear, now=lambda: boards.now_s)

    def post(self, name: str, path: str, /, **form: str) -> httpx.Response:
        client = self.world.person(name)
        headers = {"origin": self.world.origin, "x-csrf-token": self.world.csrf(client), **HTML}
        return client.post(path, data=form, headers=headers)

    def page(self, name: str, where: str) -> str:
        answer = self.world.person(name).get(where, headers=HTML)
        assert answer.status_code == 200, answer.text
        return answer.text

    def go_on(self, steps: int = 60) -> None:
        for _ in range(steps):
            self.engine.step()
            self.boards.live()


@pytest.fixture
def home(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Home]:
    kinds = getattr(request, "param", [GOOD] * 6)
    url = sqlite_url(tmp_path / "fleet.db")
    with Store(url) as store:
        boards = RowBoards(store, [Board(n, kind) for n, kind in enumerate(kinds)], BEGAN_S)
        with shown(url, people=tuple(PEOPLE)) as world:
            world.dashboard.context.now = lambda: boards.now_s
            world.dashboard.context.wall._now = lambda: boards.now_s
            world.dashboard.context.wall.refresh()
            users.add(world.store, "hugo", "operator", PASSWORD, ("harbour",))
            yield Home(world, boards)


def test_an_operator_starts_pauses_resumes_and_aborts_and_each_act_is_in_the_log(home: Home) -> None:
    begun = home.post("olga", "/rollouts/start", bundle=NEW_RELEASE, waves="1,100%", max_failures="20%")
    assert (begun.status_code, begun.headers["location"]) == (303, "/rollouts/1")
    assert "Pause" in home.page("olga", "/rollouts/1")
    assert "Pause" not in home.page("victor", "/rollouts/1")
    for act, words in (("pause", "paused in wave 1 of 2"), ("resume", "running, wave 1"), ("abort", "stopping")):
        assert home.post("olga", "/rollouts/act", number="1", act=act).status_code == 303
        assert words in home.page("victor", "/rollouts/1")
    again = home.post("olga", "/rollouts/act", number="1", act="resume")
    assert (again.status_code, "is stopping and cannot be resumed" in again.text) == (409, True)
    log = [(entry.who, entry.what) for entry in reversed(audit.entries(home.world.store, words="olga"))]
    assert [what for _, what in log if "rollout" in what] == [
        "rollout started", "rollout paused", "rollout resumed", "rollout aborted",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"bundle": "../x"}, "is not allowed"), ({"waves": "ten"}, "--waves"), ({"where": "sight=x"}, "no field"),
        ({"where": "site=nowhere"}, "chooses no board"), ({"window": "2-3"}, "--window"), ({"max_rate": "x"}, "rate"),
        ({"gates": "x=1"}, "no such gate"), ({"where": "<script>alert(1)</script>"}, "is no field"),
    ],
    ids=str,
)  # fmt: skip
def test_a_form_that_cannot_be_meant_comes_back_with_what_was_typed(home: Home, form: Any, words: str) -> None:
    answer = home.post(
        "olga", "/rollouts/start", **{"bundle": NEW_RELEASE, "waves": "100%", "max_failures": "20%", **form}
    )
    assert answer.status_code == 400
    assert words in answer.text
    assert "<script>alert" not in answer.text
    with home.world.store.reading() as connection:
        assert connection.exec_driver_sql("select count(*) from rollouts").scalar() == 0


def test_a_release_that_is_not_published_is_refused_and_one_that_is_goes_out(home: Home, tmp_path: Path) -> None:
    repository = Repository(tmp_path / "updates", UpdateKeys(tmp_path / "update-keys"))
    repository.create()
    home.world.dashboard.context.check_release = partial(check_published, updates=repository.folder)
    form = {"bundle": NEW_RELEASE, "waves": "1,100%", "max_failures": "20%"}
    refused = home.post("olga", "/rollouts/start", **form)
    assert (refused.status_code, "is not published" in refused.text) == (400, True)
    assert "edgekit fleet publish" in refused.text
    (file := tmp_path / "bundle").write_bytes(b"a bundle")
    repository.publish({f"bundles/{NEW_RELEASE}.edgekit": file})
    assert home.post("olga", "/rollouts/start", **form).status_code == 303


def test_somebody_bound_to_other_sites_sees_no_rollout_and_changes_none(home: Home) -> None:
    orders.start(home.world.store, NEW_RELEASE, Plan(), "ann", now_ms=int(home.boards.now_s * 1000))
    hugo = home.world.person("hugo")
    assert NEW_RELEASE not in home.page("hugo", "/rollouts")
    assert hugo.get("/rollouts/1", headers=HTML).status_code == 404
    assert hugo.get("/api/v1/rollouts").json() == {"rollouts": []}
    assert home.post("hugo", "/rollouts/act", number="1", act="abort").status_code == 404
    assert home.post("hugo", "/rollouts/pin", board=f"{SITE}.b0").status_code == 404
    assert home.post("hugo", "/rollouts/start", bundle="lite0-1.2.0", waves="1", max_failures="0").status_code == 400
    assert OLD_RELEASE not in home.page("hugo", "/releases")


def test_nobody_stops_what_others_run_when_only_some_of_its_boards_are_his(home: Home) -> None:
    users.add(home.world.store, "ida", "operator", PASSWORD, (SITE,))
    home.world.store.write(_status_of("harbour", "pier"))
    orders.start(home.world.store, NEW_RELEASE, Plan(), "ann", now_ms=int(home.boards.now_s * 1000))
    assert "Abort" not in home.page("ida", "/rollouts/1")
    refused = home.post("ida", "/rollouts/act", number="1", act="abort")
    assert (refused.status_code, "not yours" in refused.text) == (403, True)


def test_pinned_boards_stand_on_the_page_and_are_let_go(home: Home) -> None:
    assert home.post("olga", "/rollouts/pin", board=f"{SITE}.b1", reason="<b>demo</b>").status_code == 303
    text = home.page("victor", "/rollouts")
    assert "&lt;b&gt;demo&lt;/b&gt;" in text
    assert "Unpin" not in text
    assert home.post("olga", "/rollouts/pin", board=f"{SITE}.b1", act="unpin").status_code == 303
    assert "Pinned boards" not in home.page("victor", "/rollouts")


@pytest.mark.parametrize("home", [[BAD] * 6], indirect=True)
def test_why_it_stopped_stands_on_the_page_whatever_a_board_wrote(home: Home) -> None:
    orders.start(home.world.store, NEW_RELEASE, Plan(waves=("2", "100%")), "ann", now_ms=int(home.boards.now_s * 1000))
    home.go_on()
    text = home.page("victor", "/rollouts/1")
    assert "stopped; every board it touched runs the release it had before" in text
    assert re.search(r"2 of 2 boards failed, more than 20%; home\.b\d: golden: 3 of 3 images differ", text)
    found = home.world.person("victor").get("/api/v1/rollouts/1").json()
    assert (found["state"], found["counts"]["failed"], found["touched"]) == ("stopped", 2, 2)


@pytest.mark.parametrize("home", [[SLOW] * 3], indirect=True)
def test_a_release_that_is_slower_on_the_same_boards_is_said_in_a_sentence(home: Home) -> None:
    plan = Plan(waves=("100%",), readings=2, limits=Limits(None, None, None, None))
    orders.start(home.world.store, NEW_RELEASE, plan, "ann", now_ms=int(home.boards.now_s * 1000))
    home.go_on(20)
    sentence = f"{NEW_RELEASE} is slower than {OLD_RELEASE} on 3 boards of kind pi5: 12.0 FPS instead of 30.0"
    text = home.page("victor", "/releases")
    assert sentence in text
    (row,) = rows(home.world.store, int(home.boards.now_s * 1000))
    assert (row.release, row.kind, row.boards, row.measured) == (NEW_RELEASE, "pi5", 3, 3)
    assert row.figures.fps == pytest.approx(12.0)


def test_releases_that_do_as_well_as_before_are_complained_about_by_nobody(home: Home) -> None:
    plan = Plan(waves=("100%",), readings=2)
    orders.start(home.world.store, NEW_RELEASE, plan, "ann", now_ms=int(home.boards.now_s * 1000))
    home.go_on(20)
    text = home.page("victor", "/releases")
    assert "No release does worse than the one before it" in text
    assert f"{OLD_RELEASE} on 6: 30.0 FPS" in text


def _status_of(site: str, device: str) -> Any:
    from edgekit.fleet.batch import Batch
    from edgekit_device.contract.telemetry import Status
    from edgekit_device.contract.topics import STATUS, topic

    batch = Batch()
    batch.add(topic(site, device, STATUS), Status("online", "ab" * 16, OLD_RELEASE, "xnnpack", None).to_bytes())
    return batch

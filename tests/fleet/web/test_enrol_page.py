"""A person lets boards in on the Enrol page: digits on both sides, roles, sites, and a line in the log."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgekit.fleet import audit
from edgekit.fleet.web import users
from edgekit.fleet.web.running import DashboardOptions
from edgekit.trust.enrolment import Enrolment
from edgekit.trust.joining import Joining
from tests.trust.test_joining import Applicant
from tests.worlds.dashboards import AT_ONCE, PASSWORD, PEOPLE, Shown, copied, shown
from tests.worlds.trusted_fleet import found_fleet

HTML = {"accept": "text/html"}


@pytest.fixture(scope="module")
def joining(tmp_path_factory: pytest.TempPathFactory) -> Joining:
    fleet = found_fleet(tmp_path_factory.mktemp("fleet") / "fleet")
    return Joining(fleet, Enrolment(fleet))


@pytest.fixture(scope="module")
def open_house(filled: Path, tmp_path_factory: pytest.TempPathFactory, joining: Joining) -> Iterator[Shown]:
    options = DashboardOptions(rules=AT_ONCE, every_s=0.2, members=list, joins=joining)
    with shown(copied(filled, tmp_path_factory.mktemp("enrol")), options, people=tuple(PEOPLE)) as running:
        yield running


def post(world: Shown, name: str, path: str, **form: str) -> Any:
    person = world.person(name)
    return person.post(path, data={**form, "csrf": world.csrf(person)}, headers={"origin": world.origin, **HTML})


def test_an_operator_opens_the_door_compares_digits_and_admits(open_house: Shown, joining: Joining) -> None:
    assert post(open_house, "olga", "/enrol/open").status_code == 303
    board = Applicant(joining, "home.porch").ask().reveal()
    text = open_house.person("olga").get("/enrol", headers=HTML).text
    assert board.code in text
    assert "home.porch" in text
    assert joining.pin in text
    number = board.said["id"]
    form = {"number": number, "code": board.code, "word": "admit"}
    assert post(open_house, "olga", "/enrol/decide", **form).status_code == 303
    assert board.collect()["user"] == "home.porch"
    found = [(e.who, e.what, e.target, e.site) for e in audit.entries(open_house.store, limit=3)]
    assert found[0] == ("olga", "board admitted", "home.porch from 192.0.2.7", "home")
    assert ("olga", "joining opened", "the fleet", "") in found


def test_viewers_strangers_and_people_of_another_site_decide_nothing(open_house: Shown, joining: Joining) -> None:
    joining.open()
    users.add(open_house.store, "hank", "operator", PASSWORD, ("harbour",))
    board = Applicant(joining, "home.shed", "192.0.2.8").ask().reveal()
    form = {"number": board.said["id"], "code": board.code, "word": "admit"}
    assert post(open_house, "victor", "/enrol/decide", **form).status_code == 403
    assert open_house.client().post("/enrol/decide", data=form).status_code in (401, 403)
    assert "home.shed" not in open_house.person("hank").get("/enrol", headers=HTML).text
    assert post(open_house, "hank", "/enrol/decide", **form).status_code == 404
    assert board.collect() == {"schema": 1, "state": "waiting"}
    assert post(open_house, "olga", "/enrol/decide", **{**form, "code": "0000-0000"}).status_code == 409
    assert post(open_house, "olga", "/enrol/decide", **{**form, "word": "perhaps"}).status_code == 400
    assert "does not wait" in audit.entries(open_house.store, words="board admitted")[0].outcome
    assert post(open_house, "olga", "/enrol/decide", **{**form, "word": "refuse"}).status_code == 303
    assert audit.entries(open_house.store)[0].what == "board refused"


def test_a_board_that_asks_appears_by_itself_and_is_admitted_by_keyboard(
    chromium: Any, open_house: Shown, joining: Joining
) -> None:
    joining.open()
    context = chromium.new_context(viewport={"width": 390, "height": 844})
    context.set_default_timeout(30_000)
    page = context.new_page()
    page.goto(open_house.dashboard.url)
    page.goto(f"{open_house.origin}/enrol")
    board = Applicant(joining, "home.barn", "192.0.2.9").ask().reveal()
    page.locator("code.code", has_text=board.code).wait_for()
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0
    page.get_by_role("button", name="Admit: it shows these digits: home.barn").focus()
    page.keyboard.press("Enter")
    page.locator("code.code", has_text=board.code).wait_for(state="detached")
    context.close()
    assert board.collect()["user"] == "home.barn"


def test_where_nothing_is_enrolled_no_board_can_ask(world: Shown) -> None:
    assert post(world, "olga", "/enrol/open").status_code == 409

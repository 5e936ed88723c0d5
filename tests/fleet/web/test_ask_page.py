"""A board is asked from its page: who may, what is shown, and that nothing of it stays."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.fleet import audit
from edgekit.fleet.asking import Asker
from edgekit.fleet.batch import BoardKey
from edgekit.fleet.broker import EmbeddedBroker
from edgekit.fleet.web.running import Fleet
from edgekit_device.contract.asking import Answer, Check, Line, Request
from edgekit_device.preview_picture import Caption
from edgekit_device.snapshot import picture
from tests.worlds.dashboards import PEOPLE, Shown, copied, shown
from tests.worlds.speaker import Speaker

BOARD = BoardKey("orchard", "row-02")
PATH = f"/boards/{BOARD.site}/{BOARD.device}"
AT = "2026-11-22T10:00:05.120Z"
HOSTILE = "<img src=x onerror=alert(1)>\N{RIGHT-TO-LEFT OVERRIDE}{{7*7}}"
JPEG = picture(np.full((480, 640, 3), 90, np.uint8), "BGR", Caption("tabby", 0.9)) or b""


def answers(request: Request) -> list[bytes]:
    parts: dict[str, Any] = {
        "logs": {"lines": (Line(AT, f"model_ready {HOSTILE}"),)},
        "doctor": {"findings": (Check(HOSTILE[:60], "fail", HOSTILE, HOSTILE),)},
        "picture": {"picture": JPEG},
    }[request.what]
    return [Answer(request.number, request.what, AT, **parts).to_bytes()]


@pytest.fixture(scope="module")
def speaking() -> Iterator[tuple[Speaker, Asker]]:
    with EmbeddedBroker() as broker:
        speaker, asker = Speaker(broker, answers, BOARD), Asker(broker.address)
        yield speaker, asker
        asker.close()
        speaker.close()


@pytest.fixture(scope="module")
def asked(filled: Path, tmp_path_factory: pytest.TempPathFactory, speaking: tuple[Speaker, Asker]) -> Iterator[Shown]:
    url = copied(filled, tmp_path_factory.mktemp("asked"))
    with shown(url, fleet=Fleet(ask=speaking[1].ask), people=tuple(PEOPLE)) as running:
        yield running


def ask(world: Shown, name: str, what: str, path: str = PATH) -> Any:
    person = world.person(name)
    headers = {"origin": world.origin, "accept": "text/html"}
    return person.post(f"{path}/ask", data={"what": what, "csrf": world.csrf(person)}, headers=headers)


def test_an_operator_asks_and_it_stands_in_the_audit_log(asked: Shown) -> None:
    for what in ("logs", "doctor", "picture"):
        answer = ask(asked, "olga", what)
        assert answer.status_code == 200
        entry = audit.entries(asked.store)[0]
        assert (entry.who, entry.what, entry.target, entry.outcome, entry.site) == (
            "olga", f"{what} asked for", "orchard.row-02", "done", "orchard",
        )  # fmt: skip


def test_a_viewer_a_stranger_and_another_site_cannot_ask_and_the_board_hears_nothing(
    asked: Shown, speaking: tuple[Speaker, Asker]
) -> None:
    before = len(speaking[0].heard)
    assert ask(asked, "victor", "logs").status_code == 403
    assert "Ask it" not in asked.person("victor").get(PATH, headers={"accept": "text/html"}).text
    assert asked.client().post(f"{PATH}/ask", data={"what": "logs"}).status_code in (401, 403)
    program = asked.program().post(f"{PATH}/ask", data={"what": "logs"}, headers={"origin": asked.origin})
    assert program.status_code in (401, 403)
    assert ask(asked, "olga", "logs", "/boards/no/such").status_code == 404
    assert len(speaking[0].heard) == before


@pytest.mark.parametrize("what", ["", "shell", "logs;reboot", "/etc/shadow", "Logs", "logs\0", "x" * 10_000])
def test_another_word_is_refused_before_any_board_hears_it(
    asked: Shown, speaking: tuple[Speaker, Asker], what: str
) -> None:
    before = len(speaking[0].heard)
    assert ask(asked, "olga", what).status_code == 400
    assert len(speaking[0].heard) == before


def test_what_a_board_answers_is_text_and_never_markup(asked: Shown) -> None:
    for what in ("logs", "doctor"):
        html = ask(asked, "olga", what).text
        assert "<img" not in html
        assert "&lt;img src=x onerror=alert(1)&gt;" in html
        assert "{{7*7}}" in html
        assert "\N{RIGHT-TO-LEFT OVERRIDE}" not in html


def test_a_picture_is_shown_once_and_kept_nowhere(asked: Shown) -> None:
    answer = ask(asked, "olga", "picture")
    assert 'src="data:image/jpeg;base64,/9j/' in answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert "data:image" not in asked.person("olga").get(PATH, headers={"accept": "text/html"}).text
    path = Path(str(asked.store._engine.url.database))
    for file in path.parent.iterdir():
        assert JPEG[200:260] not in file.read_bytes(), file


def test_a_board_that_does_not_answer_is_said_on_its_page(asked: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    import edgekit.fleet.asking as asking

    monkeypatch.setitem(asking.WAIT_S, "logs", 0.3)
    answer = ask(asked, "olga", "logs", "/boards/orchard/gate")
    assert answer.status_code == 200
    assert "no answer in 0 s" in answer.text
    assert "no answer" in audit.entries(asked.store)[0].outcome


def test_by_keyboard_the_log_and_the_picture_come_into_the_page(chromium: Any, asked: Shown) -> None:
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(20_000)
    page, said = context.new_page(), list[str]()
    page.on("console", lambda m: said.append(m.text) if m.type in ("error", "warning") else None)
    page.on("dialog", lambda dialog: said.append("a script ran"))
    page.goto(asked.dashboard.url)
    page.goto(asked.origin + PATH)
    page.get_by_role("button", name="Last log lines").focus()
    page.keyboard.press("Enter")
    page.locator("#answer pre.log").wait_for()
    assert "model_ready" in page.inner_text("#answer")
    assert page.evaluate("document.activeElement.textContent") == "Last log lines"
    page.get_by_role("button", name="Picture").click()
    image = page.locator("#answer img")
    image.wait_for()
    assert image.get_attribute("alt") == "What the camera of row-02 sees"
    assert image.evaluate("e => e.decode().then(() => e.naturalWidth)") == 480
    assert page.url == asked.origin + PATH
    assert page.locator("#answer").get_attribute("aria-live") == "polite"
    assert said == []
    context.close()


def test_without_javascript_the_answer_comes_with_the_page(chromium: Any, asked: Shown) -> None:
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(asked.dashboard.url)
    page.goto(asked.origin + PATH)
    page.get_by_role("button", name="Last log lines").click()
    assert "model_ready" in page.inner_text("#answer")
    assert re.search("Measures", page.inner_text("main"))
    context.close()

"""The pages in a real browser: live, by keyboard, on a phone, in the dark, without a foreign request."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgekit.fleet.batch import Batch
from edgekit.fleet.store import Store
from edgekit_device.contract.clock import utc_text
from edgekit_device.contract.telemetry import Status
from edgekit_device.contract.topics import STATUS, TELEMETRY, topic
from tests.worlds.dashboards import Shown, copied, shown
from tests.worlds.readings import reading

PAGES = ("/", "/?group=site", "/boards/orchard/row-02", "/alerts", "/people", "/enrol", "/audit", "/boards/no/such")


@pytest.fixture(scope="module")
def lively(filled: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    with shown(copied(filled, tmp_path_factory.mktemp("lively"))) as running:
        yield running


@pytest.fixture
def page(chromium: Any, lively: Shown) -> Iterator[Any]:
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(15_000)
    made = context.new_page()
    made.goto(lively.dashboard.url)
    yield made
    context.close()


def send(store: Store, device: str, **more: Any) -> None:
    """One more Reading of a board of its own site, made now."""
    from dataclasses import replace

    batch = Batch()
    number = int(time.time() * 1000) % 10**9
    made = replace(reading(number, device, "ab" * 16), site="new", at=utc_text(time.time()), **more)
    batch.add(topic("new", device, STATUS), Status("online", "ab" * 16, "toy-1.0.0", "xnnpack").to_bytes())
    batch.add(topic("new", device, TELEMETRY), made.to_bytes())
    assert not batch.rejected
    store.write(batch)


def test_the_wall_shows_what_is_wrong_first_and_says_how_much(page: Any) -> None:
    assert " ".join(page.inner_text("h1").split()) == "7 of 24 boards need you"
    names = page.locator(".card .name").all_inner_texts()
    assert set(names[:3]) == {"pier-c", "gate", "garage"}
    assert names[7] == "bench-3"
    assert page.title() == "(7) Boards · EdgeKit"


def test_a_board_that_speaks_appears_without_loading_the_page(page: Any, lively: Shown) -> None:
    page.fill("input[name=q]", "kept while the page lives")
    send(lively.store, "fresh", label="otter", fps=12.5, capture_fps=12.5)
    card = page.locator("[data-key='new/fresh']")
    card.wait_for()
    assert "otter" in card.inner_text()
    send(lively.store, "fresh", label="badger", fps=12.5, capture_fps=12.5)
    page.get_by_text("badger").wait_for()
    assert page.input_value("input[name=q]") == "kept while the page lives"


def test_focus_stays_where_it_is_while_the_wall_changes(page: Any, lively: Shown) -> None:
    page.locator("[data-key='home/porch'] a").focus()
    send(lively.store, "other", label="stoat", fps=12.5, capture_fps=12.5)
    page.get_by_text("stoat").wait_for()
    assert page.evaluate("document.activeElement.closest('[data-key]').dataset.key") == "home/porch"


def test_a_boards_page_draws_its_charts_and_moves_along(page: Any, lively: Shown) -> None:
    send(lively.store, "chart", fps=20.0, capture_fps=20.0)
    page.wait_for_timeout(0)
    page.goto(f"{lively.origin}/boards/orchard/row-02?range=1h")
    page.wait_for_selector("#charts[data-drawn] canvas")
    assert page.locator("#charts canvas").count() == 3
    assert page.locator(".findings li").all_inner_texts() == ["Rung lost runs on xnnpack: edgetpu: device went away"]
    assert "delegate_fallback" in page.inner_text("#event-list")


def test_dragging_across_a_chart_puts_the_range_into_the_address(page: Any, lively: Shown) -> None:
    page.goto(f"{lively.origin}/boards/home/porch?range=1h")
    page.wait_for_selector("#charts[data-drawn] canvas")
    box = page.locator("[data-chart=fps] .u-over").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + 30)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + 30, steps=5)
    page.mouse.up()
    page.wait_for_url(re.compile(r"\?from=\d+&to=\d+"))
    page.wait_for_selector("#charts[data-drawn] canvas")
    assert page.get_by_text("chosen").is_visible()


def test_filtering_by_keyboard_alone(page: Any, lively: Shown) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    page.keyboard.press("Enter")
    page.keyboard.press("/")
    page.keyboard.type("orchard frozen")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("q=orchard"))
    assert page.locator(".card .name").all_inner_texts() == ["gate"]
    page.locator(".card a").focus()
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("/boards/orchard/gate"))


def test_an_alert_is_acknowledged_and_silenced_by_hand(page: Any, lively: Shown) -> None:
    page.goto(f"{lively.origin}/alerts")
    mine = page.locator("[data-key='home/attic/fps_low']")
    mine.get_by_role("button", name="I know").click()
    page.locator("[data-key='home/attic/fps_low']").get_by_text("(this machine) knows").wait_for()
    mine.locator("select").select_option("480")
    mine.get_by_role("button", name="Silence").click()
    mine.get_by_text("silent for 8 h").wait_for()
    mine.get_by_role("button", name="Speak again").click()
    mine.get_by_role("button", name="Silence").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_no_page_is_wider_than_its_window_asks_elsewhere_or_breaks_its_policy(
    chromium: Any, lively: Shown, width: int, scheme: str
) -> None:
    context = chromium.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
    page, foreign, said = context.new_page(), list[str](), list[str]()
    page.on("request", lambda r: None if r.url.startswith((lively.origin, "data:")) else foreign.append(r.url))
    page.on("console", lambda m: said.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(lively.dashboard.url)
    for path in PAGES:
        page.goto(lively.origin + path)
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, path
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(15, 20, 25)"
        assert dark == (scheme == "dark")
    context.close()
    assert foreign == []
    assert [text for text in said if "404" not in text] == []


def test_every_page_has_landmarks_names_and_no_inline_script_or_style(page: Any, lively: Shown) -> None:
    for path in PAGES:
        page.goto(lively.origin + path)
        assert page.evaluate("document.documentElement.lang") == "en"
        for landmark in ("header", "nav[aria-label=Main]", "main", "h1"):
            assert page.locator(landmark).count() == 1, (path, landmark)
        html = page.request.get(lively.origin + path, headers={"accept": "text/html"}).text()
        assert not re.search(r"<script(?![^>]*\ssrc=)|\sstyle=|<style|\son\w+=", html), path
        unnamed = page.evaluate(
            "[...document.querySelectorAll('button,input:not([type=hidden]),select,a')]"
            ".filter(e => !(e.textContent.trim() || e.labels && e.labels.length || e.getAttribute('aria-label')))"
            ".map(e => e.outerHTML)"
        )
        assert unnamed == [], path


def test_state_is_told_by_shape_and_word_and_not_by_colour_alone(page: Any) -> None:
    for kind in ("critical", "warning", "quiet", "fine"):
        card = page.locator(f".card.is-{kind}").first
        assert card.locator("svg[role=img]").get_attribute("aria-label")
    shapes = {
        kind: page.locator(f".card.is-{kind} .mark > :first-child").first.evaluate(
            "e => e.nodeName + (e.getAttribute('d') || '')"
        )
        for kind in ("critical", "warning", "fine")
    }  # fmt: skip
    assert len(set(shapes.values())) == 3


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(chromium: Any, lively: Shown, scheme: str) -> None:
    context = chromium.new_context(color_scheme=scheme)
    page = context.new_page()
    page.goto(lively.dashboard.url)
    colours = page.evaluate(
        "() => { const s = getComputedStyle(document.documentElement);"
        " return Object.fromEntries(['ink','dim','accent','fine','warning','critical','notice','card','ground']"
        ".map(n => [n, s.getPropertyValue('--' + n).trim()])) }"
    )
    context.close()
    for name in ("ink", "dim", "accent", "warning", "critical", "notice"):
        for ground in ("card", "ground"):
            assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)


def contrast(one: str, other: str) -> float:
    """WCAG 2.2's ratio of two #rrggbb colours."""

    def light(colour: str) -> float:
        colour = "".join(c * 2 for c in colour[1:]) if len(colour) == 4 else colour[1:]
        parts = [int(colour[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        r, g, b = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    high, low = sorted((light(one), light(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_the_wall_reads_without_javascript(chromium: Any, lively: Shown) -> None:
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(lively.dashboard.url)
    assert page.locator(".card").count() >= 24
    page.fill("input[name=q]", "tabby")
    page.get_by_role("button", name="Show").click()
    assert page.locator(".card .name").first.inner_text() in {"porch", "attic", "garage"}
    context.close()

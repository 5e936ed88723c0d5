"""E3: hostile text through MQTT, the database and every page, in a real browser; what ran is counted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgekit.fleet.broker import EmbeddedBroker
from edgekit.fleet.collector import Collector, CollectorOptions
from edgekit.fleet.database import sqlite_url
from edgekit.fleet.store import Store
from edgekit_device.contract.clock import utc_text
from edgekit_device.contract.reported import Reported
from edgekit_device.contract.telemetry import Event, Status
from edgekit_device.contract.topics import EVENT, REPORTED, STATUS, TELEMETRY, topic
from tests.worlds.boards import eventually
from tests.worlds.dashboards import Shown, shown
from tests.worlds.readings import reading

SITE = "hostile"
_WATCHED = (
    "addEventListener('securitypolicyviolation', e => (window.violations = window.violations || [])"
    ".push(e.violatedDirective + ' ' + e.blockedURI))"
)


@dataclass
class Seen:
    """What the browser did.

    Attributes:
        ran: Pages on which a hostile string ran.
        violations: What the policy had to stop: nothing, where escaping is right.
        foreign: Requests that left for another place.
        errors: Errors of our own scripts.
        pages: Pages looked at.
        texts: Hostile strings that stood on them as text.
    """

    ran: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    pages: int = 0
    texts: int = 0


@contextmanager
def hostile_fleet(folder: Path, texts: Sequence[str]) -> Iterator[Shown]:
    """A board for each text, which says it wherever a board may say anything."""
    import paho.mqtt.client as paho
    from paho.mqtt.enums import CallbackAPIVersion

    with EmbeddedBroker() as broker:
        url = sqlite_url(folder / "fleet.db")
        with Store(url) as store, Collector(broker.address, store, CollectorOptions(batch_s=0.1)):
            client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
            client.connect(broker.address.host, broker.address.port)
            client.loop_start()
            for number, text in enumerate(texts):
                for kind, payload in _messages(number, text):
                    info = client.publish(topic(SITE, f"board-{number:03d}", kind), payload, 1)
                    info.wait_for_publish(10)
            assert eventually(lambda: store.summary().stored >= 2 * len(texts)), store.summary()
            assert store.summary().rejected == 0
            client.disconnect()
            client.loop_stop()
        with shown(url) as world:
            yield world


def _messages(number: int, text: str) -> Iterator[tuple[Any, bytes]]:
    import time

    boot, now = f"{number:032x}", utc_text(time.time() - 5)
    made = replace(
        reading(0, f"board-{number:03d}", boot), site=SITE, at=now, label=text, source=text, bundle=text, delegate=text,
        delegate_reason=text, throttled_now=(text[:60],), throttled_since_boot=(text[:60],), class_counts={"281": 10},
    )  # fmt: skip
    yield TELEMETRY, made.to_bytes()
    yield EVENT, Event(boot, 1, now, text[:64], text, {}).to_bytes()
    # A third each: the reason of a camera, of an update and of a board that is gone stand in different places.
    reason = f"camera_{text}" if number % 3 == 0 else text
    yield STATUS, Status("offline" if number % 3 == 1 else "online", boot, text, text, reason, session=1).to_bytes()
    said = Reported(boot, None, "trouble", text, 30.0, thresholds={text: text}, refused={text: text})
    yield REPORTED, said.to_bytes()


def look(browser: Any, world: Shown, texts: Sequence[str], each_board: int = 1) -> Seen:
    """Open every page with every board on it, wait for the live part, and poke at what can be poked at."""
    seen = Seen()
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.add_init_script(_WATCHED)
    page = context.new_page()
    page.on("pageerror", lambda error: seen.errors.append(str(error)))
    page.on("dialog", lambda dialog: (seen.ran.append("dialog"), dialog.dismiss()))
    page.on(
        "request",
        lambda request: seen.foreign.append(request.url)
        if not request.url.startswith((world.origin, "data:", "about:")) else None,
    )  # fmt: skip
    page.goto(world.dashboard.url)
    paths = [f"/?group=release&page={n}" for n in range(1, len(texts) // 60 + 2)] + [
        "/alerts",
        "/?q=%3Cscript%3Eran%3D1",
    ]
    paths += [f"/boards/{SITE}/board-{n:03d}" for n in range(0, len(texts), each_board)]
    for path in paths:
        answer = page.goto(world.origin + path, wait_until="load")
        assert answer is not None
        assert answer.status == 200, (path, answer.status)
        # The stream draws the same again through the page's own script.
        page.wait_for_selector("html[data-heard]", state="attached")
        page.mouse.move(300, 200)
        state = page.evaluate("() => [window.ran || null, window.violations || [], document.body.innerText]")
        seen.pages += 1
        seen.texts += sum(text in state[2] for text in texts)
        if state[0]:
            seen.ran.append(path)
        seen.violations += [f"{path}: {violation}" for violation in state[1]]
        scripts = page.evaluate("[...document.scripts].map(s => s.src || 'inline')")
        seen.ran += [f"{path}: {s}" for s in scripts if not s.startswith(f"{world.origin}/static/")]
    context.close()
    return seen

"""Home Assistant shows what runs and what is offered, and its button begins a rollout of one board."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from edgekit.fleet import audit
from edgekit.fleet.announcing import Announcer
from edgekit.fleet.batch import BoardKey
from edgekit.fleet.broker import EmbeddedBroker
from edgekit.fleet.database import sqlite_url
from edgekit.fleet.home_updates import HomeUpdates, Offered, newest_for, state_of
from edgekit.fleet.rollouts import records
from edgekit.fleet.rollouts.looking import Standing
from edgekit.fleet.store import Store
from edgekit_device.contract.reported import Update
from edgekit_device.publish.home_assistant import discovery, update_topics
from tests.worlds.fleets import wait_until
from tests.worlds.rollout_fleet import NEW_RELEASE, OLD_RELEASE, Board
from tests.worlds.rollout_rows import SITE, RowBoards

B0 = BoardKey(SITE, "b0")
OFFERED = [Offered(NEW_RELEASE, "sees foxes"), Offered("lite0-1.0.9"), Offered("other-9.0.0"), Offered("lite0-1.0.10")]


def test_the_newest_of_the_same_name_is_offered_by_number_and_not_by_letter() -> None:
    assert newest_for("lite0-1.0.0", OFFERED[1:]) == Offered("lite0-1.0.10")
    assert newest_for("third-1.0.0", OFFERED) is None
    assert newest_for(None, OFFERED) is None


def test_a_state_says_version_notes_and_progress() -> None:
    idle = json.loads(state_of(Standing(B0, "online", OLD_RELEASE), OFFERED))
    assert idle == {
        "installed_version": OLD_RELEASE, "latest_version": NEW_RELEASE, "title": "Model",
        "release_summary": "sees foxes", "in_progress": False, "update_percentage": None,
    }  # fmt: skip
    fetching = Standing(B0, "online", OLD_RELEASE, update=Update(NEW_RELEASE, "fetching", 0.5))
    assert json.loads(state_of(fetching, OFFERED)).items() >= {"in_progress": True, "update_percentage": 50}.items()
    done = Standing(B0, "online", NEW_RELEASE, update=Update(NEW_RELEASE, "committed"))
    assert json.loads(state_of(done, OFFERED)).items() >= {"in_progress": False, "latest_version": NEW_RELEASE}.items()
    # A board ahead of what is published is not offered an older one.
    ahead = json.loads(state_of(Standing(B0, "online", "lite0-2.0.0"), OFFERED))
    assert (ahead["latest_version"], ahead["release_summary"]) == ("lite0-2.0.0", None)


def test_only_a_host_shows_an_update_entity_and_it_names_the_topics_that_the_host_uses() -> None:
    alone, hosted = (json.loads(discovery(SITE, "b0", "1", updates=u).payload)["components"] for u in (False, True))
    assert "update" not in alone
    entity = hosted["update"]
    assert (entity["state_topic"], entity["command_topic"]) == update_topics(SITE, "b0")
    assert (entity["platform"], entity["payload_install"]) == ("update", "install")


def test_the_button_begins_a_rollout_of_that_board_and_a_retained_press_does_not(
    broker: EmbeddedBroker, tmp_path: Path
) -> None:
    heard: dict[str, bytes] = {}
    ready = threading.Event()
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)

    def hear(_: Any, __: Any, message: paho.MQTTMessage) -> None:
        heard[message.topic] = message.payload

    client.on_message = hear
    client.on_connect = lambda c, *_: c.subscribe([("homeassistant/#", 1), (update_topics("+", "+").state, 1)])
    client.on_subscribe = lambda *_: ready.set()
    client.connect(broker.address.host, broker.address.port)
    client.loop_start()
    assert ready.wait(30)
    client.publish(update_topics(SITE, "b1").command, b"install", 1, retain=True).wait_for_publish(30)
    with Store(sqlite_url(tmp_path / "fleet.db")) as store, Announcer(broker.address, "1", updates=True) as announcer:
        RowBoards(store, [Board(n) for n in range(3)], time.time())
        home = HomeUpdates(store, announcer, lambda: OFFERED)

        def stepped() -> int:
            home._next_s = 0.0
            home.step()
            with store.reading() as connection:
                return len(records.read_rollouts(connection))

        topics = update_topics(*B0)
        assert wait_until(lambda: stepped() == 0 and topics.state in heard, 60) is not None
        assert json.loads(heard[topics.state])["latest_version"] == NEW_RELEASE
        client.publish(topics.command, b"install", 1)
        client.publish(topics.command, b"uninstall", 1)
        assert wait_until(lambda: stepped() == 1, 60) is not None
        with store.reading() as connection:
            (rollout,) = records.read_rollouts(connection)
            members = records.read_members(connection, rollout.number)
        assert (rollout.bundle, rollout.by, [m.board for m in members]) == (NEW_RELEASE, "Home Assistant", [B0])
        # Pressed again while it is on its way: said in the log, and nothing else.
        client.publish(topics.command, b"install", 1)
        assert wait_until(lambda: stepped() == 1 and bool(audit.entries(store, words="update asked for")), 60)
        assert home.problem is None
    client.disconnect()
    client.loop_stop()

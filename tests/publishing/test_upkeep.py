"""`fleet publish` and `fleet up`: boards fetch from the dashboard's port; an alarm comes before anything ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from edgekit.cli.fleet_publish import served
from edgekit.fleet.alerts import Alarm
from edgekit.fleet.alerts_rules import Rules
from edgekit.fleet.database import sqlite_url
from edgekit.fleet.store import Store
from edgekit.fleet.up import Plan
from edgekit.fleet.web.tables import settle
from edgekit.fleet.web.wall import Picture
from edgekit.publishing.keys import UpdateKeys
from edgekit.publishing.repository import Repository
from edgekit.publishing.upkeep import Upkeep
from edgekit.trust.authority import expiry
from edgekit_device.ota import errand
from edgekit_device.ota.depot import ROOT_JSON
from tests.worlds.bundles import Signer
from tests.worlds.repositories import serving
from tests.worlds.trusted_fleet import found_fleet

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)


class House:
    """A machine with a home of its own."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.env = {**os.environ, "EDGEKIT_CONFIG_HOME": str(base / "home"), "NO_COLOR": "1"}
        self.signer = Signer.make(base / "home" / "keys")

    def edgekit(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "edgekit", *words]
        return subprocess.run(command, cwd=self.base, env=self.env, capture_output=True, text=True, check=False)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


@pytest.fixture
def up(house: House) -> Iterator[dict[str, Any]]:
    words = ["fleet", "up", "--local", "--port", "0", "--broker-port", "0", "--json"]
    process = subprocess.Popen(
        [sys.executable, "-m", "edgekit", *words], cwd=house.base, env=house.env, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    try:
        yield json.loads(process.stdout.readline())
    finally:
        process.terminate()
        process.wait(60)
        process.stdout.close()


def get(url: str, **headers: str) -> tuple[int, bytes, Any]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as answer:
            return answer.status, answer.read(), answer.headers
    except urllib.error.HTTPError as error:
        return error.code, error.read(), error.headers


def test_a_board_fetches_from_fleet_up_what_publish_offered(house: House, up: dict[str, Any]) -> None:
    """Published while `fleet up` runs, in a folder that was not there when it began."""
    bundle = house.signer.bundle(house.base, version="1.1.0")
    done = house.edgekit("fleet", "publish", str(bundle), "--notes", "better in fog", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["published"], said["shown"]) == (["bundles/toy-1.1.0.edgekit"], True)
    assert said["offered"][0]["notes"] == "better in fog"
    base = up["dashboard"].partition("/?")[0]
    root = house.base / "board"
    (root / "etc/edgekit/keys").mkdir(parents=True)
    (root / "etc/edgekit/keys/a.pub").write_bytes(house.signer.public.read_bytes())
    (root / ROOT_JSON).parent.mkdir()
    code, first, _ = get(f"{base}/updates/metadata/1.root.json")
    assert code == 200
    (root / ROOT_JSON).write_bytes(first)
    (root / "opt/edgekit").mkdir(parents=True)
    order = {"root": str(root), "url": f"{base}/updates/", "name": "toy-1.1.0"}
    errand.enter_bundle(order, lambda words: None, lambda bundle, data: None)
    assert serving(root) == "toy-1.1.0"
    # A range is answered as a range, and nothing beside the repository's files is served.
    file = next((house.base / "updates/targets/bundles").glob("*.edgekit"))
    whole = file.read_bytes()
    code, part, headers = get(f"{base}/updates/targets/bundles/{file.name}", Range="bytes=100-")
    assert (code, part) == (206, whole[100:])
    assert headers["Content-Range"] == f"bytes 100-{len(whole) - 1}/{len(whole)}"
    for path in ("", "metadata/", "../fleet.db", "%2e%2e/fleet.db", "targets/../../fleet.db", "metadata/.x.part"):
        assert get(f"{base}/updates/{path}")[0] == 404, path


def test_publish_says_what_is_offered_and_refuses_what_a_board_would(house: House) -> None:
    first = house.signer.bundle(house.base, version="1.0.0")
    done = house.edgekit("fleet", "publish", str(first))
    assert done.returncode == 0, done.stderr
    assert "toy-1.0.0" in done.stdout
    assert "root until" in done.stdout
    stranger = Signer.make(house.base / "stranger").bundle(house.base / "strange", version="2.0.0")
    refused = house.edgekit("fleet", "publish", str(stranger))
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    again = house.edgekit("fleet", "publish", "--withdraw", "toy-1.0.0", "--json")
    assert json.loads(again.stdout)["offered"] == []
    gone = house.edgekit("fleet", "publish", "--withdraw", "toy-1.0.0")
    assert gone.returncode == 1
    assert "is not published" in gone.stderr
    rotated = house.edgekit("fleet", "publish", "--rotate-key", "online", "--json")
    assert rotated.returncode == 0, rotated.stderr


def test_the_alarm_comes_ninety_days_before_any_end_and_says_what_to_type(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "updates", UpdateKeys(tmp_path / "keys"))
    repository.create(NOW)
    upkeep = Upkeep(repository.folder, repository.keys)
    with Store(sqlite_url(tmp_path / "fleet.db")) as store:
        settle(store)
        clock = [NOW.timestamp()]
        alarm = Alarm(store, Rules(clear_s=0.0), now=lambda: clock[0], ends=upkeep.ends)

        def on(day: float) -> list[str]:
            now = NOW + timedelta(days=day)
            clock[0] = now.timestamp()
            upkeep.look(now)
            alarm.step(Picture(1, {}, int(clock[0] * 1000)))
            alarm.step(Picture(1, {}, int(clock[0] * 1000)))
            return [f"{alert.severity}: {alert.text}" for alert in alarm.standing()]

        assert on(0) == on(300) == on(730 - 91) == []
        warned = on(730 - 89)
        assert len(warned) == 1
        assert warned[0].startswith("warning: updates over the air: targets ends in 89 days")
        assert "edgekit fleet publish --renew" in warned[0]
        assert on(730 - 5)[0].startswith("critical")
        repository.renew(NOW + timedelta(days=726))
        assert on(727) == []
        assert on(726 + 730 - 89)[0].startswith("warning: updates over the air: targets")


def test_the_alarm_comes_ninety_days_before_the_fleets_authority_ends(tmp_path: Path) -> None:
    fleet = found_fleet(tmp_path / "fleet")
    end = expiry((fleet.folder / "ca" / "authority.pem").read_bytes())
    stop, clock = threading.Event(), [0.0]
    with (
        Store(sqlite_url(tmp_path / "fleet.db")) as store,
        served(Plan("", folder=fleet.folder), tmp_path / "updates", stop) as plan,
    ):
        settle(store)
        alarm = Alarm(store, Rules(clear_s=0.0), now=lambda: clock[0], ends=plan.dashboard.ends)

        def before(days: float) -> list[str]:
            clock[0] = end.timestamp() - days * 86_400
            for _ in range(2):
                alarm.step(Picture(1, {}, int(clock[0] * 1000)))
            return [f"{alert.severity}: {alert.text}" for alert in alarm.standing()]

        assert before(365) == before(91) == []
        (warned,) = before(89)
        assert warned.startswith(f"warning: the fleet's authority ends on {end:%Y-%m-%d}")
        assert before(13)[0].startswith("critical")


def test_an_online_key_that_is_gone_is_an_alarm_before_boards_stop(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "updates", UpdateKeys(tmp_path / "keys"))
    repository.create(NOW)
    repository.keys.path("online").unlink()
    upkeep = Upkeep(repository.folder, repository.keys)
    upkeep.look(NOW + timedelta(days=2))
    assert upkeep.ends((NOW + timedelta(days=2)).timestamp()) == []
    upkeep.look(NOW + timedelta(days=4))
    soon = upkeep.ends((NOW + timedelta(days=4)).timestamp())
    assert {severity for severity, _ in soon} == {"warning"}
    assert "online.key" in soon[0][1]
    upkeep.look(NOW + timedelta(days=8))
    assert {severity for severity, _ in upkeep.ends((NOW + timedelta(days=8)).timestamp())} == {"critical"}

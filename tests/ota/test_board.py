"""A board that runs, a broker, a repository: what `desired` names comes over the air and is tried, once a wish."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from edgekit.fleet.broker import EmbeddedBroker
from edgekit_device.contract.desired import Desired
from edgekit_device.contract.reported import Reported, Update
from edgekit_device.ota.depot import ROOT_JSON
from tests.worlds.bundles import Signer
from tests.worlds.repositories import Trick, World, world
from tests.worlds.trial_board import Board, Recipe, bad_recipes

TOPICS = "edgekit/v1/home/porch"


class Host:
    """Says what is desired, hears what is reported."""

    def __init__(self, broker: EmbeddedBroker) -> None:
        self.heard: list[Reported] = []
        self._new = threading.Condition()
        self.client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        self.client.on_message = self._on_message
        self.client.connect(broker.address.host, broker.address.port)
        self.client.subscribe(f"{TOPICS}/reported", 1)
        self.client.loop_start()

    def _on_message(self, client: object, data: object, message: paho.MQTTMessage) -> None:
        with self._new:
            self.heard.append(Reported.from_bytes(message.payload))
            self._new.notify_all()

    def desire(self, **wish: object) -> None:
        self.client.publish(f"{TOPICS}/desired", Desired(**wish).to_bytes(), 1, retain=True).wait_for_publish(10)

    def wait(self, sought: Callable[[Update], bool], after: int = 0, limit_s: float = 300.0) -> Update:
        until = time.monotonic() + limit_s
        with self._new:
            while True:
                for said in self.heard[after:]:
                    if said.update is not None and sought(said.update):
                        return said.update
                assert self._new.wait(until - time.monotonic()), [said.update for said in self.heard]

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


class Scene:
    """The parts together."""

    def __init__(self, made: World, board: Board, host: Host, broker: EmbeddedBroker) -> None:
        self.made, self.board, self.host, self.broker = made, board, host, broker

    def publish(self, version: str, recipe: Recipe | None = None) -> str:
        self.made.offer(self.board.bundle(recipe or Recipe(), version))
        return f"toy-{version}"

    def start(self, **words: object) -> None:
        url = self.broker.url
        self.board.start("--broker", url, "--site", "home", "--id", "porch", **words)
        self.board.wait("model_ready")


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with world(tmp_path / "host") as made, EmbeddedBroker() as broker, Board(tmp_path, made.signer) as board:
        board.committed("1.0.0")
        toml = board.root / "etc/edgekit/device.toml"
        toml.write_text(f'updates = "{made.server.url}"\n')
        first = board.root / ROOT_JSON
        first.parent.mkdir(parents=True)
        first.write_bytes(made.repository.root_bytes())
        host = Host(broker)
        try:
            yield Scene(made, board, host, broker)
        finally:
            board.end()
            host.close()


def test_a_bundle_that_is_desired_comes_is_tried_and_committed(scene: Scene) -> None:
    name = scene.publish("1.1.0")
    scene.start()
    scene.host.desire(bundle=name)
    done = scene.host.wait(lambda update: update.state == "committed")
    assert done == Update(name, "committed")
    assert scene.board.current == name
    scene.board.wait_reading(name)
    states = [said.update.state for said in scene.host.heard if said.update]
    assert [state for state in dict.fromkeys(states) if state != "verifying"] == ["fetching", "trying", "committed"]
    assert not list((scene.board.root / "var/lib/edgekit/updates/parts").iterdir())
    # A restart finds nothing left to do, and asks nobody.
    scene.board.end()
    asked, heard = len(scene.made.server.asked), len(scene.host.heard)
    scene.start()
    scene.host.wait(lambda update: update.state == "committed", after=heard)
    assert len(scene.made.server.asked) == asked


def test_a_bad_bundle_is_refused_once_and_not_fetched_again_until_it_is_forced(scene: Scene) -> None:
    name = scene.publish("1.1.0", bad_recipes()["golden below the floor"])
    scene.start()
    scene.host.desire(bundle=name)
    done = scene.host.wait(lambda update: update.state == "refused")
    assert (done.error, done.bundle) == ("SelfTestError", name)
    assert scene.board.current == "toy-1.0.0"
    scene.board.wait(f"update_refused: {name}: SelfTestError")
    scene.board.end()
    asked, heard = len(scene.made.server.asked), len(scene.host.heard)
    scene.start()
    scene.host.wait(lambda update: update.state == "refused", after=heard)
    assert len(scene.made.server.asked) == asked
    scene.host.desire(bundle=name, force="again")
    again = scene.host.wait(lambda update: update.state == "refused" and update.force == "again")
    assert again.error == "SelfTestError"
    assert len(scene.made.server.asked) > asked
    assert scene.host.heard[-1].refused["bundle"]


def test_a_bundle_that_fails_on_live_frames_is_rolled_back_with_its_reason(scene: Scene) -> None:
    name = scene.publish("1.1.0", bad_recipes()["crash on a live frame"])
    scene.start()
    scene.host.desire(bundle=name)
    done = scene.host.wait(lambda update: update.state == "rolled_back")
    assert done.error == "RejectedReleaseError"
    assert done.reason
    assert scene.board.current == "toy-1.0.0"
    scene.board.wait_reading("toy-1.0.0")
    # The release before it is wished back: it is there already.
    scene.host.desire(bundle="toy-1.0.0")
    scene.host.wait(lambda update: update == Update("toy-1.0.0", "committed"))


def test_a_board_without_root_or_address_says_what_is_missing(scene: Scene) -> None:
    (scene.board.root / ROOT_JSON).unlink()
    scene.start()
    scene.host.desire(bundle=scene.publish("1.1.0"))
    said = scene.host.wait(lambda update: update.state == "refused")
    assert said.error == "NotPreparedError"
    assert "root.json" in (said.reason or "")


def test_a_host_that_is_away_is_waited_for(scene: Scene) -> None:
    name = scene.publish("1.1.0")
    scene.made.server.tricks.append(Trick("timestamp.json", code=503, times=1))
    scene.start()
    scene.host.desire(bundle=name)
    said = scene.host.wait(lambda update: update.state == "waiting")
    assert said.error == "RepositoryUnreachableError"
    scene.host.wait(lambda update: update.state == "committed")


def test_a_kill_in_the_middle_of_a_download_costs_no_byte_twice(scene: Scene) -> None:
    name = scene.publish("1.1.0", Recipe(labels=tuple(Recipe().labels)))
    path = next((scene.made.repository.targets / "bundles").glob(f"*.{name}.edgekit"))
    total = path.stat().st_size
    scene.start()
    # Slow enough to be met on its way.
    scene.host.desire(bundle=name, max_bytes_per_s=max(4096, total // 4))
    scene.host.wait(lambda update: update.state == "fetching" and (update.progress or 0) > 0.2)
    scene.board.end(9)
    parts = scene.board.root / "var/lib/edgekit/updates/parts"
    here = sum(part.stat().st_size for part in parts.glob("*.part"))
    assert here > 0
    scene.start()
    scene.host.wait(lambda update: update.state == "committed", after=len(scene.host.heard))
    offsets = [offset for asked, offset in scene.made.server.asked if asked.endswith(f"{name}.edgekit")]
    assert offsets[0] == 0
    assert offsets[-1] >= here > 0


def test_a_key_of_bundles_that_the_board_does_not_hold_installs_nothing(scene: Scene, tmp_path: Path) -> None:
    stranger = Signer.make(tmp_path / "stranger")
    path = scene.board.bundle(Recipe(), "1.1.0")
    stranger.sign(path)
    scene.made.offer(path)
    scene.start()
    scene.host.desire(bundle="toy-1.1.0")
    said = scene.host.wait(lambda update: update.state == "refused")
    assert said.error == "UntrustedKeyError"
    assert scene.board.current == "toy-1.0.0"

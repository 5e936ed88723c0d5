"""F-BOARD: an emulated arm64 board is flashed, says its FPS over MQTT, and survives 50 pulls of its plug.

What was found is kept in build/flash-board/found.json; a run that was stopped goes on there. A pull kills every process
of the board at a random moment of a flash of a new version; then the disk is read from here: the current release
must be the old one or the new one, signed and whole. Needs root, and:
apt install qemu-user-static openssh-server iproute2 mosquitto
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import ssl
import threading
import time
from collections.abc import Sequence
from typing import Any

from tools.emulated_board import EmulatedBoard, make_board
from tools.results import RESULTS, ROOT, machine

PLACE = ROOT / "build" / "flash-board"
FOUND = PLACE / "found.json"
_SITE, _ID = "home", "porch"
_WAIT_S, _READING_S = 1500.0, 600.0
_HEADING = "## Emulated board"


def run(arguments: Sequence[str]) -> dict[str, Any]:
    """Flash, listen, then pull the plug `--pulls` times (50)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pulls", type=int, default=50)
    parser.add_argument("--fresh", action="store_true", help="begin anew")
    args = parser.parse_args(arguments)
    if os.geteuid():
        return {"gate": "F-BOARD", "passed": False, "figure": "not run: needs root", "detail": ""}
    if args.fresh:
        shutil.rmtree(PLACE, ignore_errors=True)
    PLACE.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = json.loads(FOUND.read_text()) if FOUND.exists() else {"pulls": [], "flashes": []}
    board = make_board(ROOT / "build" / "emulated-board")
    if not found["flashes"]:
        board.forget()
    board.connect()
    try:
        board.power_on()
        _World(board, found).go(args.pulls)
    finally:
        board.pull_the_plug()
        board.disconnect()
    return _verdict(found, args.pulls)


class _World:
    """The board, its fleet, and what was found."""

    def __init__(self, board: EmulatedBoard, found: dict[str, Any]) -> None:
        from tests.worlds.bundles import Signer

        self.board, self.found = board, found
        # A board keeps two keys: a run that goes on brings a new pair, and the one before still opens what is there.
        self.signer = Signer.make(PLACE / "keys", f"run-{len(found['pulls'])}-{os.getpid()}")

    def go(self, pulls: int) -> None:
        from tests.worlds.trusted_fleet import trusted_fleet

        # The authority stays the board's from run to run; the address may be another one.
        shutil.rmtree(PLACE / "fleet", ignore_errors=True)
        with trusted_fleet(PLACE / "fleet", hosts=(self.board.host,), listen=self.board.host) as fleet:
            self.fleet, self.password = fleet, fleet.add_observer()
            if not self.found["flashes"]:
                self._flash_and_listen("toy-1.0.0")
            while len(self.found["pulls"]) < pulls:
                self._pull()
            self._flash_and_listen(f"toy-1.1.{len(self.found['pulls'])}")

    def _flash(self, name: str) -> None:
        from edgekit.flashing.flashed import Options
        from edgekit.pipeline import flash
        from tests.worlds.trial_board import Recipe, bundle_of

        config = PLACE / "ssh_config"
        config.write_text(f"Host *\n  IdentityFile {self.board.key}\n  IdentitiesOnly yes\n")
        path = PLACE / f"{name}.edgekit"
        path.write_bytes(bundle_of(Recipe(), name.rpartition("-")[2]))
        self.signer.sign(path)
        options = Options(ssh_config=str(config), known_hosts=PLACE / "known_hosts")
        flash(
            path,
            [self.board.target],
            settings={"source": "synthetic:160x120@5", "interval_s": 5.0, "site": _SITE, "id": _ID},
            public_key=self.signer.public,
            wheels=PLACE / "wheels",
            fleet=self.fleet.fleet.folder,
            enroll_again=True,
            wait_s=_WAIT_S,
            options=options,
        )

    def _flash_and_listen(self, name: str) -> None:
        began = time.monotonic()
        self._flash(name)
        seconds = round(time.monotonic() - began, 1)
        reading = self._reading(name)
        self.found["flashes"].append({"bundle": name, "seconds": seconds, "fps": reading["fps"]})
        self.found.setdefault("board", {k: reading[k] for k in ("delegate", "delegate_reason", "threads")})
        self._keep()

    def _reading(self, bundle: str) -> dict[str, Any]:
        """The first Reading of a bundle that comes over MQTT from outside, with frames in it."""
        import paho.mqtt.client as mqtt

        from tests.worlds.trusted_fleet import OBSERVER

        heard: list[dict[str, Any]] = []
        come = threading.Event()

        def on_message(client: object, data: object, message: mqtt.MQTTMessage) -> None:
            reading = json.loads(message.payload)
            if reading.get("bundle") == bundle and reading.get("fps", 0) > 0:
                heard.append(reading)
                come.set()

        client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, OBSERVER, protocol=mqtt.MQTTv5)
        authority = PLACE / "authority.pem"
        authority.write_bytes(self.fleet.fleet.authority.certificate)
        client.tls_set_context(ssl.create_default_context(cafile=str(authority)))
        client.username_pw_set(OBSERVER, self.password)
        client.on_message = on_message
        client.on_connect = lambda c, *_: c.subscribe(f"edgekit/v1/{_SITE}/{_ID}/telemetry", 1)
        client.connect(self.board.host, self.fleet.fleet.settings.port)
        client.loop_start()
        try:
            if not come.wait(_READING_S):
                raise RuntimeError(f"no Reading of {bundle} within {_READING_S:.0f} s")
        finally:
            client.disconnect()
            client.loop_stop()
        return heard[0]

    def _pull(self) -> None:
        """Flash a new version, pull the plug somewhere in it, look."""
        number = len(self.found["pulls"])
        before, name = self._serves(), f"toy-1.0.{number + 1}"
        span_s = self.found.get("span_s", self.found["flashes"][0]["seconds"] / 4)
        after_s = random.uniform(0.0, span_s)
        ended: list[str] = []

        def flash() -> None:
            try:
                self._flash(name)
                ended.append("whole")
            except Exception as error:
                ended.append(type(error).__name__)

        flashing, began = threading.Thread(target=flash), time.monotonic()
        flashing.start()
        flashing.join(after_s)
        early = flashing.is_alive()
        serves_then = self._link()
        self.board.pull_the_plug()
        flashing.join(300)
        if not early:
            # The moments are drawn from the length of a whole flash, as it is measured.
            self.found["span_s"] = round(time.monotonic() - began, 1)
        self.board.power_on()
        serves = self._serves()
        row = {"after_s": round(after_s, 1), "early": early, "before": before, "new": name, "serves": serves}
        row |= {"then": serves_then, "flash": ended[0] if ended else "hangs", "good": serves in (before, name)}
        self.found["pulls"].append(row)
        self._keep()

    def _link(self) -> str:
        try:
            return (self.board.root / "opt/edgekit/current").readlink().name
        except OSError:
            return ""

    def _serves(self) -> str:
        """The release that is current on the disk, opened and verified from here; a word why not, otherwise."""
        from edgekit_device import slots
        from edgekit_device.bundle import open_bundle

        try:
            serving = slots.current(self.board.root / "opt/edgekit")
            if serving is None:
                return "none"
            bundle, _ = open_bundle(serving.bundle, sorted((PLACE / "keys").glob("*.pub")))
            return bundle.manifest.bundle_id
        except Exception as error:
            return f"broken: {type(error).__name__}: {error}"

    def _keep(self) -> None:
        part = FOUND.with_suffix(".part")
        part.write_text(json.dumps(self.found, indent=1) + "\n")
        part.rename(FOUND)


def _verdict(found: dict[str, Any], wanted: int) -> dict[str, Any]:
    pulls = found["pulls"]
    bad = [row for row in pulls if not row["good"]]
    old = sum(row["good"] and row["serves"] == row["before"] for row in pulls)
    first, last = found["flashes"][0], found["flashes"][-1]
    figure = (
        f"{len(pulls)} plugs pulled while a new version was flashed ({sum(row['early'] for row in pulls)} before its "
        f"end): {old} times the old release, {len(pulls) - old - len(bad)} times the new one, {len(bad)} neither; "
        f"first flash {first['seconds']:.0f} s with runtime, unit and enrolment, last {last['seconds']:.0f} s; FPS "
        f"over MQTT from outside: {first['fps']:.2f} and {last['fps']:.2f} (emulated)"
    )
    _write(found, figure)
    return {"gate": "F-BOARD", "passed": not bad and len(pulls) >= wanted, "figure": figure, "detail": ""}


def _write(found: dict[str, Any], figure: str) -> None:
    """The section of docs/results/flash.md; what other tools wrote there stays."""
    path = RESULTS / "flash.md"
    text = path.read_text("utf-8") if path.exists() else "# Flashing\n"
    lines = [
        _HEADING,
        "",
        "    make gates ONLY=F-BOARD",
        "",
        f"Machine: {machine()}.",
        "Debian 12 for arm64 under qemu-user as a Cortex-A72, with its own sshd, users and network; no Raspberry Pi",
        "was touched, and no time is a Pi's. The toy classifier of the tests, wheels of the lock without an index, and",
        "the fleet's own broker over TLS. A pull kills every process at once; what was written and not synced stays,",
        "which a power cut may take: gate A2 tries that.",
        "",
        f"{figure}.",
        "",
    ]
    before, _, rest = text.partition(_HEADING)
    after = rest.partition("\n## ")[2]
    path.write_text(before.rstrip() + "\n\n" + "\n".join(lines) + (f"\n## {after}" if after else ""), "utf-8")

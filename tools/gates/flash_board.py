"""F-BOARD: an emulated arm64 board is flashed, says its FPS over MQTT, and survives 50 pulls of its plug.

In this order: a toy, whose flashes are short; the pulls; a newer toy, whole; lite0, as the first release of a board;
last everything is taken away. A pull kills every process of the board at a random moment of a flash of a new version;
then the disk is read from here: the current release must be the old one or the new one, signed and whole. After every
tenth pull the board's service is started, and its FPS awaited from outside. Lite0 is not flashed over another release:
the board's own trial gives a proof 20 s, and the emulation alone takes them.

What was found is kept in build/flash-board/found.json, and at the end in docs/results/flash_board.json: a run that was
stopped goes on there, also on another day. First, once:
`edgekit wheels fetch --python 3.11 --machine aarch64 -o build/flash-board/wheels`. Needs root, and:
apt install qemu-user-static openssh-server openssh-client iproute2 mosquitto
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tools.emulated_board import EmulatedBoard, make_board
from tools.gates.flash_board_page import FLASHES, LITE0, NEWER, TOY, write_page
from tools.results import RESULTS, ROOT, commit

BUILD, FIRST = ROOT / "build", "flash-board"
WHEELS = BUILD / FIRST / "wheels"
KEPT = RESULTS / "flash_board.json"
_PARTS = {"toy": TOY, "pulls": "", "newer": NEWER, "lite0": LITE0, "remove": ""}
_SITE, _ID = "home", "porch"
# One thread: to measure how many are right takes minutes under emulation.
_SETTINGS = {"source": "synthetic:160x120@5", "interval_s": 5.0, "threads": 1, "site": _SITE, "id": _ID}
_GOLDEN = ("cat-tabby.jpg", "bee.jpg")
_WAIT_S, _READING_S, _COMMIT_S = 1200.0, 600.0, 300.0
_SPAN_S, _BEYOND, _ASKING_S = 120.0, 1.15, 900.0
"""A moment is drawn from the time after the first change: this long until a flash was whole, then what that took."""
_RUNS_EVERY = 10


def run(arguments: Sequence[str]) -> dict[str, Any]:
    """Flash a toy, pull the plug `--pulls` times (50), flash lite0, take everything away."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pulls", type=int, default=50)
    parser.add_argument("--board", type=int, default=1, help="another one, 2 or 3, may pull plugs beside the first")
    parser.add_argument("--only", choices=_PARTS, help="this part now, and no verdict")
    parser.add_argument("--fresh", action="store_true", help="begin anew")
    args = parser.parse_args(arguments)
    if os.geteuid():
        return {"gate": "F-BOARD", "passed": False, "figure": "not run: needs root", "detail": ""}
    end = "" if args.board == 1 else f"-{args.board}"
    place = BUILD / f"{FIRST}{end}"
    place.mkdir(parents=True, exist_ok=True)
    if args.fresh:
        (place / "found.json").write_text('{"pulls": [], "flashes": {}}')
    found = _read(place)
    if args.only or len(_all_pulls()) < args.pulls or "removed" not in found:
        board = make_board(BUILD / f"emulated-board{end}")
        if args.fresh:
            board.forget()
            (place / "known_hosts").unlink(missing_ok=True)  # A board that is made anew has another key.
        board.connect()
        try:
            board.power_on()
            _World(board, found, place).go(args.pulls, args.only)
        finally:
            board.pull_the_plug()
            board.disconnect()
    if args.only:
        return {"gate": "F-BOARD", "passed": False, "figure": f"only {args.only}", "detail": ""}
    found = _read(place) | {"pulls": _all_pulls()}
    KEPT.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", "utf-8")
    return _verdict(found, args.pulls)


def _read(place: Path) -> dict[str, Any]:
    """What a board's earlier runs found; the first one's begin with what the repository keeps."""
    path = place / "found.json"
    if not path.exists() and place.name == FIRST:
        path = KEPT
    return dict(json.loads(path.read_text("utf-8"))) if path.exists() else {"pulls": [], "flashes": {}}


def _all_pulls() -> list[dict[str, Any]]:
    """Of every board that was tried."""
    return [row for place in sorted({BUILD / FIRST, *BUILD.glob(f"{FIRST}-[0-9]")}) for row in _read(place)["pulls"]]


class _World:
    """The board, its fleet, and what was found."""

    def __init__(self, board: EmulatedBoard, found: dict[str, Any], place: Path) -> None:
        from edgekit.trust.keys import load_or_create

        self.board, self.found, self.place = board, found, place
        self.key = load_or_create(place / "keys")
        found.setdefault("commits", [])
        if commit() not in found["commits"]:
            found["commits"].append(commit())

    def go(self, pulls: int, only: str | None) -> None:
        from tests.worlds.trusted_fleet import trusted_fleet

        # A run that goes on founds the fleet anew, for its address may be another one; a flash enrols the board there.
        shutil.rmtree(self.place / "fleet", ignore_errors=True)
        with trusted_fleet(self.place / "fleet", hosts=(self.board.host,), listen=self.board.host) as fleet:
            self.fleet, self.password = fleet, fleet.add_observer()
            for part in [only] if only else _PARTS:
                if part == "pulls":
                    if self.found["pulls"] and len(_all_pulls()) < pulls:
                        # The fleet is a new one: the board joins it before its FPS is awaited there.
                        self._flash(self._serves())
                    while len(_all_pulls()) < pulls:
                        self._pull()
                elif part == "remove":
                    if "removed" not in self.found:
                        self._take_away()
                elif _PARTS[part] not in self.found["flashes"]:
                    if part == "lite0":
                        self._forget_releases()
                    self._whole(_PARTS[part])

    # -- flashes

    def _bundle(self, name: str) -> Path:
        """A signed bundle: lite0 as EdgeKit converts it, or the toy of the tests."""
        from tests.worlds.trial_board import Recipe, bundle_of

        path, version = self.place / f"{name}.edgekit", name.rpartition("-")[2]
        if path.with_name(path.name + ".minisig").exists():
            return path
        if name.startswith("lite0"):
            import edgekit

            model = ROOT / "build" / "bench" / "lite0.tflite"
            if not model.exists():
                model.parent.mkdir(parents=True, exist_ok=True)
                edgekit.convert("efficientnet-lite0", out=model)
            # Two golden photos: each costs seconds under emulation, three times at a start.
            edgekit.bundle(
                model, out=path, name="lite0", version=version, golden=_few(self.place / "golden"), sign=self.key.path
            )
            return path
        path.write_bytes(bundle_of(Recipe(), version))
        path.with_name(path.name + ".minisig").write_bytes(self.key.sign(path.read_bytes(), path.name))
        return path

    def _flash(self, name: str | None, told: Callable[[str], None] | None = None) -> list[Any]:
        from edgekit.flashing.flashed import Options
        from edgekit.pipeline import flash

        config = self.place / "ssh_config"
        config.write_text(f"Host *\n  IdentityFile {self.board.key}\n  IdentitiesOnly yes\n")
        tell = told or _say
        return flash(
            self._bundle(name) if name else None,
            [self.board.target],
            remove=name is None,
            settings=_SETTINGS if name else None,
            public_key=self.key.public_path,
            on_step=lambda target, words: tell(words),
            wheels=WHEELS,
            fleet=self.fleet.fleet.folder,
            enroll_again=True,
            wait_s=_WAIT_S,
            options=Options(ssh_config=str(config), known_hosts=self.place / "known_hosts"),
        )

    def _whole(self, name: str) -> None:
        """Flash to the end, hear the FPS from outside, and wait until the board keeps what it tries."""
        _say(f"flashing {name}")
        began = time.monotonic()
        (done,) = self._flash(name)
        seconds = round(time.monotonic() - began, 1)
        reading = self._reading(name)
        until = time.monotonic() + _COMMIT_S
        while (verdict := self._verdict_of(name)) == "pending" and time.monotonic() < until:
            time.sleep(1)
        row = {"seconds": seconds, "fps": reading["fps"], "changes": len(done.changes), "verdict": verdict}
        self.found["flashes"][name] = row | {key: reading[key] for key in ("delegate", "delegate_reason", "threads")}
        _say(f"{name}: {self.found['flashes'][name]}")
        self._keep()

    def _forget_releases(self) -> None:
        """While the board is off: its next release is its first, and there is none to compare it with."""
        self.board.pull_the_plug()
        home = self.board.place / "disk/upper/opt/edgekit"
        shutil.rmtree(home / "releases", ignore_errors=True)
        for name in ("current", "trials.json"):
            (home / name).unlink(missing_ok=True)
        self.board.power_on()

    def _take_away(self) -> None:
        """`--remove`, and a look that nothing of ours is left."""
        began = time.monotonic()
        self._flash(None)
        places = ("opt/edgekit", "opt/edgekit-runtimes", "etc/edgekit", "var/lib/edgekit")
        left = [place for place in places if (self.board.root / place).exists()]
        self.found["removed"] = {"seconds": round(time.monotonic() - began, 1), "left": left}
        _say(f"taken away: {self.found['removed']}")
        self._keep()

    def _verdict_of(self, name: str) -> str:
        from edgekit_device.verdicts import verdict_of

        return verdict_of(self.board.root / "opt/edgekit", name).state

    # -- from outside

    def _reading(self, bundle: str | None) -> dict[str, Any]:
        """The first Reading of a bundle, or of any, that comes over MQTT from outside, with frames in it."""
        import paho.mqtt.client as mqtt
        from paho.mqtt.enums import CallbackAPIVersion

        from tests.worlds.trusted_fleet import OBSERVER

        heard: list[dict[str, Any]] = []
        come = threading.Event()

        def on_message(client: object, data: object, message: mqtt.MQTTMessage) -> None:
            reading = json.loads(message.payload)
            if bundle in (None, reading.get("bundle")) and reading.get("fps", 0) > 0:
                heard.append(reading)
                come.set()

        client = mqtt.Client(CallbackAPIVersion.VERSION2, OBSERVER, protocol=mqtt.MQTTv5)
        authority = self.place / "authority.pem"
        authority.write_bytes(self.fleet.fleet.authority.certificate)
        client.tls_set_context(ssl.create_default_context(cafile=str(authority)))
        client.username_pw_set(OBSERVER, self.password)
        client.on_message = on_message
        client.on_connect = lambda c, *_: c.subscribe(f"edgekit/v1/{_SITE}/{_ID}/telemetry", 1)
        client.connect(self.board.host, self.fleet.fleet.settings.port)
        client.loop_start()
        try:
            if not come.wait(_READING_S):
                raise RuntimeError(f"no Reading of {bundle or 'anything'} within {_READING_S:.0f} s")
        finally:
            client.disconnect()
            client.loop_stop()
        return heard[0]

    # -- pulls

    def _pull(self) -> None:
        """Flash a new version, pull the plug somewhere in it, look."""
        number = len(self.found["pulls"])
        before, name = self._serves(), f"toy-1.0.{number + 1}"
        after_s = random.uniform(0.0, self.found.get("span_s", _SPAN_S))
        ended: list[str] = []
        steps: list[str] = []
        changing = threading.Event()
        took: list[float] = []

        def tell(words: str) -> None:
            steps.append(words)
            if len(steps) == 1:
                took.append(-time.monotonic())
            changing.set()

        def flash() -> None:
            try:
                self._flash(name, tell)
                ended.append("whole")
            except Exception as error:
                ended.append(f"{type(error).__name__}: {error}"[:200])
            took.append(time.monotonic())
            changing.set()

        self._bundle(name)
        flashing = threading.Thread(target=flash)
        flashing.start()
        # Until the first change a flash only asks.
        changing.wait(_ASKING_S)
        flashing.join(after_s)
        early, step = flashing.is_alive(), steps[-1] if steps else "asking"
        self.board.pull_the_plug()
        flashing.join(300)
        if ended and ended[0] == "whole":
            self.found["span_s"] = round(_BEYOND * sum(took), 1)
        self.board.power_on()
        serves = self._serves()
        row = {"after_s": round(after_s, 1), "early": early, "step": step, "before": before, "new": name}
        row |= {"serves": serves, "flash": ended[0] if ended else "hangs", "good": serves in (before, name)}
        if number % _RUNS_EVERY == _RUNS_EVERY - 1:
            row |= self._starts()
        self.found["pulls"].append(row)
        _say(f"pull {number + 1}: {row}")
        self._keep()

    def _starts(self) -> dict[str, Any]:
        """Start the service as a boot would; FPS from outside of what it serves: the new one, or the one it trusts."""
        words = [
            "ssh",
            "-i",
            str(self.board.key),
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
        ]
        words += [self.board.target.removeprefix("ssh://"), "sh", "/etc/init.d/edgekit-device", "start"]
        subprocess.run(words, check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=_READING_S)
        reading = self._reading(None)
        return {"fps": reading["fps"], "runs": reading["bundle"]}

    def _serves(self) -> str:
        """The release that is current on the disk, opened and verified from here; a word why not, otherwise."""
        from edgekit_device import slots
        from edgekit_device.bundle import open_bundle

        try:
            serving = slots.current(self.board.root / "opt/edgekit")
            if serving is None:
                return "none"
            bundle, _ = open_bundle(serving.bundle_path, [self.key.public_path])
            return bundle.manifest.bundle_id
        except Exception as error:
            return f"broken: {type(error).__name__}: {error}"

    def _keep(self) -> None:
        part = self.place / "found.part"
        part.write_text(json.dumps(self.found, indent=1) + "\n")
        part.rename(self.place / "found.json")


def _few(folder: Path) -> Path:
    """Two of the shipped photos."""
    folder.mkdir(exist_ok=True)
    for name in _GOLDEN:
        shutil.copy(ROOT / "calibration_data" / name, folder / name)
    return folder


def _say(words: str) -> None:
    print(f"F-BOARD {time.strftime('%H:%M:%S')}: {words}", flush=True)


def _verdict(found: dict[str, Any], wanted: int) -> dict[str, Any]:
    pulls, flashes = found["pulls"], found["flashes"]
    bad = [row for row in pulls if not row["good"]]
    old = sum(row["good"] and row["serves"] == row["before"] for row in pulls)
    fps = ", ".join(f"{name} {row['fps']:.2f}" for name, row in flashes.items())
    figure = (
        f"{len(pulls)} plugs pulled while a new version was flashed: {old} times the old release, "
        f"{len(pulls) - old - len(bad)} times the new one, {len(bad)} neither; "
        f"FPS over MQTT from outside: {fps} (emulated)"
    )
    kept = all(flashes.get(name, {}).get("verdict") == "committed" for name in FLASHES)
    detail = write_page(found, figure, wanted)
    passed = not bad and len(pulls) >= wanted and kept and found.get("removed", {}).get("left") == []
    return {"gate": "F-BOARD", "passed": passed, "figure": figure, "detail": detail}


if __name__ == "__main__":
    print(run(sys.argv[1:]))

"""A board with a running service, and bundles of a toy that are good, or bad in one way each; all are signed."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edgekit_device import slots, vision
from edgekit_device.bundle import open_bundle
from edgekit_device.contract.archive import write_archive
from edgekit_device.contract.file_table import table_of
from edgekit_device.contract.manifest import GOLDEN_SCORES, LABELS, NAME, Manifest
from edgekit_device.contract.preprocess import efficientnet_lite
from edgekit_device.infer.golden import Golden
from edgekit_device.infer.interpreter import Engine
from edgekit_device.verdicts import COMMITTED, Verdict, read_verdicts
from tests.worlds.bad_models import Edit
from tests.worlds.bundles import Signer

ROOT_OF = Path(__file__).parents[2]
FIXTURES = ROOT_OF / "device" / "tests" / "fixtures"
TOY = (FIXTURES / "toy_int8.tflite").read_bytes()
LABEL_NAMES = (FIXTURES / "labels.txt").read_text().split()
# A trial that is over in a few seconds. A busy machine delays a toy of 0.1 ms by several: that is not to be judged.
QUICK = "window_s=2,slack_ms=10,settle_s=2,baseline_frames=10,shadow_frames=10,proof_s=15,load_s=10"
SOURCE = "synthetic:160x120@30"


def photos() -> dict[str, np.ndarray[Any, Any]]:
    """Golden photos of three classes."""
    found = {}
    for number, shape in enumerate(("circle", "square", "triangle")):
        image = np.full((96, 128, 3), (20, 40, 60), np.uint8)
        x, y, r, color = 64, 48, 19, (230, 180, 90)
        if shape == "circle":
            cv2.circle(image, (x, y), r, color, -1)
        elif shape == "square":
            cv2.rectangle(image, (x - r, y - r), (x + r, y + r), color, -1)
        else:
            cv2.fillPoly(image, [np.array([[x, y - r], [x - r, y + r], [x + r, y + r]])], color)
        found[f"{number:02d}.png"] = image
    return found


@dataclass
class Recipe:
    """What a toy bundle is made of.

    Attributes:
        model: Its CPU model.
        golden_of: The model whose scores are its golden vectors.
        rung: Where those scores are measured.
        side: What the manifest says the input's side is.
        labels: One a class.
        tolerances: By rung.
        twist: Takes the golden scores and changes them.
    """

    model: bytes = TOY
    golden_of: bytes = TOY
    rung: str = "xnnpack"
    side: int = 32
    labels: Sequence[str] = tuple(LABEL_NAMES)
    tolerances: Mapping[str, float] = field(default_factory=lambda: {"xnnpack": 2 / 256, "builtin": 16 / 256})
    twist: Callable[[dict[str, Any]], dict[str, Any]] = dict


def edited(change: Callable[[Edit], None]) -> bytes:
    """The toy with something done to it."""
    edit = Edit(TOY)
    change(edit)
    return edit.done()


def _turned(scores: dict[str, Any]) -> dict[str, Any]:
    names = sorted(scores)
    return dict(zip(names, [scores[name] for name in names[1:] + names[:1]], strict=True))


def bad_recipes() -> dict[str, Recipe]:
    """Ten ways to be bad behind a valid signature, by what each does; two that only live frames show."""
    forgetful = edited(Edit.forget)
    five = [*LABEL_NAMES, "star"]
    return {
        "crash at load": Recipe(edited(Edit.crash_at_load)),
        "abort at invoke": Recipe(edited(lambda e: e.trap())),
        "hang": Recipe(edited(lambda e: e.loop(None))),
        "constant output": Recipe(forgetful, golden_of=forgetful),
        "NaN output": Recipe((FIXTURES / "toy_float.tflite").read_bytes(), tolerances={"xnnpack": 1.0, "builtin": 1.0}),
        "wrong shape": Recipe(side=48),
        "wrong label count": Recipe(labels=five),
        "golden below the floor": Recipe(twist=_turned),
        "half the FPS": Recipe(edited(lambda e: e.loop(120_000))),
        "four times the memory": Recipe(edited(lambda e: e.ballast(80_000_000))),
        "wrong rung": Recipe((FIXTURES / "colours_edgetpu.tflite").read_bytes()),
        "crash on a live frame": Recipe(edited(lambda e: e.trap(72, 112))),
        "hang on a live frame": Recipe(edited(lambda e: e.trap(72, 112, hangs=True))),
    }


def bundle_of(recipe: Recipe, version: str) -> bytes:
    """The bytes of one bundle."""
    engine = Engine(recipe.golden_of, delegate=recipe.rung)
    spec = efficientnet_lite(32).quantised(engine.input.dtype, engine.input.scale, engine.input.zero_point)
    scores = {name: engine.scores(vision.to_model_input(photo, spec)) for name, photo in photos().items()}
    golden = Golden(recipe.twist(scores), recipe.tolerances)
    files = {
        "model.tflite": recipe.model,
        LABELS: ("\n".join(recipe.labels) + "\n").encode(),
        GOLDEN_SCORES: golden.to_bytes(),
        **{
            f"golden/{name}": cv2.imencode(".png", cv2.cvtColor(photo, cv2.COLOR_RGB2BGR))[1].tobytes()
            for name, photo in photos().items()
        },
    }
    listed = table_of(files)
    spec = replace(spec, height=recipe.side, width=recipe.side)
    manifest = Manifest("toy", version, listed, {"cpu": "model.tflite"}, spec, len(recipe.labels))
    return write_archive({NAME: manifest.to_bytes(), **files})


class Board:
    """A folder that stands for a board, and the service on it.

    Attributes:
        root: The folder.
        said: What the service wrote to stderr, line by line.
        readings: Its Readings.
    """

    def __init__(self, folder: Path, signer: Signer | None = None) -> None:
        self.folder, self.root = folder, folder / "board"
        self.signer = signer or Signer.make(folder / "keys")
        keys = self.root / "etc" / "edgekit" / "keys"
        keys.mkdir(parents=True)
        # In memory as on a real board, where the status file is written with each Reading.
        self._run = Path(tempfile.mkdtemp(prefix="edgekit-run-", dir="/dev/shm"))
        (self.root / "run").symlink_to(self._run)
        (keys / "a.pub").write_bytes(self.signer.public.read_bytes())
        self.place = self.root / "opt" / "edgekit"
        self.said: list[str] = []
        self.readings: list[dict[str, Any]] = []
        self._process: subprocess.Popen[str] | None = None
        self._threads: list[threading.Thread] = []

    # -- bundles

    def bundle(self, recipe: Recipe, version: str) -> Path:
        """A signed bundle on disk."""
        path = self.folder / f"toy-{version}.edgekit"
        path.write_bytes(bundle_of(recipe, version))
        self.signer.sign(path)
        return path

    def enter(self, path: Path, **more: Any) -> None:
        """Make a bundle current without a self-test: as if whoever should have tested it had not."""
        slots.install(self.place, path, [self.signer.public], **more)

    def committed(self, version: str = "1.0.0", path: Path | None = None) -> str:
        """Enter a good release that has passed its trial long ago; its name."""
        path = path or self.bundle(Recipe(), version)
        self.enter(path)
        opened, _ = open_bundle(path, [self.signer.public])
        slots.judge(self.place, f"toy-{version}", Verdict(opened.sha256, COMMITTED))
        return f"toy-{version}"

    @property
    def current(self) -> str | None:
        """What is current on the disk."""
        slot = slots.current(self.place)
        return slot.bundle_id if slot else None

    def verdict(self, name: str) -> Verdict:
        """What became of a release."""
        return read_verdicts(self.place).get(name, Verdict())

    def verb(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a verb of edgekit-device on this board."""
        command = [sys.executable, "-m", "edgekit_device", *words, "--root", str(self.root)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    # -- the service

    def start(
        self,
        *words: str,
        trial: str = QUICK,
        source: str = SOURCE,
        program: Sequence[str] = (),
        fresh: bool = True,
        **env: str,
    ) -> None:
        """Start the service; `fresh` forgets what an earlier one said."""
        if fresh:
            self.said, self.readings = [], []
        program = program or ("-m", "edgekit_device", "run")
        command = [sys.executable, *program, "--root", str(self.root), "--source", source, "--json"]
        command += ["--interval", "0.25", "--threads", "1", "--trial", trial, *words]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": f"{ROOT_OF}", **env},
        )  # fmt: skip
        assert self._process.stdout and self._process.stderr
        self._threads = [
            threading.Thread(target=lambda: [self.readings.append(json.loads(line)) for line in self._process.stdout]),  # type: ignore[union-attr]
            threading.Thread(target=lambda: [self.said.append(line.rstrip()) for line in self._process.stderr]),  # type: ignore[union-attr]
        ]
        for thread in self._threads:
            thread.start()

    @property
    def pid(self) -> int:
        """Process id of the supervisor."""
        assert self._process
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the supervisor runs."""
        return self._process is not None and self._process.poll() is None

    def wait(self, pattern: str, limit_s: float = 60.0, *, after: int = 0) -> str:
        """The first line it says that has the pattern.

        Args:
            pattern: Regular expression.
            limit_s: A hang is a failure.
            after: Look from this line on.
        """
        until = time.monotonic() + limit_s
        while time.monotonic() < until:
            for line in self.said[after:]:
                if re.search(pattern, line):
                    return line
            if not self.alive:
                break
            time.sleep(0.02)
        raise AssertionError(
            f"never said {pattern!r}; exit {self._process and self._process.poll()}; said:\n" + "\n".join(self.said)
        )

    def wait_reading(self, bundle: str, limit_s: float = 30.0) -> dict[str, Any]:
        """A Reading with frames of that bundle that comes from now on."""
        begin, until = len(self.readings), time.monotonic() + limit_s
        while time.monotonic() < until:
            for reading in self.readings[begin:]:
                if reading["bundle"] == bundle and reading["fps"] > 0:
                    return reading
            time.sleep(0.02)
        raise AssertionError(f"no frames of {bundle}; last: {self.readings[-1:]}; said:\n" + "\n".join(self.said))

    def served(self) -> float:
        """Frames that the worker has served, from the page that it shares with the supervisor."""
        for fd in Path(f"/proc/{self.pid}/fd").iterdir():
            try:
                if "edgekit-progress" in os.readlink(fd):
                    with fd.open("rb") as page:
                        return float(struct.unpack_from("=d", page.read(64), 24)[0])
            except OSError:
                continue
        return 0.0

    def status(self) -> dict[str, Any]:
        """What `edgekit-device status --json` says."""
        return dict(json.loads(self.verb("status", "--json").stdout))

    def end(self, number: int = signal.SIGTERM) -> None:
        """End the service."""
        if self._process is None:
            return
        if self.alive:
            self._process.send_signal(number)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for thread in self._threads:
            thread.join(10)
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe:
                pipe.close()
        self._process = None

    def __enter__(self) -> Board:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        shutil.rmtree(self._run, ignore_errors=True)

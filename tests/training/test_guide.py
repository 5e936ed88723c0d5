"""The worked example of docs/guide/train.md, word for word but for the size of the net; `capture` takes its photos."""

from __future__ import annotations

import shlex
from pathlib import Path

import cv2
import pytest

from edgekit.cli import main
from edgekit.runs import read_split
from edgekit_device.cli import main as device
from tests.training.conftest import Digits
from tests.worlds.photo_folders import PHOTOS

GUIDE = Path(__file__).parents[2] / "docs" / "guide" / "train.md"


def example() -> list[str]:
    block = GUIDE.read_text("utf-8").split("<!-- worked example -->")[1].strip("\n").split("\n\n")[0]
    return [line.strip() for line in block.splitlines()]


def test_six_commands_at_most_lead_from_photos_to_a_running_classifier(
    digits: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for at, photo in enumerate(sorted(PHOTOS.glob("*.jpg"))[:3]):
        # A camera that looks at one thing from several sides.
        scene = tmp_path / f"scene{at}"
        scene.mkdir()
        pixels = cv2.imread(str(photo))
        for step in range(10):
            part = pixels[20 * step : 20 * step + 260, 15 * step : 15 * step + 260]
            cv2.imwrite(str(scene / f"{step}.jpg"), part)
        assert device(["capture", "--source", f"images:{scene}", "--count", "10", "-o", f"photos/class{at}"]) == 0
    commands = example()
    assert len(commands) <= 6
    recipe = tmp_path / "tiny" / "recipe.toml"
    recipe.parent.mkdir()
    recipe.write_text("[architecture]\nwidth = 0.25\ndepth = 0.3\nresolution = 32\n")
    for command in commands:
        program, *words = shlex.split(command.replace("efficientnet-lite0", str(recipe)))
        if words[0] == "train":
            words += ["--weights", str(digits.run.folder), "--epochs", "3", "--rate", "0.003"]
        assert {"edgekit": main, "edgekit-device": device}[program](words) == 0, command
    split = read_split(tmp_path / "runs" / "pets")
    assert split and sum(entry["role"] == "held_out" for entry in split["pictures"]) >= 3

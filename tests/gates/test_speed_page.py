"""The page of the race says what was measured and judges it; a contender that did not run is named, not left out."""

from __future__ import annotations

import argparse
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tools.benches import speed
from tools.benches.bars import Bar, bars


def one_round(factor: float) -> dict[str, Any]:
    """What a round leaves: EdgeKit at 150 frames/s on a machine that allows 152, everybody else slower."""
    cores = len(speed.os.sched_getaffinity(0))
    contender = {"fps": 60.0 * factor, "cpu_ms": 9.0, "seen": [1, 2, 3, 4]}
    found: dict[str, Any] = {name: dict(contender) for name in speed.NAMES}
    own = {"threads": 2, "idle": 0.01, "rss_mb": 150.0, "supervisor_ms": 0.1, "dropped": 0, "seen": None}
    found["edgekit"] = {"fps": 150.0 * factor, "cpu_ms": 6.7, **own}
    found["edgekit_paced"] = {"fps": 30.0, "cpu_ms": 7.0, **own}
    found["openvino_sync"]["seen"] = [1, 2, 3, 9]
    found["onnxruntime"] = {"problem": "no wheel for this Python"}
    together = cores * 1000 / (152 * factor)
    found["parts"] = {"decode": 0.7, "preprocess": 0.5, "invoke": 4.0, "together": together}
    found["paced"], found["paced_video"] = {"cpu_ms": 6.0}, {"cpu_ms": 6.9}
    found["latency"], found["edgekit_latency"] = {"ms": {"1": 6.0, "2": 4.0}}, {"ms": {"1": 6.3, "2": 4.4}}
    found["start"] = {"first_s": 0.6}
    return found


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "docs" / "img").mkdir(parents=True)
    (tmp_path / "docs" / "results").mkdir()
    monkeypatch.setattr(speed, "ROOT", tmp_path)
    monkeypatch.setattr(speed, "RESULTS", tmp_path / "docs" / "results")
    monkeypatch.setattr(speed, "_installed", lambda: "openvino 1")
    return tmp_path / "docs"


def test_goals_are_judged_by_ratios_of_the_same_round(page: Path) -> None:
    # The second round ran on a machine half as fast: figures halve, ratios stay.
    speed.write([one_round(1.0), one_round(0.5)], argparse.Namespace(seconds=6.0), load=0.1)
    text = (page / "results" / "speed.md").read_text()
    rows = {line.split(" | ")[0].removeprefix("| "): line for line in text.splitlines() if line.startswith("| ")}
    assert (
        "0.99 (0.99 to 0.99) | >= 0.97 | met"
        in rows["FPS from a file / what decode + preprocess + invoke allow on all cores"]
    )
    assert "2.50 (2.50 to 2.50) | >= 2 | met" in rows["FPS / MediaPipe Tasks"]
    assert "| <= 1.05 | missed" in rows["paced at 30 FPS: CPU a frame / (preprocess + invoke, paced, one thread)"]
    assert "| <= 1.15 | met" in rows["live: capture to result p50 / (preprocess + invoke)"]
    assert "75%" in rows["OpenVINO, synchronous"]
    assert "no wheel for this Python" in rows["ONNX Runtime"]
    assert "busy" not in text


def test_figures_of_a_busy_machine_say_so(page: Path) -> None:
    speed.write([one_round(1.0)], argparse.Namespace(seconds=1.0), load=50.0)
    assert "The machine was busy" in (page / "results" / "speed.md").read_text()


def test_the_picture_is_a_drawing_with_a_bar_and_a_figure_each() -> None:
    drawn = ElementTree.fromstring(
        bars("a < b", "1/s", [Bar("one", 10.0, 8.0, 12.0, True), Bar("two", 5.0, 5.0, 5.0, False)])
    )
    boxes = [part for part in drawn if part.tag.endswith("rect")]
    assert [part.get("class") for part in boxes] == ["own", "other"]
    assert float(boxes[0].get("width", 0)) == pytest.approx(2 * float(boxes[1].get("width", 0)), abs=0.2)
    assert {"10.0", "5.0", "a < b"} <= {part.text for part in drawn}

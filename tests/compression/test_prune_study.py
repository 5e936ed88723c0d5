"""`edgekit compress --study` on a small net."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from edgekit.cli import main
from edgekit.compression.channels import find_channels
from tests.worlds.taught_nets import TaughtNet


def test_one_command_says_what_each_layer_can_spare_and_a_second_one_looks_it_up(
    world: TaughtNet, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["compress", str(world.net), "--data", str(world.data), "--preprocess", world.asked()["preprocess"]]
    assert main([*words, "--study", "-o", str(tmp_path / "s")]) == 0
    said = capsys.readouterr().out
    found = json.loads((tmp_path / "s.json").read_text())
    groups = {group.name: len(group.channels) for group in find_channels(world.cnn).groups}
    assert groups == {"stem": 16, "last": 32}
    for group, count in groups.items():
        rows = [row for row in found["rows"] if row["group"] == group]
        assert [row["gone"] for row in rows] == [0, count // 4, count // 2, 3 * count // 4]
        assert rows[0]["top1"] > 0.7 and min(row["top1"] for row in rows) < rows[0]["top1"]
        assert group in said
    assert [row["group"] for row in found["rows"] if row["channels"] == 1] == ["sum"]
    drawn = ElementTree.fromstring((tmp_path / "s.svg").read_text())
    # A cell for each figure: four of each layer, one of the block.
    assert len(drawn.findall(".//{*}rect[@class='cell']")) == 4 * len(groups) + 1
    texts = [text.text for text in drawn.findall(".//{*}text")]
    assert {"stem", "last", "without sum", "75 %"} <= set(texts)
    assert (tmp_path / "s.csv").read_text().startswith("group,channels,gone,top1")
    assert max(len(line) for line in said.splitlines() if str(tmp_path) not in line and "net.keras" not in line) <= 80

    def never(*arguments: Any, **named: Any) -> Any:
        raise AssertionError("it was judged again")

    monkeypatch.setattr("edgekit.compression.prune_study.study_groups", never)
    assert main([*words, "--study", "-o", str(tmp_path / "t")]) == 0
    assert (tmp_path / "t.json").read_text() == (tmp_path / "s.json").read_text()


def test_what_a_study_cannot_do_is_said(world: TaughtNet, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stated = world.asked()["preprocess"]
    words = ["compress", str(world.net), "--data", str(world.data), "--preprocess", stated, "-o", str(tmp_path / "s")]
    assert main([*words, "--study", "--pass", "qat"]) == 2
    assert "--study runs no pass and takes no --pass" in capsys.readouterr().err
    loose = tmp_path / "loose"
    loose.mkdir()
    for file in list(world.data.rglob("*.png"))[:8]:
        (loose / f"{file.parent.name}-{file.name}").write_bytes(file.read_bytes())
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(world.lessons.labels) + "\n")
    words[words.index(str(world.data))] = str(loose)
    assert main([*words, "--study", "--labels", str(labels)]) != 0
    assert "no picture has a label" in capsys.readouterr().err

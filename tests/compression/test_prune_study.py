"""`edgekit compress --study` on a small net."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgekit.cli import main
from edgekit.compression.channels import find_channels
from tests.compression.test_prune import World


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Any:
    root = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(root / "cache"))
        yield World(root)


def test_one_command_says_what_each_layer_can_spare_and_a_second_one_looks_it_up(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
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
    assert "<polyline" in (tmp_path / "s.svg").read_text()
    assert (tmp_path / "s.csv").read_text().startswith("group,channels,gone,top1")
    assert max(len(line) for line in said.splitlines() if str(tmp_path) not in line and "net.keras" not in line) <= 80

    def never(*arguments: Any, **named: Any) -> Any:
        raise AssertionError("it was judged again")

    monkeypatch.setattr("edgekit.compression.prune_study.study_groups", never)
    assert main([*words, "--study", "-o", str(tmp_path / "t")]) == 0
    assert (tmp_path / "t.json").read_text() == (tmp_path / "s.json").read_text()

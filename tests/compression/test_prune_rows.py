"""The rows of docs/results/prune.md in their quick form: the same code on small nets."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tools.benches import prune as rows
from tools.benches.prune_page import picture, title


def test_rows_run_go_on_and_stand_on_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    words = ["--quick", "--work", str(tmp_path), "--rows"]
    rows.run([*words, "float,ptq,structured-50-distilled,weight-75,untrained-random,page"])
    page = (tmp_path / "prune.md").read_text("utf-8")
    done = json.loads((tmp_path / "structured-50-distilled.row.json").read_text("utf-8"))
    whole = json.loads((tmp_path / "ptq.row.json").read_text("utf-8"))
    sparse = json.loads((tmp_path / "weight-75.row.json").read_text("utf-8"))
    assert done["macs"] <= 0.5 * whole["macs"] and done["bytes"] < whole["bytes"]
    assert sparse["macs"] == whole["macs"] and sparse["zip_bytes"] < 0.8 * whole["zip_bytes"]
    for row in ("ptq", "structured-50-distilled", "weight-75"):
        assert f"| {title(row)} |" in page
    # What was not measured is named, and no figure stands for it.
    assert "Not measured: `qat`" in page and "`narrow-50`" in page
    assert "Goals at half of the multiply-adds" in page
    assert "| at random, the same share of each layer |" in page
    figures = json.loads((tmp_path / "prune.json").read_text("utf-8"))
    drawn = ElementTree.fromstring(picture(figures["rows"], figures["ms"]))
    # Two rows in two panels, each from the whole net on, and the key.
    assert len(drawn.findall(".//{*}circle")) == 2 * 2 * 2 + 2
    # A new machine that has the same net goes on from the figures in the repository.
    elsewhere = ["--quick", "--work", str(tmp_path / "new"), "--base", str(tmp_path / "base"), "--rows", "float,page"]
    rows.run([*elsewhere, "--page", str(tmp_path / "prune.md")])
    again = (tmp_path / "prune.md").read_text("utf-8")
    assert [line.split(" | ")[:7] for line in again.splitlines() if line.startswith("| int8")] == [
        line.split(" | ")[:7] for line in page.splitlines() if line.startswith("| int8")
    ]
    # Figures that began with another net are not mixed with these.
    kept = tmp_path / "prune.json"
    kept.write_text(kept.read_text("utf-8").replace('"base": "', '"base": "0'), "utf-8")
    rows.run([*elsewhere, "--page", str(tmp_path / "prune.md")])
    assert "| int8" not in (tmp_path / "prune.md").read_text("utf-8")
    # A row that is there is not trained again.
    capsys.readouterr()
    rows.run([*words, "structured-50-distilled"])
    assert "prune 1" not in capsys.readouterr().out


def test_every_row_has_a_pass_and_a_title() -> None:
    from edgekit.compression.passes import parse_step

    world = rows.World(Path("nowhere"), Path("base"), Path("data"), rows.FULL)
    for row in (*rows.ROWS, *rows.UNTRAINED):
        assert title(row)
        if row not in (*rows.BASES, "narrow-50") and not row.endswith("-qat"):
            parse_step(world.step(row))

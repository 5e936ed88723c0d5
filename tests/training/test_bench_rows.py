"""The rows of docs/results/train.md, each in its quick form: the same code on small nets."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.benches import train as rows


def test_every_row_runs_and_the_page_is_written_from_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rows.run(["--quick", "--work", str(tmp_path), "--rows", ",".join((*rows.ROWS, "page"))])
    page = (tmp_path / "train.md").read_text("utf-8")
    for title in rows._TITLES.values():
        assert f"| {title} |" in page
    assert "QAT is" in page and "Best int8" in page
    # A row that is there is not trained again.
    capsys.readouterr()
    rows.run(["--quick", "--work", str(tmp_path), "--rows", "qat"])
    assert "qat/1" not in capsys.readouterr().out.replace(" ", "")
    assert not list(tmp_path.rglob("checkpoint.npz"))

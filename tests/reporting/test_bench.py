"""`bench`: real models in processes of their own, cold and steady apart, and a word where int8 does not pay."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

import edgekit
from edgekit.cli import main
from edgekit.cli.bench import table
from edgekit.errors import UsageError
from edgekit.reporting.bench import Cell, slower_integers, summarise
from edgekit.reporting.pictures import bench_svg, confusion_svg
from tests.worlds.shapes import FLOAT, INT8


@pytest.fixture(scope="module")
def done() -> edgekit.reporting.bench.Bench:
    return edgekit.bench([INT8, FLOAT], threads=[1], rounds=2, seconds=0.05)


def test_every_cell_is_measured_cold_and_steady(done: edgekit.reporting.bench.Bench) -> None:
    assert [(Path(c.model).stem, c.kind, c.rung) for c in done.cells] == [
        ("toy_int8", "int8", "xnnpack"),
        ("toy_int8", "int8", "builtin"),
        ("toy_float", "float", "xnnpack"),
        ("toy_float", "float", "builtin"),
    ]
    for cell in done.cells:
        assert cell.problem is None
        assert cell.runs >= 2 * 20
        assert len(cell.round_p50_ms) == 2
        assert 0 < (cell.p50_ms or 0) <= (cell.p95_ms or 0) <= (cell.p99_ms or 0)
        assert (cell.load_ms or 0) > 0 < (cell.first_ms or 0)
        assert (cell.rss_bytes or 0) > 10_000_000


def test_the_table_fits_80_columns_and_the_picture_is_xml(done: edgekit.reporting.bench.Bench) -> None:
    lines = table(done)
    assert all(len(line) <= 80 for line in lines if not line.startswith("warning"))
    assert sum("toy_" in line for line in lines) >= 4
    root = ET.fromstring(bench_svg(done))
    assert len(root.findall("{http://www.w3.org/2000/svg}rect")) == 1 + len(done.cells)


def visit(*steady_s: float, first_s: float = 0.5) -> dict[str, object]:
    return {"load_s": 0.1, "first_s": first_s, "steady_s": list(steady_s), "rss_bytes": 1}


def test_the_first_inference_is_in_no_steady_figure() -> None:
    cell = summarise(Cell("m", "int8", "xnnpack", 1), [visit(0.001, 0.002), visit(0.003, 0.004)])
    assert (cell.runs, cell.p50_ms, cell.p99_ms, cell.first_ms, cell.load_ms) == (4, 2.0, 4.0, 500.0, 100.0)
    assert cell.round_p50_ms == (1.0, 3.0)


@pytest.mark.parametrize(
    ("ours", "theirs", "warned"),
    [((5.0, 5.2), (4.0, 4.9), True), ((5.0, 5.2), (4.0, 5.1), False), ((3.0,), (4.0,), False)],
)
def test_int8_is_called_slower_only_if_every_round_says_so(
    ours: tuple[float, ...], theirs: tuple[float, ...], warned: bool
) -> None:
    cells = [
        Cell("a.tflite", "int8", "xnnpack", 1, p50_ms=ours[0], round_p50_ms=ours),
        Cell("b.tflite", "float", "xnnpack", 1, p50_ms=theirs[0], round_p50_ms=theirs),
        Cell("b.tflite", "float", "xnnpack", 2, p50_ms=0.1, round_p50_ms=(0.1,)),
    ]
    assert bool(slower_integers(cells)) == warned


def test_a_model_that_cannot_run_is_a_line_and_the_others_are_measured(tmp_path: Path) -> None:
    data = bytearray(INT8.read_bytes())
    at = data.index(b"TFL3")
    broken = tmp_path / "broken.tflite"
    # The version of the schema: a file that can be read, and that no interpreter takes.
    root = int.from_bytes(data[:4], "little")
    vtable = root - int.from_bytes(data[root : root + 4], "little", signed=True)
    version = root + int.from_bytes(data[vtable + 4 : vtable + 6], "little")
    data[version] = 9
    assert at == 4
    broken.write_bytes(data)
    bad, good = edgekit.bench([broken, INT8], rungs=["xnnpack"], threads=[1], rounds=1, seconds=0.05).cells
    assert bad.problem and bad.p50_ms is None
    assert good.p50_ms


def test_wrong_words_are_usage_errors(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no rung is called 'gpu'"):
        edgekit.bench([INT8], rungs=["gpu"])
    with pytest.raises(UsageError, match="there is no such file"):
        edgekit.bench([tmp_path / "none.tflite"])


def test_json_is_one_object_and_the_picture_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "bench.svg"
    words = ["bench", str(INT8), "--rung", "xnnpack", "--threads", "1", "--rounds", "1", "--seconds", "0.05"]
    assert main([*words, "--plot", str(picture), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [cell["rung"] for cell in document["cells"]] == ["xnnpack"]
    assert document["machine"]["cores"] >= 1
    assert picture.read_text("utf-8").startswith("<svg")


def test_a_confusion_matrix_shows_the_classes_with_the_most_mistakes() -> None:
    labels = [f"class <{i}>" for i in range(50)]
    confusion = {(i, i): 9 for i in range(50)} | {(40, 41): 5, (3, 2): 1}
    root = ET.fromstring(confusion_svg(confusion, labels, limit=4))
    texts = [node.text or "" for node in root.iter("{http://www.w3.org/2000/svg}text")]
    assert [text for text in texts if text.startswith("class")][::2] == [f"class <{i}>" for i in (2, 3, 40, 41)]
    assert "4 of 50 classes" in texts[0]

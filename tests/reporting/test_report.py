"""Promises of `edgekit report`: one file, no network, the facts of the JSON, and nothing a name can do to it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import edgekit
from edgekit.artefacts import Sidecar, sha256_of, write_sidecar
from edgekit.cli import main
from edgekit.errors import UsageError
from edgekit.records import tensor_facts
from edgekit.report_run import Report
from edgekit.reporting.card import markdown_html
from edgekit.reporting.figures import Dot, frontier, scatter
from edgekit.reporting.markup import megabytes, number, percent
from edgekit_device.infer.flatbuffer import read_model
from tests.worlds.shapes import FLOAT, INT8, LABELS_FILE, PREPROCESS, write_preprocess, write_shapes

HTML = "{http://www.w3.org/1999/xhtml}"
HOSTILE = "</title><script>alert(1)</script>\"'&\u202egnp.\x07"


@dataclass
class World:
    folder: Path
    model: Path
    done: Report

    @property
    def page(self) -> str:
        return self.done.path.read_text("utf-8")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A model whose every name is hostile, with all that a report can hold."""
    folder = tmp_path_factory.mktemp("report")
    model = folder / "a<b>&'int8.tflite"
    shutil.copy(INT8, model)
    labels = LABELS_FILE.read_text("utf-8").splitlines()
    data = write_shapes(folder / "data", 60, names=tuple(str(at) for at in range(len(labels))))
    photos = write_shapes(folder / "photos", 40, seed=9)
    card(model, photos)
    # What `convert` refuses in a label stands in the weights' name and licence instead.
    labels[0] = HOSTILE.replace("\u202e", "").replace("\x07", "")
    model.with_suffix(".labels.txt").write_text("\n".join(labels), "utf-8")
    done = edgekit.report(
        model,
        reference=FLOAT,
        data=data,
        images=photos,
        calibration=photos,
        epsilon=50.0,
        preprocess=str(write_preprocess(folder / "preprocess.json")),
        out=folder / "out.html",
    )
    return World(folder, model, done)


def card(model: Path, photos: Path) -> None:
    info = read_model(model.read_bytes(), "toy")
    first, last = tensor_facts(info.main.inputs[0]), tensor_facts(info.main.outputs[0])
    write_sidecar(
        model,
        Sidecar(
            path=model.name,
            sha256=sha256_of(model),
            parent="0" * 64,
            variant=None,
            scheme="int8",
            io="int8",
            bytes=model.stat().st_size,
            operators=dict(info.operator_counts),
            input=first,
            output=last,
            preprocess=PREPROCESS.quantised(first["dtype"], first["scale"], first["zero_point"]).to_json(),
            calibration={"photos": [sha256_of(path) for path in photos.rglob("*.png")][:20], "crops": 20, "seed": 0},
            agreement={},
            seconds=1.5,
            weights={"source": f"weights{HOSTILE}", "sha256": "1" * 64, "licence": f"CC0{HOSTILE}"},
        ),
    )


def tree(page: str) -> ET.Element:
    return ET.fromstring(page.removeprefix("<!DOCTYPE html>\n"))


def words(page: str) -> str:
    return " ".join("".join(tree(page).itertext()).split())


def test_the_page_is_well_formed_and_asks_nothing_of_a_network(world: World) -> None:
    for element in tree(world.page).iter():
        assert element.tag not in {f"{HTML}{name}" for name in ("script", "link", "iframe", "object", "form", "base")}
        for name, value in element.attrib.items():
            assert not name.startswith("on")
            if name in ("src", "href", "srcset", "action", "data"):
                assert value.startswith(("data:image/jpeg;base64,", "#")), (element.tag, name, value[:40])
    style = next(tree(world.page).iter(f"{HTML}style")).text or ""
    assert "url(" not in style
    assert "@import" not in style
    assert "default-src 'none'" in world.page.replace("&#x27;", "'")


def test_a_hostile_label_name_or_licence_is_text_and_nothing_else(world: World) -> None:
    assert "<script" not in world.page.lower()
    assert "\u202e" not in world.page
    assert "\x07" not in world.page
    assert "</title><script>alert(1)</script>\"'&" in words(world.page)
    assert "a<b>&'int8" in words(world.page)


def test_the_facts_of_the_page_are_those_of_the_document(world: World) -> None:
    document, seen = json.loads(json.dumps(world.done.document)), words(world.page)
    assert document["missing"] == {}
    promised = [document["model"]["sha256"], megabytes(document["model"]["bytes"])]
    promised += [link["sha256"] for link in document["chain"] if link["sha256"]]
    accuracy, agreement = document["accuracy"], document["agreement"]
    promised += [percent(accuracy["top1"]), *(percent(end) for end in accuracy["top1_interval"]), accuracy["verdict"]]
    promised += [number(accuracy[f"drop{end}_points"], 2) for end in ("", "_upper", "_lower")]
    promised += [percent(agreement["top1"]), number(agreement["sqnr_db"], 1, "dB"), f"{agreement['n']:,}"]
    for model in document["models"]:
        promised += [model["name"], megabytes(model["bytes"])]
        promised += [number(cell["p50_ms"], 2, "ms") for cell in model["cells"]]
    assert len(document["models"]) == 2
    for layer in document["layers"]["layers"][:5]:
        promised += [layer["layer"], percent(layer["share"]), layer["remedy"]]
    promised += [f"{document['calibration']['crops']:,} crops", f"{document['calibration']['photos']:,} photos"]
    missing = [fact for fact in promised if " ".join(str(fact).split()) not in seen]
    assert not missing


def test_what_a_model_was_calibrated_on_does_not_judge_it(world: World) -> None:
    document = world.done.document
    assert document["agreement"]["held_out"] is True
    assert document["agreement"]["photos"] == 20


def test_each_disagreement_has_its_picture_and_both_answers(world: World, tmp_path: Path) -> None:
    rows = [
        {"photo": f"p{at}", "sha256": "2" * 64, "reference": {"label": "cat", "score": 0.5},
         "model": {"label": HOSTILE, "score": 0.25}, "reference_score_of_other": 0.125}
        for at in range(2)
    ]  # fmt: skip
    from edgekit.reporting.page import render

    page = render({**world.done.document, "disagreements": rows}, [b"one", b"two"])
    sources = [image.attrib["src"] for image in tree(page).iter(f"{HTML}img")]
    assert sources == ["data:image/jpeg;base64,b25l", "data:image/jpeg;base64,dHdv"]
    assert "<script" not in page
    assert all(found in words(page) for found in ("cat 50.0 %", "25.0 %", "gave the other 12.5 %"))


def test_a_section_without_facts_says_what_provides_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(INT8, tmp_path / "toy.tflite")
    spec = write_preprocess(tmp_path / "p.json")
    assert main(["report", str(tmp_path / "toy.tflite"), "--preprocess", str(spec), "--no-measure", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert set(document["missing"]) == {
        "accuracy", "agreement", "models", "layers", "calibration", "disagreements",
    }  # fmt: skip
    seen = words(Path(document["path"]).read_text("utf-8"))
    for command in document["missing"].values():
        assert all(" ".join(step.split()) in seen for step in command.split(";"))
    assert "edgekit evaluate" in seen
    assert "edgekit bench" in seen


def test_a_run_without_a_model_is_reported_with_the_command_that_makes_one(tmp_path: Path) -> None:
    run = tmp_path / "flowers"
    run.mkdir()
    with pytest.raises(UsageError, match=r"neither model\.keras"):
        edgekit.report(run)
    (run / "model.keras").write_bytes(b"weights")
    (run / "CARD.md").write_text("# Flowers\n\nFive of them.\n", "utf-8")
    facts = {"variant": "efficientnet-lite1", "labels": ["a", "b"], "held_out": {"n": 40, "top1": 0.875}}
    facts |= {"weights": {"source": "imagenet", "sha256": "7" * 64, "licence": "Apache-2.0"}}
    (run / "RUN.json").write_text(json.dumps({**facts, "schema": 1, "kind": "run"}), "utf-8")
    done = edgekit.report(run, out=tmp_path / "run.html")
    seen = words(done.path.read_text("utf-8"))
    assert sha256_of(run / "model.keras") in seen
    assert "efficientnet-lite1, 2 classes, top-1 87.5 % on 40 pictures held out" in seen
    assert "7" * 64 in seen
    assert "Five of them." in seen
    assert f"edgekit convert {run} -o flowers.tflite" in seen


def test_a_run_is_judged_on_what_training_held_out(tmp_path: Path) -> None:
    names = LABELS_FILE.read_text("utf-8").splitlines()
    data = write_shapes(tmp_path / "data", 24)
    pictures = [
        {"file": str(file.relative_to(data)), "label": file.parent.name, "sha256": sha256_of(file),
         "role": "held_out" if at % 2 else "train"}
        for at, file in enumerate(sorted(data.rglob("*.png")))
    ]  # fmt: skip
    run = tmp_path / "shapes"
    run.mkdir()
    shutil.copy(INT8, run / "int8.tflite")
    card(run / "int8.tflite", data)
    (run / "int8.labels.txt").write_text("\n".join(names), "utf-8")
    (run / "RUN.json").write_text(json.dumps({"schema": 1, "kind": "run"}), "utf-8")
    (run / "split.json").write_text(json.dumps({"data": str(data), "pictures": pictures}), "utf-8")
    cell = {"model": "elsewhere/int8.tflite", "rung": "xnnpack", "threads": 4, "p50_ms": 12.345, "p95_ms": 23.456}
    told = tmp_path / "bench.json"
    told.write_text(json.dumps({"cells": [cell], "machine": {"cpu": "a board's"}}), "utf-8")
    done = edgekit.report(run, bench=told, out=tmp_path / "run.html")
    seen = words(done.path.read_text("utf-8"))
    assert all(fact in seen for fact in ("12.35 ms", "23.46 ms", "4 threads", "a board's"))
    assert done.document["name"] == "shapes"
    assert done.document["accuracy"]["n"] == 12
    next(data.rglob("*.png")).parent.rename(tmp_path / "gone")
    done = edgekit.report(run, bench=told, out=tmp_path / "run.html")
    assert "edgekit evaluate" in done.document["missing"]["accuracy"]


def test_a_report_is_named_html_and_of_something_that_is_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"ends in \.html"):
        edgekit.report(INT8, out=tmp_path / "out.pdf")
    with pytest.raises(UsageError, match="neither a"):
        edgekit.report(tmp_path / "nothing")
    assert not list(tmp_path.iterdir())


WRAPPER = """<!doctype html><meta charset="utf-8"><iframe src="out.html" style="width:{wide}px;height:4000px;border:0">
</iframe><pre id="out"></pre><script>onload = () => {{
  const page = document.querySelector("iframe").contentDocument, root = page.documentElement;
  const over = [...page.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > {wide} + 0.5);
  document.getElementById("out").textContent = "found " + JSON.stringify({{
    wide: root.scrollWidth, back: getComputedStyle(page.body).backgroundColor,
    ink: getComputedStyle(page.body).color, over: over.map(e => e.tagName + "." + e.getAttribute("class")).slice(0, 5),
  }}) + " end";
}}</script>"""


@pytest.mark.parametrize(("wide", "dark"), [(390, False), (320, True), (1280, True)])
def test_no_width_scrolls_sideways_and_dark_is_dark(
    world: World, require_tool: Callable[[str, str], str], wide: int, dark: bool, tmp_path: Path
) -> None:
    browser = require_tool("chromium", "apt install chromium")
    shutil.copy(world.done.path, tmp_path / "out.html")
    (tmp_path / "frame.html").write_text(WRAPPER.format(wide=wide), "utf-8")
    scheme = ["--blink-settings=preferredColorScheme=0"] if dark else []
    done = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files", "--dump-dom",
         f"--user-data-dir={tmp_path / 'profile'}", *scheme, f"file://{tmp_path / 'frame.html'}"],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    found = json.loads(re.search(r'id="out">found (\{.*\}) end', done.stdout, re.S).group(1))  # type: ignore[union-attr]
    assert found["wide"] <= wide
    assert found["over"] == []
    levels = [sum(map(int, re.findall(r"\d+", found[key])[:3])) for key in ("back", "ink")]
    assert (levels[0] < 150 < levels[1]) if dark else (levels[1] < 150 < levels[0])


def test_the_frontier_holds_what_nothing_beats_in_both() -> None:
    dots = [Dot("a", 5.0, 5.0), Dot("b", 5.0, 9.0), Dot("c", 2.0, 20.0), Dot("d", 18.0, 4.0), Dot("e", 9.0, 6.0)]
    assert [dot.name for dot in frontier(dots)] == ["c", "a", "d"]


def test_names_of_models_in_one_place_do_not_lie_on_one_another() -> None:
    dots = [Dot(f"model-{at}", 5.0, 5.0 + at / 100) for at in range(4)]
    rows = [float(y) for y in re.findall(r'dx="-11" y="([\d.]+)"', scatter(dots, "MB", "ms"))]
    assert len(rows) == 4
    assert min(abs(a - b) for at, a in enumerate(rows) for b in rows[:at]) >= 15


def test_a_card_is_rendered_and_its_markup_is_not_obeyed() -> None:
    source = (
        "# Card\n\n| | |\n|---|---|\n| Input | `RGB <b>` |\n\n- one\n  more\n- **two** [site](javascript:f)\n\n<i>x</i>"
    )
    page = f"<div>{markdown_html(source)}</div>"
    assert "javascript" not in page
    assert "<i>" not in page
    assert "<b>" not in page
    root = ET.fromstring(page)
    assert [cell.text or cell[0].text for cell in root.iter("td")] == ["Input", "RGB <b>"]
    assert ["".join(item.itertext()) for item in root.iter("li")] == ["one more", "two site"]


def test_pages_of_equal_facts_are_equal(world: World) -> None:
    from edgekit.reporting.page import render

    assert render(world.done.document, world.done.pictures) == world.page
    assert replace(world.done, path=world.done.path).document["schema"] == 1

"""The gates of a recipe: each limit is kept or broken by the number it is about, and by no other."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import edgekit
from edgekit.cli import main
from edgekit.errors import RecipeError
from edgekit.verification.agreement import Agreement
from edgekit.verification.gates import Gates, Measured, gates_of, judge, read_gates
from tests.worlds.shapes import FLOAT, INT8, LABELS_FILE, write_preprocess, write_shapes

AGREEMENT = Agreement(200, 30, 0.97, (0.94, 0.99), 0.9, 0.01, 0.1, 20.0, ())
EVALUATION = {"n": 3000, "top1": 0.75, "drop_points": 0.4, "drop_upper_points": 0.9}
GOOD = Measured(5_000_000, {"CONV_2D": 10, "ADD": 2}, (), AGREEMENT, EVALUATION, 5.0)
ALL = Gates(0.95, 0.93, 1.0, 0.74, 5_500_000, 6.0, 1, ("CONV_2D", "ADD"), True)


def test_a_model_that_keeps_every_limit_passes() -> None:
    verdict = judge(GOOD, ALL)
    assert verdict.passed
    assert len(verdict.findings) == 8


@pytest.mark.parametrize(
    ("worse", "check"),
    [
        (replace(GOOD, bytes=5_500_001), "size"),
        (replace(GOOD, operators={"CONV_2D": 1, "HARD_SWISH": 1}), "allowed operators: HARD_SWISH not allowed"),
        (replace(GOOD, float_tensors=("a", "b")), "float tensors: 2 float tensors, first a, b"),
        (replace(GOOD, agreement=replace(AGREEMENT, top1=0.949)), "same top class"),
        (replace(GOOD, agreement=replace(AGREEMENT, top1_interval=(0.92, 0.99))), "same top class, surely"),
        (replace(GOOD, evaluation={**EVALUATION, "drop_upper_points": 1.01}), "drop: 0.40 points seen on 3000 images"),
        (replace(GOOD, evaluation={**EVALUATION, "top1": 0.739}), "accuracy"),
        (replace(GOOD, p50_ms=6.01), "speed: p50 6.01 ms on 1 thread, at most 6 ms wanted"),
    ],
)
def test_one_broken_limit_is_named_and_no_other(worse: Measured, check: str) -> None:
    broken = judge(worse, ALL).broken
    assert len(broken) == 1
    assert broken[0].startswith(check)


@pytest.mark.parametrize(
    ("lacking", "gates"),
    [
        (replace(GOOD, agreement=None), Gates(agreement=0.9)),
        (replace(GOOD, evaluation=None), Gates(drop_points=1.0)),
        (replace(GOOD, evaluation={"n": 1, "top1": 1.0}), Gates(drop_points=1.0)),
        (replace(GOOD, p50_ms=None), Gates(p50_ms=9.0)),
    ],
)
def test_a_gate_that_was_not_measured_is_not_passed(lacking: Measured, gates: Gates) -> None:
    assert "not measured" in judge(lacking, gates).broken[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[gates]\nagreemnt = 0.9", "'agreemnt' is no gate; did you mean 'agreement'"),
        ("[gates]\nagreement = 98", "must be above 0 and at most 1"),
        ("[gates]\nbytes = 1.5", "must be a whole number"),
        ("[gates]\nno_float = 1", "must be true or false"),
        ('[gates]\noperators = "ADD"', "must be a list"),
        ("agreement = 0.9", "write a table"),
        ("[gates", "cannot be read"),
    ],
)
def test_a_wrong_file_of_gates_is_refused_with_the_reason(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "gates.toml"
    path.write_text(text, "utf-8")
    with pytest.raises(RecipeError, match=message):
        read_gates(path)


def test_verify_measures_what_the_gates_ask_for_and_exits_3_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = write_preprocess(tmp_path / "preprocess.json")
    data = write_shapes(tmp_path / "data", 80)
    done = edgekit.evaluate(INT8, data, against=FLOAT, preprocess=str(spec), labels=LABELS_FILE)
    evaluation = tmp_path / "eval.json"
    evaluation.write_text(json.dumps(done.to_json()), "utf-8")
    gates = tmp_path / "gates.toml"
    # Photos mean nothing to a model of shapes, so agreement on them is left out.
    gates.write_text(
        "[gates]\nbytes = 30_000\ndrop_points = 9.0\ntop1 = 0.9\nno_float = true\np50_ms = 1000.0\n", "utf-8"
    )
    words = ["verify", str(INT8), "--preprocess", str(spec), "--gates", str(gates), "--evaluation", str(evaluation)]
    assert main(words) == 0
    gates.write_text("[gates]\nbytes = 10_000\n", "utf-8")
    capsys.readouterr()
    assert main(words) == 3
    assert f"size: {INT8.stat().st_size} bytes, at most 10000 wanted" in capsys.readouterr().err


def test_an_evaluation_of_another_model_does_not_count(tmp_path: Path) -> None:
    spec = write_preprocess(tmp_path / "preprocess.json")
    evaluation = tmp_path / "eval.json"
    evaluation.write_text(json.dumps({"model_sha256": "0" * 64, "top1": 1.0, "n": 9}), "utf-8")
    with pytest.raises(edgekit.errors.UsageError, match="it is of another model"):
        edgekit.verify(INT8, preprocess=str(spec), gates={"top1": 0.5}, evaluation=evaluation)


def test_gates_can_be_plain_data() -> None:
    assert gates_of({"operators": ["ADD"], "bytes": 5}) == Gates(bytes=5, operators=("ADD",))

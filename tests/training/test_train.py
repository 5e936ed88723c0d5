from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgekit
from edgekit import convert, evaluate, train
from edgekit.artefacts import sha256_of
from edgekit.cli import main
from edgekit.cli.train import summary
from edgekit.errors import PreprocessUnknownError, ReplacedFileError, RunExistsError, TrainingError, UsageError
from edgekit.runs import read_split, read_toml
from edgekit.training.checkpoint import read_checkpoint
from edgekit.training_run import Recipe
from tests.training.conftest import OPTIONS, TINY, Digits
from tests.worlds.photo_folders import crops_folder, digits_folder

KILLED = """
from edgekit import train
from tests.training.conftest import OPTIONS, TINY
train({data!r}, variant=TINY, weights="random", out={out!r}, **OPTIONS)
"""


def test_a_run_says_what_it_is(digits: Digits) -> None:
    folder, facts = digits.run.folder, digits.run.facts
    assert digits.run.labels == tuple("0123456789")
    assert facts["sha256"] == sha256_of(folder / "model.keras")
    assert facts["pictures"] == {"train": 216, "monitor": 24, "held_out": 60} or sum(facts["pictures"].values()) == 300
    assert digits.run.held_out == 60
    assert digits.run.top1 is not None and digits.run.top1 > 0.3  # A tenth would be guessing.
    assert digits.run.top1_interval[0] < digits.run.top1 < digits.run.top1_interval[1]  # type: ignore[index]
    for name in ("labels.txt", "preprocess.json", "recipe.toml", "history.json", "curves.svg", "confusion.svg"):
        assert (folder / name).stat().st_size > 10
    assert not (folder / "checkpoint.npz").exists()
    assert read_toml(folder / "recipe.toml")["training"]["epochs"] == OPTIONS["epochs"]
    history = digits.run.history["fine-tune"]
    assert len(history) == OPTIONS["epochs"]
    assert history[-1]["loss"] < history[0]["loss"]


def test_what_is_held_out_was_never_learnt_from(digits: Digits) -> None:
    split = read_split(digits.run.folder)
    assert split
    held = {entry["sha256"] for entry in split["pictures"] if entry["role"] == "held_out"}
    photos = {path.stem for path in (digits.run.folder / "photos").rglob("*.png")}
    assert len(held) == 60
    assert photos and not photos & {digest[:16] for digest in held}


def test_a_killed_run_goes_on_from_its_last_epoch_and_ends_the_same(digits: Digits, tmp_path: Path) -> None:
    out = tmp_path / "run"
    code = KILLED.format(data=str(digits.data), out=str(out))
    child = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2], stderr=subprocess.DEVNULL)
    try:
        while not (out / "checkpoint.npz").exists() and child.poll() is None:
            time.sleep(0.02)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert not (out / "RUN.json").exists()
    steps: list[int] = []
    done = train(
        digits.data,
        variant=TINY,
        weights="random",
        out=out,
        progress=lambda stage, at, _: steps.append(at) if stage == "fine-tune" else None,
        **OPTIONS,
    )
    each = digits.steps[-1] // OPTIONS["epochs"]
    assert steps[0] > each
    assert steps[-1] == digits.steps[-1]
    assert done.facts["weights_sha256"] == digits.run.facts["weights_sha256"]


def test_a_finished_run_is_returned_and_another_recipe_is_refused(digits: Digits) -> None:
    out = digits.run.folder
    before = (out / "RUN.json").stat().st_mtime_ns
    again = train(digits.data, variant=TINY, weights="random", out=out, **OPTIONS)
    assert again.resumed
    assert (out / "RUN.json").stat().st_mtime_ns == before
    assert (again.top1, again.labels, again.per_class) == (
        digits.run.top1,
        digits.run.labels,
        dict(digits.run.per_class),
    )
    with pytest.raises(RunExistsError, match=r"training\.seed was 0, is 1.*--force"):
        train(digits.data, variant=TINY, weights="random", out=out, **{**OPTIONS, "seed": 1})
    assert (out / "RUN.json").exists()


def test_a_folder_of_other_things_is_never_overwritten(digits: Digits, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(RunExistsError, match="choose another name"):
        train(digits.data, variant=TINY, weights="random", out=tmp_path, force=True, **OPTIONS)
    assert (tmp_path / "thesis.txt").read_text() == "precious"
    other = tmp_path / "variant"
    other.mkdir()
    (other / "recipe.toml").write_text("[architecture]\nwidth = 1.0\n")
    with pytest.raises(RunExistsError, match="is no run's"):
        train(digits.data, variant=TINY, weights="random", out=other, force=True, **OPTIONS)


def test_a_run_converts_and_is_judged_on_what_it_held_out(
    digits: Digits, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = convert(digits.run.folder, out=tmp_path / "digits.tflite")
    assert made.sidecar.parent == digits.run.facts["sha256"]
    assert made.sidecar.variant == "tiny"
    assert made.sidecar.calibration["crops"] > 0
    judged = evaluate(tmp_path / "digits.tflite", digits.run.folder)
    assert judged.n == digits.run.held_out
    # The board's own preprocessing and integers, against the float model in TensorFlow.
    assert abs(judged.top1 - (digits.run.top1 or 0)) <= 0.1
    assert main(["evaluate", str(tmp_path / "digits.tflite"), str(digits.run.folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n"] == 60


def test_a_model_that_was_put_in_anothers_place_is_refused(digits: Digits, tmp_path: Path) -> None:
    import shutil

    run = tmp_path / "run"
    shutil.copytree(digits.run.folder, run)
    (run / "model.keras").write_bytes((run / "model.keras").read_bytes() + b"\0")
    with pytest.raises(ReplacedFileError):
        convert(run, out=tmp_path / "m.tflite")


def test_the_head_learns_on_cached_features_and_another_run_can_be_where_it_begins(
    digits: Digits, tmp_path: Path, cache_home: Path
) -> None:
    stages: list[str] = []
    options: dict[str, Any] = {"epochs": 0, "augment": "none", "variant": TINY}
    options["weights"] = digits.run.folder
    note = lambda stage, done, total: stages.append(stage)  # noqa: E731
    one = train(digits.data, out=tmp_path / "one", head_epochs=40, progress=note, **options)
    assert "features" in stages
    assert one.top1 is not None and one.top1 > 0.3
    stages.clear()
    two = train(digits.data, out=tmp_path / "two", head_epochs=20, progress=note, **options)
    assert "features" not in stages
    assert len(two.history["head"]) == 20
    assert two.facts["parent"] == digits.run.facts["sha256"]


def test_weights_that_state_no_preprocessing_are_refused(digits: Digits, tmp_path: Path) -> None:
    bare = tmp_path / "w.keras"
    bare.write_bytes((digits.run.folder / "model.keras").read_bytes())
    with pytest.raises(PreprocessUnknownError):
        train(digits.data, variant=TINY, weights=bare, out=tmp_path / "run", epochs=0)


def test_five_colour_pictures_a_class_of_32_pixels_train_from_the_command_line(
    digits: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    crops_folder(tmp_path / "data", 3, 5)
    recipe = tmp_path / "tiny" / "recipe.toml"
    recipe.parent.mkdir()
    recipe.write_text("[architecture]\nwidth = 0.25\ndepth = 0.3\nresolution = 32\n")
    words = ["train", "data", "--variant", str(recipe), "--weights", str(digits.run.folder), "--epochs", "0"]
    assert main([*words, "-o", "small", "--view", "whole"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"3 classes; pictures: 3 held out, 12 train", said)
    assert "next: edgekit convert runs/small -o small.tflite" in said
    assert all(len(line) <= 80 for line in said.splitlines())
    assert json.loads((tmp_path / "runs" / "small" / "preprocess.json").read_text())["crop"] == "squash"


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"epoch": 3}, "no option 'epoch'; did you mean"),
        ({"augment": "photos"}, "did you mean 'photo'"),
        ({"view": "round"}, "--view round: choose one of"),
        ({"held_out": 1.5}, "--held-out 1.5"),
        ({"epochs": 0, "head_epochs": 0}, "nothing would be learnt"),
        ({"rate": 0.0}, "--rate"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_read(option: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        train("nowhere", variant="efficientnet-lite0", out="x", **option)


def test_training_that_loses_its_numbers_says_so(digits: Digits, tmp_path: Path) -> None:
    from edgekit.learning import Objective, Plan
    from edgekit.training.loop import Loop
    from tests.worlds.teachable import dense_lessons, dense_network

    loss = Objective(lambda outputs, targets, weights, extras: outputs["logits"][0, 0] / 0.0)
    with pytest.raises(TrainingError, match="not a number in epoch 1"):
        Loop()(dense_network(), dense_lessons(), Plan(epochs=1), loss, stage="fine-tune")


def test_early_stopping_keeps_the_best_epoch(tmp_path: Path) -> None:
    from edgekit.learning import Objective, Plan, cross_entropy
    from edgekit.training.loop import Loop
    from tests.worlds.teachable import dense_lessons, dense_network

    network, kept = dense_network(), tmp_path / "checkpoint.npz"
    # Labels that mean nothing: what is learnt by heart makes the watched pictures worse.
    lessons = dense_lessons(noise=True)
    plan = Plan(epochs=30, rate=0.05, patience=3, smoothing=0.0)
    history = Loop(kept)(network, lessons, plan, Objective(cross_entropy(0.0)), stage="fine-tune")
    losses = [entry["monitor_loss"] for entry in history]
    assert len(history) < 30
    assert losses.index(min(losses)) == len(losses) - 4
    found = read_checkpoint(kept, ":fine-tune")
    assert found
    for variable, best in zip(network.state, found.best, strict=True):
        assert np.array_equal(variable.numpy(), best)


def test_steps_that_only_lead_away_leave_the_model_as_it_began() -> None:
    from edgekit.learning import Objective, Plan, cross_entropy
    from edgekit.training.loop import Loop
    from tests.worlds.teachable import dense_lessons, dense_network

    network, lessons, learn = dense_network(), dense_lessons(), Objective(cross_entropy(0.0))
    Loop()(network, lessons, Plan(epochs=10, rate=0.01, smoothing=0.0), learn, stage="fine-tune")
    learnt = [variable.numpy() for variable in network.state]
    history = Loop()(network, lessons, Plan(epochs=6, rate=0.9, patience=2, smoothing=0.0), learn, stage="fine-tune")
    assert len(history) == 2, "it went on for longer than it was to be patient"
    assert history[0]["monitor_loss_before"] < min(entry["monitor_loss"] for entry in history)
    for variable, before in zip(network.state, learnt, strict=True):
        assert np.array_equal(variable.numpy(), before)


def test_trained_weights_are_taught_in_small_steps_unless_somebody_says_otherwise(digits: Digits) -> None:
    assert Recipe().rate_from(trained=True) == 1e-4
    assert Recipe().rate_from(trained=False) == 5e-4
    assert Recipe(rate=0.01).rate_from(trained=True) == 0.01
    assert read_toml(digits.run.folder / "recipe.toml")["training"]["rate"] == OPTIONS["rate"]


def test_a_run_that_has_learnt_nothing_says_so_and_what_to_do(digits: Digits) -> None:
    assert digits.run.warnings == ()
    epochs = ({"epoch": 1.0, "loss": 0.62}, {"epoch": 2.0, "loss": 0.93})
    facts = {**digits.run.facts, "confusion": [[0, 1, 4], [1, 1, 9]]}
    spoilt = replace(digits.run, history={"fine-tune": epochs}, facts=facts)
    assert [words in text for words, text in zip(("smaller rate", "'1'"), spoilt.warnings, strict=True)] == [True] * 2
    assert sum("warning " in line for line in summary(spoilt)) == 2


def test_the_python_api_has_the_verbs() -> None:
    assert {"train", "compress"} <= set(edgekit.__all__)
    assert os.path.basename(edgekit.train.__code__.co_filename) == "training_run.py"


def test_pictures_of_28_pixels_are_grey_files(tmp_path: Path) -> None:
    import cv2

    picture = cv2.imread(str(next(digits_folder(tmp_path, 1).rglob("*.png"))), cv2.IMREAD_UNCHANGED)
    assert picture.shape == (28, 28)

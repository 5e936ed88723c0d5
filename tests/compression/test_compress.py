from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgekit import compress, convert, evaluate
from edgekit.cli import main
from edgekit.errors import DatasetError, RunExistsError, UsageError
from edgekit.runs import read_ranges_file, read_toml
from tests.training.test_folders import SPEC
from tests.worlds.photo_folders import crops_folder
from tests.worlds.small_nets import lessons_of, save, small_cnn, teach

PASSES = ("distil={teacher}:epochs=1", "qat=epochs=1")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Any:
    root = tmp_path_factory.mktemp("compress")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(root / "cache"))
        data = crops_folder(root / "data", 4, 16)
        lessons = lessons_of(data, SPEC, root / "cache")
        net = save(teach(small_cnn(4), lessons, 6), root / "net", SPEC, lessons.labels)
        yield root, data, net


def asked(world: Any) -> dict[str, Any]:
    _, data, net = world
    passes = [text.format(teacher=net) for text in PASSES]
    return {"data": data, "passes": passes, "preprocess": str(net.with_name("preprocess.json")), "augment": "none"}


@pytest.fixture(scope="module")
def whole(world: Any) -> Any:
    root, _, net = world
    return compress(net, out=root / "whole", **asked(world))


def test_a_recipe_runs_in_order_and_is_kept_beside_the_result(world: Any, whole: Any, tmp_path: Path) -> None:
    assert list(whole.history) == ["1 distil", "2 qat"]
    kept = read_toml(whole.folder / "recipe.toml")
    assert [entry["pass"] for entry in kept["pass"]] == ["distil", "qat"]
    assert kept["pass"][1]["epochs"] == 1 and kept["seed"] == 0 and "keras" in kept["versions"]
    assert read_ranges_file(whole.folder)
    assert not list(whole.folder.glob("stage*")) and not (whole.folder / "checkpoint.npz").exists()
    made = convert(whole.folder, out=tmp_path / "m.tflite")
    assert made.sidecar.parent == whole.facts["sha256"]
    assert made.sidecar.calibration["crops"] == 0
    assert made.sidecar.recipe["ranges"] == "trained"
    judged = evaluate(tmp_path / "m.tflite", whole.folder)
    assert judged.n == whole.held_out
    # `whole.top1` was judged by the network that rounds as the integers do.
    assert abs(judged.top1 - whole.top1) <= 1.5 / judged.n
    with pytest.raises(UsageError, match="trained on its ranges"):
        convert(whole.folder, out=tmp_path / "m.tflite", refine="round")


class Killed(Exception):
    """Stands for kill -9 between two passes."""


def test_a_killed_recipe_goes_on_where_it_was(world: Any, whole: Any) -> None:
    root, _, net = world

    def die(stage: str, done: int, total: int) -> None:
        if stage == "qat":
            raise Killed

    with pytest.raises(Killed):
        compress(net, out=root / "killed", progress=die, **asked(world))
    stages: list[str] = []
    done = compress(net, out=root / "killed", progress=lambda stage, *_: stages.append(stage), **asked(world))
    assert "distil" not in stages and "qat" in stages
    assert list(done.history) == ["1 distil", "2 qat"]
    assert done.facts["weights_sha256"] == whole.facts["weights_sha256"]


def test_what_was_asked_for_before_is_there_and_other_passes_are_refused(world: Any, whole: Any) -> None:
    root, _, net = world
    assert compress(net, out=root / "whole", **asked(world)).resumed
    with pytest.raises(RunExistsError, match=r"pass\[2\]\.epochs was 1, is 2"):
        other = {**asked(world), "passes": [asked(world)["passes"][0], "qat=epochs=2"]}
        compress(net, out=root / "whole", **other)


def test_a_folder_of_other_classes_is_refused_by_name(world: Any, tmp_path: Path) -> None:
    _, _, net = world
    labels = net.with_name("labels.txt")
    crops = crops_folder(tmp_path / "data", 2, 6)
    (crops / "zebra").mkdir()
    next(crops.rglob("*.png")).rename(crops / "zebra" / "a.png")
    with pytest.raises(DatasetError, match="folder 'zebra' is no class"):
        compress(net, out=tmp_path / "x", **{**asked(world), "data": crops, "labels": labels})
    with pytest.raises(DatasetError, match="has 3 classes, and the model 4"):
        compress(net, out=tmp_path / "y", **{**asked(world), "data": crops})


def test_the_command_line_reads_a_recipe_and_says_what_is_wrong(
    world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, data, net = world
    monkeypatch.chdir(tmp_path)
    bad = tmp_path / "bad.toml"
    bad.write_text('[[pass]]\nname = "qat"\nepoch = 1\n')
    words = ["compress", str(net), "--data", str(data), "-o", "out", "--preprocess", asked(world)["preprocess"]]
    assert main([*words, "--recipe", str(bad)]) == 1
    assert "bad.toml:3: 'epoch'" in capsys.readouterr().err
    assert main(words) == 2
    good = tmp_path / "good.toml"
    good.write_text('seed = 5\n[[pass]]\nname = "qat"\nepochs = 0\n')
    assert main([*words, "--recipe", str(good)]) == 0
    assert "runs/out written; next: edgekit convert runs/out" in capsys.readouterr().out
    assert read_toml(tmp_path / "runs" / "out" / "recipe.toml")["seed"] == 5

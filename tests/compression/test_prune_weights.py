"""Pass `prune=weights` on small nets, alone and with what may follow them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit import compress, convert
from edgekit.cli import main
from edgekit.compression.mending import MendingNetwork, zeros_of
from edgekit.compression.passes import parse_step, run_pass
from edgekit.compression.prune_weights import WAYS, SparseNetwork
from edgekit.compression.statistics import Statistics
from edgekit.errors import UsageError
from edgekit.keras_network import KerasNetwork
from edgekit.runs import read_json
from edgekit.training.loop import answers, compiled
from edgekit.zoo import load_keras
from edgekit_device.infer.flatbuffer import constant, read_model
from tests.training.test_folders import SPEC
from tests.worlds.taught_nets import TaughtNet, right, shop_of

PRUNED = ("stem", "point", "last", "scores")


def logits(model: Any, lessons: Any) -> Any:
    return answers(compiled(KerasNetwork(model, lessons.preprocess), lessons), lessons, lessons.train)


def zeros(model: Any) -> float:
    kernels = [model.get_layer(name).kernel.numpy() for name in PRUNED]
    return sum(int((kernel == 0).sum()) for kernel in kernels) / sum(kernel.size for kernel in kernels)


@pytest.mark.parametrize("by", WAYS)
@pytest.mark.parametrize("scope", ["layer", "global"])
def test_every_way_leaves_the_share_of_zeros_that_was_asked_for(
    world: TaughtNet, by: str, scope: str, tmp_path: Path
) -> None:
    step = parse_step(f"prune=weights:sparsity=0.6,by={by},scope={scope},epochs=0")
    done = run_pass(world.subject(), step, shop_of(world.lessons, tmp_path))
    assert zeros(done.model) == pytest.approx(0.6, abs=0.01)
    assert not (done.model.get_layer("deep").kernel.numpy() == 0).any()
    sizes = done.facts["pruned"]
    assert sizes["after"]["float_zip_bytes"] < 0.6 * sizes["before"]["float_zip_bytes"]


def test_zeros_grow_while_the_net_learns_and_never_come_back(world: TaughtNet, tmp_path: Path) -> None:
    seen: list[float] = []

    class Watched(SparseNetwork):
        def advance(self, step: int, total: int) -> None:
            super().advance(step, total)
            seen.append(np.mean([float((mask.numpy() == 0).mean()) for mask in self.masks.values()]))

    import edgekit.compression.prune_weights as room

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "SparseNetwork", Watched)
        step = parse_step("prune=weights:sparsity=0.75,epochs=6,rate=0.003,teacher=none")
        done = run_pass(world.subject(), step, shop_of(world.lessons, tmp_path))
    assert seen[0] < 0.1 and seen == sorted(seen) and len(set(seen)) > 4
    assert zeros(done.model) == pytest.approx(0.75, abs=0.01)
    assert right(done.model, world.lessons) > right(world.cnn, world.lessons) - 0.155


def test_statistics_follow_the_weights_so_that_less_is_lost(world: TaughtNet, tmp_path: Path) -> None:
    """Left as they were, they describe a net that is gone."""
    import edgekit.compression.prune_weights as room

    class AsTheyWere(Statistics):
        def measure(self, **words: Any) -> None:
            pass

    step, shop = parse_step("prune=weights:sparsity=0.6,epochs=0"), shop_of(world.lessons, tmp_path)
    whole = logits(world.subject().model, world.lessons)
    followed = logits(run_pass(world.subject(), step, shop).model, world.lessons)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "Statistics", AsTheyWere)
        left = logits(run_pass(world.subject(), step, shop).model, world.lessons)
    assert np.abs(followed - whole).mean() < np.abs(left - whole).mean()


def test_statistics_of_a_net_that_did_not_change_stay(world: TaughtNet) -> None:
    model = world.subject().model
    before = [values.numpy() for values in model.non_trainable_variables]
    statistics = Statistics(model, world.lessons)
    statistics.remember(pictures=64, seed=0)
    statistics.measure(pictures=64, seed=0)
    for old, new in zip(before, model.non_trainable_variables, strict=True):
        np.testing.assert_allclose(old, new.numpy(), rtol=1e-3, atol=1e-4)


def test_a_table_a_threshold_and_l1_are_other_ways_to_say_how_many(world: TaughtNet, tmp_path: Path) -> None:
    found = {}
    for words in ("table=1:0.3/2:0.5", "threshold=0.5", "threshold=0.1,scope=global"):
        step = parse_step(f"prune=weights:{words},epochs=2,teacher=none")
        found[words] = zeros(run_pass(world.subject(), step, shop_of(world.lessons, tmp_path)).model)
    assert found["table=1:0.3/2:0.5"] == pytest.approx(0.5, abs=0.01)
    assert 0.2 < found["threshold=0.5"] < 0.6 and found["threshold=0.1,scope=global"] > 0
    plain, pulled = (
        run_pass(
            world.subject(),
            parse_step(f"prune=weights:sparsity=0.3,l1={l1},epochs=2,rate=0.003,teacher=none"),
            shop_of(world.lessons, tmp_path),
        )
        for l1 in (0, 0.05)
    )
    sizes = [
        sum(float(np.abs(done.model.get_layer(n).kernel.numpy()).sum()) for n in PRUNED) for done in (plain, pulled)
    ]
    assert sizes[1] < 0.95 * sizes[0]


def test_what_l1_pulls_below_the_threshold_later_goes_as_well(world: TaughtNet, tmp_path: Path) -> None:
    found = {}
    for l1 in (0, 0.05):
        step = parse_step(f"prune=weights:threshold=0.02,scope=global,l1={l1},epochs=3,rate=0.003,teacher=none")
        found[l1] = zeros(run_pass(world.subject(), step, shop_of(world.lessons, tmp_path)).model)
    assert found[0.05] > 1.5 * found[0]


def test_curvature_is_half_the_mean_square_of_single_slopes_times_the_weight_squared(world: TaughtNet) -> None:
    """Against slopes of one picture at a time, by differences; a batch's mean slope would be another ranking."""
    import tensorflow as tf

    subject, lessons = world.subject(), replace(world.lessons, train=world.lessons.train[:6])
    step = parse_step("prune=weights:sparsity=0.5,by=curvature,pictures=6")
    network = SparseNetwork(subject.model, SPEC, step, lessons, 0)
    scores = network.scores()["last"]
    layer = subject.model.get_layer("last")
    kernel, bias = layer.get_weights()
    at = np.unravel_index(np.argsort(scores.ravel())[-3], scores.shape)

    def losses(moved: float) -> Any:
        changed = kernel.copy()
        changed[at] += moved
        layer.set_weights([changed, bias])
        logits = network.outputs(tf.constant(lessons.exact(lessons.train)), training=False)["logits"]
        return tf.nn.sparse_softmax_cross_entropy_with_logits(lessons.targets[lessons.train], logits).numpy()

    slopes = (losses(1e-2) - losses(-1e-2)) / 2e-2
    layer.set_weights([kernel, bias])
    assert scores[at] == pytest.approx(np.mean(slopes**2) * kernel[at] ** 2 / 2, rel=0.05)


def test_zeros_last_through_distilling_and_rounding_into_the_int8_file(
    world: TaughtNet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pruned, then in a run of its own distilled and rounded: nothing but the zeros themselves tells where they are."""
    made = compress(world.net, out=tmp_path / "a", **world.asked("prune=weights:sparsity=0.6,epochs=1"))
    before = zeros_of(load_keras(str(made.folder / "model.keras")))
    words = ["compress", str(made.folder), "--data", str(world.data), "-o", str(tmp_path / "b")]
    assert main([*words, "--pass", f"distil={world.net}:epochs=1", "--pass", "qat=epochs=1"]) == 0
    after = load_keras(str(tmp_path / "b" / "model.keras"))
    assert list(before) == list(PRUNED)
    for name, kept in before.items():
        assert np.array_equal(after.get_layer(name).kernel.numpy() != 0, kept), name
    for run in ("a", "b"):  # Rounded with feedback after calibration, and by trained ranges.
        data = convert(tmp_path / run, out=tmp_path / f"{run}.tflite").path.read_bytes()
        info = read_model(data, run)
        weights = [t for op in info.main.operators if op.name in ("CONV_2D", "FULLY_CONNECTED")
                   for t in [info.main.tensors[op.inputs[1]]]]  # fmt: skip
        share = np.mean(np.concatenate([np.frombuffer(constant(data, t), np.int8) for t in weights]) == 0)
        assert share >= 0.6 - 0.01
    capsys.readouterr()
    facts = (read_json(made.folder / "RUN.json") or {})["pruned"]
    assert facts["after"]["zeros"] > 0 and "no rung gets faster" in " ".join(facts["notes"])
    assert main(["compress", str(world.net), "--data", str(world.data), "--preprocess", world.asked()["preprocess"],
                 "-o", str(tmp_path / "c"), "--pass", "prune=weights:sparsity=0.6,epochs=0"]) == 0  # fmt: skip
    out = capsys.readouterr().out
    assert "weights are zero (60.0 %)" in out and "no rung gets faster" in out


def test_a_masked_net_answers_as_the_one_with_zeros_written_in(world: TaughtNet) -> None:
    import tensorflow as tf

    subject = world.subject()
    rng = np.random.default_rng(0)
    masks = {name: rng.random(subject.model.get_layer(name).kernel.shape) < 0.5 for name in PRUNED}
    network = MendingNetwork(subject.model, SPEC, masks)
    pixels = tf.constant(world.lessons.exact(world.lessons.train[:8]))
    masked = network.outputs(pixels, training=False)["logits"].numpy()
    network.settle_masks()
    written = MendingNetwork(subject.model, SPEC, {}).outputs(pixels, training=False)["logits"].numpy()
    assert np.abs(masked - written).max() < 1e-5


def test_channels_can_go_where_weights_have_gone(world: TaughtNet, tmp_path: Path) -> None:
    shop = shop_of(world.lessons, tmp_path)
    sparse = run_pass(world.subject(), parse_step("prune=weights:sparsity=0.5,epochs=0"), shop)
    done = run_pass(sparse, parse_step("prune=structured:macs=0.6,round=2,epochs=1"), shop)
    assert 0.2 < zeros(done.model) < 0.8


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prune=weights", "says how many: none is given"),
        ("prune=weights:macs=0.5", "prune has no argument 'macs'"),
        ("prune=weights:sparsity=1", "sparsity must lie between 0 and 1"),
        ("prune=weights:sparsity=0.5,threshold=0.1", "sparsity and threshold are given"),
        ("prune=weights:sparsity=0.5,initial=0.7", "zeros do not come back"),
        ("prune=weights:sparsity=0.5,by=magnitud", "not 'magnitud'; did you mean 'magnitude'"),
        ("prune=weights:threshold=0.5,by=random", "threshold is a size of weights"),
        ("prune=weights:table=2:0.5/9:0.7", "table names epoch 9 of epochs=5"),
        ("prune=weights:table=2:0.5/1:0.7", "must grow"),
        ("prune=weights:sparsity=0.5,begin=9,end=3", "begin must not be above end"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_step(text)

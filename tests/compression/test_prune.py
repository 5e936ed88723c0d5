"""Pass `prune=structured` on small nets, alone and with what may follow it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit import compress, convert, evaluate
from edgekit.cli import main
from edgekit.compression.channel_scores import WAYS, worth_of
from edgekit.compression.channels import find_channels
from edgekit.compression.choosing import total_cost
from edgekit.compression.kernel_times import predicted_ms
from edgekit.compression.passes import Subject, parse_step, run_pass
from edgekit.compression.rebuilding import rebuild
from edgekit.compression.recipes import read_pass_list
from edgekit.errors import PassError, UsageError
from edgekit.keras_network import KerasNetwork
from edgekit.runs import read_json
from edgekit.zoo import build
from edgekit.zoo.counts import macs, parameters
from tests.training.conftest import TINY
from tests.training.test_folders import SPEC
from tests.worlds.photo_folders import digits_folder
from tests.worlds.small_nets import GREY, dense_net, lessons_of, teach
from tests.worlds.taught_nets import TaughtNet, right, shop_of


@pytest.mark.parametrize("by", [way for way in WAYS if way != "bn"])
def test_every_way_meets_the_budget_and_the_net_still_knows_its_classes(
    world: TaughtNet, by: str, tmp_path: Path
) -> None:
    shop = shop_of(world.lessons, tmp_path)
    step = parse_step(f"prune=structured:macs=0.6,by={by},round=2,epochs=4,rate=0.003")
    done = run_pass(world.subject(), step, shop)
    assert macs(done.model) <= 0.6 * macs(world.cnn)
    lost = right(world.cnn, world.lessons) - right(done.model, world.lessons)
    assert lost < (0.4 if by == "random" else 0.1)
    assert done.facts["pruned"]["before"]["macs"] == macs(world.cnn)
    assert done.facts["pruned"]["after"]["parameters"] == parameters(done.model)
    # What came in is left as it was: somebody may want it as a teacher.
    assert macs(world.cnn) == done.facts["pruned"]["before"]["macs"]


def test_a_channel_that_does_nothing_goes_first_whatever_ranks_it(world: TaughtNet) -> None:
    """Dead by its weights, its scale, its activations and its part in the loss."""
    subject = world.subject()
    last = subject.model.get_layer("last")
    kernel, bias = last.get_weights()
    kernel[..., 5], bias[5] = 0, 0
    last.set_weights([kernel, bias])
    scores = subject.model.get_layer("scores")
    weights, offsets = scores.get_weights()
    weights[5] = 0
    scores.set_weights([weights, offsets])
    graph = find_channels(subject.model)
    group = next(group for group in graph.groups if group.name == "last")
    for by in ("taylor", "magnitude", "activation"):
        worth = worth_of(subject.model, graph, by, world.lessons, pictures=32, seed=0, progress=None)
        assert worth.channels[group.channels[5]] == 0 < worth.channels[group.channels].mean(), by
    net = build(TINY, classes=4, batch=None)
    norm = net.get_layer("head_bn")
    gamma, *others = norm.get_weights()
    gamma[7] = -1e-4
    norm.set_weights([gamma, *others])
    graph = find_channels(net)
    (head,) = (group for group in graph.groups if group.name == "head_conv")
    worth = worth_of(net, graph, "bn", world.lessons, pictures=0, seed=0, progress=None)
    assert int(np.argmin(worth.channels[head.channels])) == 7


def test_taylor_is_the_slope_of_a_gate(world: TaughtNet) -> None:
    """One channel scaled by 1 + h: the loss of each picture changes by h times what its gate says."""
    import tensorflow as tf

    subject = world.subject()
    graph = find_channels(subject.model)
    group = next(group for group in graph.groups if group.name == "last")
    lessons, at = world.lessons, world.lessons.train[:1]
    one = replace(lessons, train=at)
    worth = worth_of(subject.model, graph, "taylor", one, pictures=1, seed=0, progress=None)
    channel, step = int(np.argmax(worth.channels[group.channels])), 1e-2
    layer = subject.model.get_layer("scores")
    kernel, bias = layer.get_weights()

    def loss(factor: float) -> float:
        # The pooled channel is read by the scores alone: scaling its row is scaling the channel.
        changed = kernel.copy()
        changed[channel] *= factor
        layer.set_weights([changed, bias])
        network = KerasNetwork(subject.model, SPEC)
        logits = network.outputs(tf.constant(lessons.exact(at)), training=False)["logits"]
        return float(tf.nn.sparse_softmax_cross_entropy_with_logits(lessons.targets[at], logits)[0])

    slope = (loss(1 + step) - loss(1 - step)) / (2 * step)
    assert worth.channels[group.channels][channel] == pytest.approx(slope**2, rel=0.05)


def test_results_of_batchnorm_keep_their_moments_behind_a_cut(world: TaughtNet, tmp_path: Path) -> None:
    """A net that is taught with frozen statistics lives with those it has: what is left must go on meaning the same."""
    import keras

    import edgekit.compression.prune_structured as room

    cuts = []

    def seen(model: Any, graph: Any, cut: Any) -> Any:
        cuts.append((graph, cut))
        return rebuild(model, graph, cut)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "rebuild", seen)
        step = parse_step("prune=structured:macs=0.5,round=2,pictures=32,epochs=0,teacher=none")
        subject = world.subject()
        done = run_pass(subject, step, shop_of(world.lessons, tmp_path))
    ((graph, cut),) = cuts
    names = [op.name for op in graph.found if op.kind == "BatchNormalization"]
    pixels = world.lessons.changed(np.random.default_rng([1, 13]).permutation(world.lessons.train)[:32], 0)
    image = (np.asarray(pixels, np.float32) - np.array(SPEC.mean, np.float32)) / np.array(SPEC.std, np.float32)
    before, after = (
        keras.Model(model.input, [model.get_layer(name).output for name in names])(image)
        for model in (subject.model, done.model)
    )
    moved = 0.0
    for name, was, now in zip(names, before, after, strict=True):
        kept = cut.kept[graph.of[next(op.output for op in graph.found if op.name == name)]]
        was, now = np.asarray(was)[..., kept], np.asarray(now)
        moved = max(moved, float(np.abs(was - now).max()))
        np.testing.assert_allclose(now.mean((0, 1, 2)), was.mean((0, 1, 2)), atol=0.01)
        np.testing.assert_allclose(now.std((0, 1, 2)), was.std((0, 1, 2)), rtol=0.02)
    assert moved > 0.5


def test_what_a_score_is_held_against_is_a_choice_of_its_own(world: TaughtNet, tmp_path: Path) -> None:
    """Within one budget of multiply-adds, channels that cost predicted time go before those that only cost those."""
    found = {}
    for per in ("auto", "macs", "ms"):
        step = parse_step(f"prune=structured:macs=0.5,per={per},round=1,floor=0.1,epochs=0,teacher=none")
        found[per] = run_pass(world.subject(), step, shop_of(world.lessons, tmp_path / per)).model
        assert macs(found[per]) <= 0.5 * macs(world.cnn)
    ms = {per: total_cost(find_channels(model), predicted_ms) for per, model in found.items()}
    assert ms["ms"] < ms["macs"] == ms["auto"]
    with pytest.raises(UsageError, match=r"per must be one of auto, macs, bytes, ms, not 'mss'.*'ms'"):
        parse_step("prune=structured:macs=0.5,per=mss")


def test_several_steps_cut_less_each_time_and_a_killed_one_goes_on_behind_the_last(
    world: TaughtNet, tmp_path: Path
) -> None:
    kept: dict[str, Any] = {}
    shop = shop_of(world.lessons, tmp_path, keep=kept.__setitem__, kept=kept.get)
    step = parse_step("prune=structured:macs=0.5,round=2,floor=0.4,steps=2,epochs=2")
    done = run_pass(world.subject(), step, shop)
    assert list(kept) == ["1-cut", "1-taught", "2-cut"]
    assert macs(world.cnn) > macs(kept["1-cut"]) > macs(done.model)
    assert list(shop.history) == ["prune 1", "prune 2"]
    # The floor is a share of what was there before the first cut.
    for name, whole in (("stem", 16), ("last", 32)):
        assert done.model.get_layer(name).filters >= 0.4 * whole
    again = shop_of(world.lessons, tmp_path, keep=kept.__setitem__, kept=kept.get)
    run_pass(world.subject(), step, again)
    assert list(again.history) == ["prune 2"]


def test_a_pruned_run_is_an_ordinary_one(world: TaughtNet, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Pruned, taught by what it was, rounded; converted, judged."""
    passes = ("prune=structured:macs=0.6,round=2,epochs=1", f"distil={world.net}:epochs=1", "qat=epochs=1")
    made = compress(world.net, out=tmp_path / "all", **world.asked(*passes))
    assert list(made.history) == ["1 prune", "2 distil", "3 qat"]
    facts = read_json(made.folder / "RUN.json") or {}
    assert facts["pruned"]["after"]["macs"] <= 0.6 * facts["pruned"]["before"]["macs"]
    assert not list(made.folder.glob("stage*"))
    small, large = (
        convert(source, out=tmp_path / name, preprocess=stated)
        for source, name, stated in (
            (made.folder, "small.tflite", None),
            (world.net, "large.tflite", world.asked()["preprocess"]),
        )
    )
    assert small.path.stat().st_size < large.path.stat().st_size
    assert abs(evaluate(small.path, made.folder).top1 - (made.top1 or 0)) <= 1.5 / made.held_out
    words = ["compress", str(world.net), "--data", str(world.data), "--preprocess", str(world.asked()["preprocess"])]
    assert main([*words, "-o", str(tmp_path / "x"), "--pass", "prune=structured:macs=0.6,round=2,epochs=0"]) == 0
    out = capsys.readouterr().out
    assert "multiply-adds" in out and "bytes of int8 weights" in out
    assert max(len(line) for line in out.splitlines() if str(tmp_path) not in line) <= 80


def test_a_dense_net_loses_neurons(tmp_path: Path) -> None:
    lessons = lessons_of(digits_folder(tmp_path / "data", 20), GREY, tmp_path / "cache")
    model = teach(dense_net(), lessons, 12)
    before = right(model, lessons)
    shop = shop_of(lessons, tmp_path / "answers")
    done = run_pass(Subject(model, GREY, lessons.labels), parse_step("prune=structured:macs=0.5,epochs=5"), shop)
    assert done.model.get_layer("hidden").units == 64
    assert right(done.model, lessons) > before - 0.1


def test_scales_are_asked_of_a_net_without_batchnorm(tmp_path: Path, world: TaughtNet) -> None:
    shop = shop_of(world.lessons, tmp_path)
    with pytest.raises(PassError, match="'hidden' has no BatchNormalization"):
        run_pass(Subject(dense_net(4), GREY, world.lessons.labels), parse_step("prune=structured:macs=0.5,by=bn"), shop)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prune", "prune needs a kind: prune=structured:macs=0.5"),
        ("prune=structurd:macs=0.5", "prune knows no 'structurd'; did you mean 'structured'"),
        ("prune=structured", "says how small: none is given"),
        ("prune=structured:macs=0.5,bytes=0.5", "macs and bytes are given"),
        ("prune=structured:macs=-1", "macs must be positive"),
        ("prune=structured:macs=0.5,by=tailor", "by must be one of .*, not 'tailor'; did you mean 'taylor'"),
        ("prune=structured:macs=0.5,round=0", "round must be at least 1"),
        ("prune=structured:macs=0.5,floor=1", "floor must lie"),
        ("prune=structured:macs=0.5,what=both,by=bn", "need one ranking of all"),
        ("prune=structured:macs=0.5,epochs=-1", "epochs must not be negative"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_step(text)


def test_a_recipe_file_names_the_kind(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text('[[pass]]\nname = "prune"\nkind = "structured"\nmacs = 0.5\nteacher = "none"\n')
    assert read_pass_list(path).steps == (parse_step("prune=structured:macs=0.5,teacher=none"),)

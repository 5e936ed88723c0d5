"""How small, of what and in how many steps: the budgets of `prune=structured` through the whole pass."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgekit import compress
from edgekit.compression.channel_scores import _active, worth_of
from edgekit.compression.channels import find_channels
from edgekit.compression.choosing import int8_bytes, total_cost
from edgekit.compression.kernel_times import predicted_ms
from edgekit.compression.passes import Subject, parse_step, run_pass
from edgekit.errors import PassError, UsageError
from edgekit.runs import read_json
from edgekit.zoo import build
from edgekit.zoo.counts import macs
from tests.training.conftest import TINY
from tests.training.test_folders import SPEC
from tests.worlds.taught_nets import TaughtNet, shop_of


@pytest.mark.parametrize(("unit", "cost"), [("bytes", int8_bytes), ("ms", predicted_ms)])
def test_a_budget_of_bytes_or_predicted_time_is_met(world: TaughtNet, unit: str, cost: object, tmp_path: Path) -> None:
    shop = shop_of(world.lessons, tmp_path)
    # Single channels: where a kernel works in tiles of eight, one alone saves no time.
    for step in (1, 2):
        asked = parse_step(f"prune=structured:{unit}=0.6,round={step},epochs=0,teacher=none")
        done = run_pass(world.subject(), asked, shop)
        left, whole = (total_cost(find_channels(net), cost) for net in (done.model, world.cnn))  # type: ignore[arg-type]
        assert left <= 0.6 * whole


@pytest.mark.parametrize("what", ["blocks", "both"])
@pytest.mark.parametrize("by", ["taylor", "bn", "activation"])
def test_blocks_go_from_a_lite_net_whatever_ranks_them(world: TaughtNet, what: str, by: str, tmp_path: Path) -> None:
    net = build(TINY, classes=4, batch=None)
    graph = find_channels(net)
    assert graph.blocks
    share = 0.97 if what == "blocks" else 0.6
    step = parse_step(f"prune=structured:macs={share},what={what},by={by},spread=global,round=2,epochs=0,teacher=none")
    done = run_pass(Subject(net, SPEC, world.lessons.labels), step, shop_of(world.lessons, tmp_path))
    assert macs(done.model) <= share * macs(net)
    if what == "blocks":
        assert len(find_channels(done.model).blocks) < len(graph.blocks)
        assert {group.name: len(group.channels) for group in find_channels(done.model).groups}.items() <= {
            group.name: len(group.channels) for group in graph.groups
        }.items()


def test_every_step_has_its_part_of_the_epochs(world: TaughtNet, tmp_path: Path) -> None:
    for epochs, parts in ((2, {"prune 2": 1, "prune 3": 1}), (4, {"prune 1": 1, "prune 2": 1, "prune 3": 2})):
        shop = shop_of(world.lessons, tmp_path / str(epochs))
        step = parse_step(f"prune=structured:macs=0.7,round=2,steps=3,epochs={epochs},teacher=none,by=magnitude")
        run_pass(world.subject(), step, shop)
        assert {stage: len(entries) for stage, entries in shop.history.items()} == parts


def test_a_budget_that_a_later_step_cannot_meet_is_refused_before_anything_is_taught(
    world: TaughtNet, tmp_path: Path
) -> None:
    shop = shop_of(world.lessons, tmp_path)
    step = parse_step("prune=structured:macs=0.2,floor=0.6,round=2,steps=2,epochs=4")
    with pytest.raises(PassError, match=r"macs=0.2 cannot be met: .* still takes \d+ %"):
        run_pass(world.subject(), step, shop)
    assert not shop.history


def test_what_several_passes_took_away_is_told_against_the_net_they_began_with(
    world: TaughtNet, tmp_path: Path
) -> None:
    passes = ("prune=structured:macs=0.6,round=2,epochs=0,teacher=none", "cluster=values=8,epochs=1")
    made = compress(world.net, out=tmp_path / "both", **world.asked(*passes))
    facts = (read_json(made.folder / "RUN.json") or {})["pruned"]
    assert facts["kind"] == "structured+cluster"
    assert facts["before"]["macs"] == macs(world.cnn) and facts["after"]["macs"] <= 0.6 * macs(world.cnn)
    assert "each layer has at most 8 values" in facts["notes"][-1]
    with pytest.raises(UsageError, match="cluster goes last"):
        compress(world.net, out=tmp_path / "x", **world.asked("cluster=values=8,epochs=0", "qat=epochs=1"))


def test_pruned_then_rounded_in_training_without_a_teacher(world: TaughtNet, tmp_path: Path) -> None:
    passes = ("prune=structured:macs=0.6,round=2,epochs=1,teacher=none", "qat=epochs=1")
    made = compress(world.net, out=tmp_path / "two", **world.asked(*passes))
    assert list(made.history) == ["1 prune", "2 qat"]
    assert (made.folder / "ranges.json").is_file()


def test_a_net_whose_scores_a_convolution_makes_is_pruned_and_taught(world: TaughtNet, tmp_path: Path) -> None:
    """As MobileNet's: a 1x1 convolution over what is pooled, and a Reshape behind it."""
    import keras

    keras.utils.set_random_seed(5)
    layers = keras.layers
    image = keras.Input((32, 32, 3))
    x = layers.Conv2D(16, 3, 2, activation="relu", name="stem")(image)
    x = layers.Conv2D(16, 3, 2, activation="relu", name="next")(x)
    x = layers.Conv2D(4, 1, name="scores")(layers.GlobalAveragePooling2D(keepdims=True)(x))
    net = keras.Model(image, layers.Softmax()(layers.Reshape((4,))(x)))
    for by in ("taylor", "activation"):
        step = parse_step(f"prune=structured:macs=0.6,by={by},round=2,epochs=1,teacher=none")
        shop = shop_of(world.lessons, tmp_path / by)
        done = run_pass(Subject(net, SPEC, world.lessons.labels), step, shop)
        assert macs(done.model) <= 0.6 * macs(net) and done.model.output_shape == (None, 4)


def test_activity_asks_for_no_labels_and_taylor_says_that_it_does(world: TaughtNet, tmp_path: Path) -> None:
    unlabelled = replace(world.lessons, targets=np.full_like(world.lessons.targets, -1))
    graph = find_channels(world.cnn)
    known, unknown = (
        worth_of(world.cnn, graph, "activation", lessons, pictures=64, seed=0, progress=None).channels
        for lessons in (world.lessons, unlabelled)
    )
    np.testing.assert_allclose(known, unknown)
    shop = shop_of(unlabelled, tmp_path)
    with pytest.raises(PassError, match=r"by=taylor needs pictures with labels.*by=activation"):
        run_pass(world.subject(), parse_step("prune=structured:macs=0.5,epochs=0"), shop)


def test_a_channel_that_speaks_often_is_worth_more_than_one_that_shouts_once() -> None:
    """Twenty times as loud on one picture in many is inactive all the same."""
    import tensorflow as tf

    quiet = np.full((32, 4, 4, 2), 0.5, np.float32)
    quiet[..., 1] = 0
    quiet[0, 0, 0, 1] = 100
    share = _active(tf.constant(quiet)).numpy().mean(axis=0)
    assert share[0] == 1 and share[1] < 0.01

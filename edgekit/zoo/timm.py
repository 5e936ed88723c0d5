"""timm's config.json: which of two namesakes a file is, and how its photos were prepared.

``efficientnet_lite0`` and ``tf_efficientnet_lite0`` share every tensor name and shape. The first pads as PyTorch
does with epsilon 1e-5, the second as TensorFlow does with 1e-3; exchanging them costs accuracy silently. So nothing
is guessed: the config says, or the user does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgekit.errors import WeightsError, WeightsFormatError
from edgekit.zoo.variants import Variant, get_variant
from edgekit_device.contract.documents import Fields
from edgekit_device.contract.errors import FieldError
from edgekit_device.contract.preprocess import CROPS, INTERPOLATIONS, Preprocess

MAX_CONFIG_BYTES = 8 << 20
ARCHITECTURE = re.compile(r"(tf_)?efficientnet_lite([0-4])(\..*)?")
# Arguments of timm.create_model that leave the network as we build it at inference.
HARMLESS_ARGS = ("num_classes", "drop_rate", "drop_path_rate", "global_pool", "scriptable", "exportable")


@dataclass(frozen=True)
class TimmConfig:
    """What a config.json states.

    Attributes:
        architecture: timm's name, e.g. ``tf_efficientnet_lite0``.
        variant: Ours with timm's padding, epsilon and resolution.
        classes: Outputs, if stated.
        preprocess: How photos were prepared in training.
        labels: One per class, if stated.
    """

    architecture: str
    variant: Variant
    classes: int | None
    preprocess: Preprocess
    labels: tuple[str, ...] | None


def timm_variant(architecture: str) -> Variant:
    """Our variant for timm's name, with the padding and epsilon that the name stands for.

    Raises:
        WeightsError: It is not an EfficientNet-Lite.
    """
    match = ARCHITECTURE.fullmatch(architecture)
    if match is None:
        raise WeightsError(
            f"architecture '{architecture}' is not built here; "
            "use tf_efficientnet_lite0 to 4 or efficientnet_lite0 to 4"
        )
    ours = get_variant(f"efficientnet-lite{match[2]}")
    return ours if match[1] else replace(ours, padding="symmetric", bn_epsilon=1e-5)


def timm_preprocess(config: Mapping[str, Any]) -> Preprocess:
    """How photos were prepared, as the contract states it.

    timm's mean and std are fractions of 255; the contract's are pixel levels.

    Args:
        config: The parsed config.json; the values stand in ``pretrained_cfg``, in older files ``default_cfg`` or
            at the top.

    Raises:
        FieldError: A value is missing or not one that EdgeKit's preprocessing performs.
    """
    values = {**config}
    for key in ("default_cfg", "pretrained_cfg"):
        if isinstance(config.get(key), dict):
            values.update(config[key])
    fields = Fields("config.json", values)
    size = fields.numbers("input_size", limit=3)
    if len(size) != 3 or size[0] != 3 or any(side != int(side) or not 32 <= side <= 4096 for side in size[1:]):
        raise FieldError("config.json", "input_size", "must be [3, height, width] with sides of 32 to 4096")
    mean, std = fields.numbers("mean", limit=3), fields.numbers("std", limit=3)
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise FieldError("config.json", "mean", "and std need 3 values each, std positive")
    crop = fields.choice("crop_mode", CROPS) if "crop_mode" in values else "center"
    return Preprocess(
        color="RGB",
        height=int(size[1]),
        width=int(size[2]),
        crop=crop,
        crop_fraction=fields.number("crop_pct", low=0.01, high=1.0),
        interpolation=fields.choice("interpolation", INTERPOLATIONS),
        antialias=True,
        mean=tuple(255.0 * value for value in mean),
        std=tuple(255.0 * value for value in std),
    )


def read_timm_config(path: str | Path) -> TimmConfig:
    """Read the config.json that timm (or its hub) writes beside the weights.

    Raises:
        WeightsFormatError: Missing or not JSON.
        WeightsError: It states an architecture, or an argument of it, that is not built here.
        FieldError: The preprocessing is missing or cannot be performed.
    """
    config = _load(Path(path))
    architecture = config.get("architecture")
    if not isinstance(architecture, str):
        raise FieldError("config.json", "architecture", "is missing; state timm's name of the model")
    variant = _with_arguments(path, timm_variant(architecture), config.get("model_args"))
    preprocess = timm_preprocess(config)
    if preprocess.height != preprocess.width:
        raise FieldError("config.json", "input_size", "must be square for EfficientNet-Lite")
    classes = config.get("num_classes")
    if classes is not None and (not isinstance(classes, int) or isinstance(classes, bool) or classes < 1):
        raise FieldError("config.json", "num_classes", "must be a positive whole number")
    return TimmConfig(
        architecture=architecture,
        variant=replace(variant, resolution=preprocess.height),
        classes=classes,
        preprocess=preprocess,
        labels=_labels(config, classes),
    )


def _load(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_CONFIG_BYTES + 1)
        if len(data) > MAX_CONFIG_BYTES:
            raise WeightsFormatError(str(path), "is too large for a config.json")
        config = json.loads(data)
    except OSError as cause:
        raise WeightsFormatError(str(path), f"cannot be read ({cause.strerror})") from cause
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as cause:
        raise WeightsFormatError(str(path), f"is not JSON ({type(cause).__name__})") from cause
    if not isinstance(config, dict):
        raise WeightsFormatError(str(path), "is not a JSON object")
    return config


def _with_arguments(path: str | Path, variant: Variant, arguments: Any) -> Variant:
    """Honour what create_model was told, and refuse what would make another network."""
    for key, value in (arguments if isinstance(arguments, dict) else {}).items():
        if key == "bn_eps" and isinstance(value, float) and 0 < value < 1:
            variant = replace(variant, bn_epsilon=value)
        elif key == "pad_type" and value in ("", "same"):
            variant = replace(variant, padding="same" if value else "symmetric")
        elif key not in HARMLESS_ARGS:
            raise WeightsError(f"{path}: model_args {key}={value!r} makes a network that is not built here")
    return variant


def _labels(config: dict[str, Any], classes: int | None) -> tuple[str, ...] | None:
    """``label_names``, when it is one text for each class (a hub config may hold placeholders)."""
    labels = config.get("label_names")
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        return None
    return tuple(labels) if classes is None or len(labels) == classes else None

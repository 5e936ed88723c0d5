"""A process that forks a child for each order about runtimes: strace sees the order and no import.

The same protocol as `tests.worlds.installer_process`. With ``"quick"`` an environment that was made before is copied in
place of venv and pip, so that every call of our own can be struck in little time.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edgekit_device.contract.errors import EdgeKitError
from edgekit_device.runtimes import building, launcher, slots
from tests.worlds.installer_process import DONE, NAMED, UNNAMED, serve


def obey(order: dict[str, str]) -> int:
    """Do what is asked for."""
    home, keys = Path(order["root"]), [Path(order["key"])]
    if order.get("quick"):
        made_quick(Path(order["quick"]))
    verbs: dict[str, Callable[[], object]] = {
        "install": lambda: slots.install(home, Path(order["bundle"]), keys),
        "rollback": lambda: slots.rollback(home),
        "start": lambda: launcher.prepare(home),
        "commit": lambda: launcher.change(home, order["name"], state=launcher.COMMITTED, attempts=0),
        "reject": lambda: launcher.reject(home, order["name"], "struck"),
    }
    try:
        verbs[order["verb"]]()
    except EdgeKitError:
        return NAMED
    except OSError:
        # What a launcher or a running service meets is an OSError that both handle.
        return NAMED if order["verb"] in ("commit", "reject") else UNNAMED
    except BaseException:
        return UNNAMED
    return DONE


def made_quick(few: Path) -> None:
    """From now on an environment is a copy of `few`."""

    def step(name: str, command: Sequence[str], folder: Path, lock: int, limit_s: float) -> None:
        if "venv" in command:
            shutil.copytree(few, folder / "venv", symlinks=True)

    def prove(*_: Any) -> str:
        return ""

    building._step = step
    building.prove = slots.prove = prove  # type: ignore[assignment]


if __name__ == "__main__":
    warm = json.loads(os.environ["WARM"])
    serve(obey, warm)

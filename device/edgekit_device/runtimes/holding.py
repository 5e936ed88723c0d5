"""The runtime releases that a board holds: how they lie on the disk, and how to read that; nothing here writes.

HOME/launch                              a copy of `edgekit_device.runtimes.launcher`
HOME/runtimes/<id>/venv                  an environment, at the place that it was made for
HOME/runtimes/<id>/release.json          what it was made of; written last, so that a release without is none
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekit_device.releases import ROOT
from edgekit_device.runtimes import launcher

LAUNCH, MARK = "launch", "release.json"


def held(home: Path = ROOT) -> tuple[str, ...]:
    """Every whole release, the one entered last first."""
    folder, journal = home / launcher.FOLDER, launcher.read_journal(home)["releases"]
    names = [entry.name for entry in folder.iterdir() if (entry / MARK).is_file()] if folder.is_dir() else []
    return tuple(sorted(names, key=lambda name: (-journal.get(name, {}).get("entered", 0), name)))


def standing(home: Path = ROOT) -> dict[str, Any]:
    """What should run, what is held and what became of each, for `status` and `reported`; read only.

    Returns:
        ``wanted`` (None is the runtime that flash made), ``back`` (what a failed trial ends in), ``held`` (by id: the
        version of edgekit-device in it), ``verdicts`` (by id: state, attempts, reason, at).
    """
    journal, wish, names = launcher.read_journal(home), launcher.wanted(home), held(home)
    return {
        "wanted": wish or None,
        "back": launcher.trusted(journal, wish, names.__contains__) or None,
        "held": {name: mark_of(home, name).get("device") for name in names},
        "verdicts": {
            name: {key: record.get(key) for key in ("state", "attempts", "reason", "at", "sha256")}
            for name, record in journal["releases"].items()
        },
    }


def mark_of(home: Path, name: str) -> Mapping[str, Any]:
    """What a release was made of: ``sha256``, ``device``, ``epoch``, ``key_id``; empty where it is not whole."""
    try:
        found = json.loads((home / launcher.FOLDER / name / MARK).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}

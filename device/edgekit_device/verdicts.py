"""What became of each release that this board was given: one small file, replaced whole.

    ROOT/trials.json   {"schema": 1, "releases": {"lite0-1.1.0": {"state": "committed", "sha256": ..., ...}}}

A release without a verdict is on trial. A rejected one is remembered longer than it is held, so that it is not tried
again. A file that is damaged counts as empty: every release is then tried again, and the one before serves meanwhile.
Whoever writes holds the lock of `edgekit_device.slots`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edgekit_device.disk import REAL_DISK, Disk, replace_file
from edgekit_device.releases import Slot, current, entered, previous, slot_of

NAME = "trials.json"
PENDING, COMMITTED, REJECTED = "pending", "committed", "rejected"
MAX_ATTEMPTS = 3
_MAX_BYTES = 1 << 20
_REMEMBERED = 32
_MAX_REASON = 400


@dataclass(frozen=True)
class Verdict:
    """What is known of one release.

    Attributes:
        sha256: Of the bundle; the verdict is about these bytes.
        state: ``pending``, ``committed`` or ``rejected``.
        attempts: Trials that were begun and not ended.
        reason: Why it was rejected.
        forced: Somebody insisted: being slower or larger is no reason to reject it.
        world: What its golden vectors were last proved with.
        at: When the state was reached, UTC.
    """

    sha256: str = ""
    state: str = PENDING
    attempts: int = 0
    reason: str | None = None
    forced: bool = False
    world: Mapping[str, str] = field(default_factory=dict)
    at: str | None = None


def read_verdicts(root: Path) -> dict[str, Verdict]:
    """Every verdict, oldest first; none where the file is missing or damaged."""
    try:
        with (root / NAME).open("rb") as file:
            document = json.loads(file.read(_MAX_BYTES))
        return {name: _parse(values) for name, values in document["releases"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def verdict_of(root: Path, bundle_id: str, sha256: str = "") -> Verdict:
    """The verdict on one release; ``pending`` without one, or when it was about other bytes."""
    found = read_verdicts(root).get(bundle_id)
    return found if found and (not sha256 or found.sha256 == sha256) else Verdict(sha256)


def keep_verdict(root: Path, bundle_id: str, verdict: Verdict, disk: Disk = REAL_DISK) -> None:
    """Write one verdict durably.

    Raises:
        OSError: The disk refuses; the file is as it was.
    """
    known = read_verdicts(root)
    known.pop(bundle_id, None)
    known[bundle_id] = verdict
    held = entered(root)
    gone = [name for name, old in known.items() if name not in held and name != bundle_id]
    spare = [name for name in gone if known[name].state != REJECTED]
    for name in [*spare, *[name for name in gone if name not in spare][:-_REMEMBERED]]:
        del known[name]
    document = {"schema": 1, "releases": {name: asdict(value) for name, value in known.items()}}
    replace_file(root / NAME, (json.dumps(document) + "\n").encode(), disk=disk)


def trusted(root: Path) -> Slot | None:
    """The release to serve while the current one is on trial, and to go back to.

    That is the committed one that was entered last; where none is, what was current before, if that was not rejected.

    Raises:
        DanglingSlotError: ``current`` names a release that is gone.
    """
    serving, verdicts, held = current(root), read_verdicts(root), entered(root)
    name = serving.bundle_id if serving else None
    known = [n for n in held if n != name and n in verdicts and verdicts[n].state == COMMITTED]
    if known:
        return slot_of(root, max(known, key=lambda n: (held[n], n)))
    before = previous(root)
    if before is None or (before.bundle_id in verdicts and verdicts[before.bundle_id].state == REJECTED):
        return None
    return before


def _parse(values: Mapping[str, Any]) -> Verdict:
    state = values["state"]
    if state not in (PENDING, COMMITTED, REJECTED):
        raise ValueError(state)
    reason = values.get("reason")
    return Verdict(
        sha256=str(values["sha256"]),
        state=state,
        attempts=max(0, int(values.get("attempts", 0))),
        reason=None if reason is None else str(reason)[:_MAX_REASON],
        forced=values.get("forced") is True,
        world={str(name): str(word) for name, word in dict(values.get("world") or {}).items()},
        at=None if values.get("at") is None else str(values["at"]),
    )

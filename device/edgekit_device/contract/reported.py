"""What a board says about itself when asked: which bundle runs, how it is, and what of `desired` it follows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from edgekit_device.contract.desired import (
    INTERVAL_S,
    Region,
    read_bundle,
    read_region,
    read_thresholds,
    read_word,
)
from edgekit_device.contract.documents import SCHEMA, Fields, dump, load
from edgekit_device.contract.errors import FieldError

HEALTH = ("starting", "serving", "trouble")
# In the order in which an update passes them; the last three are ends.
UPDATE_STATES = ("waiting", "fetching", "verifying", "trying", "committed", "rolled_back", "refused")
_BOOT = re.compile(r"[0-9a-f]{32}", re.ASCII)
_MAX_REFUSED = 64


@dataclass(frozen=True)
class Update:
    """How far a board is with what `desired` asks for.

    Attributes:
        bundle: ``NAME-VERSION`` that it is about: of a bundle, or of a runtime release.
        state: ``waiting`` (for the window, the jitter, room, a clock or the host), ``fetching``, ``verifying``,
            ``trying``; then ``committed``, ``rolled_back`` (it was tried, the one before serves again) or ``refused``
            (it was never tried).
        progress: Share of the bytes that are here, 0 to 1; None before that is known.
        reason: In words: why it waits, was refused or rolled back.
        error: Name of the error's class where there is one, such as ``RollbackAttackError``.
        force: The word of `desired` that it answers.
    """

    bundle: str
    state: str
    progress: float | None = None
    reason: str | None = None
    error: str | None = None
    force: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {**self.extra, **{f.name: getattr(self, f.name) for f in fields(self) if f.name != "extra"}}

    @classmethod
    def from_fields(cls, read: Fields) -> Update:
        """Read one.

        Raises:
            FieldError: A field is missing, mistyped or out of range.
        """
        bundle = read_bundle(read)
        if bundle is None:
            raise FieldError(read.name, "bundle", "is missing")
        known = {f.name for f in fields(cls)}
        return cls(
            bundle=bundle,
            state=read.choice("state", UPDATE_STATES),
            progress=read.number_or_none("progress", low=0.0, high=1.0),
            reason=read.text_or_none("reason", limit=4096),
            error=read.text_or_none("error", limit=128),
            force=read_word(read, "force"),
            extra={key: value for key, value in read.values.items() if key not in known},
        )


@dataclass(frozen=True)
class Reported:
    """What runs; retained, and sent again when something in it changes.

    Attributes:
        boot: This start of the supervisor.
        bundle: ``NAME-VERSION`` that runs.
        health: ``starting`` until the first rung serves, ``serving``, or ``trouble`` with `reason`.
        interval_s: Seconds between Readings, without what a watcher asked for.
        thresholds: In force; None where the board's own stand.
        region: In force; None is the whole frame.
        refused: What of `desired` is not followed, key by key, and why.
        update: The last update of the bundle that was asked for; None while none was.
        runtime: ``NAME-VERSION`` of the runtime release that runs; None where it is not one.
        runtime_update: The same as `update` for a runtime release.
        kind: Of hardware, such as ``pi5`` or ``x86-64``; None where it is not known.
    """

    boot: str
    bundle: str | None
    health: str
    reason: str | None
    interval_s: float
    thresholds: Mapping[str, Any] | None = None
    region: Region | None = None
    refused: Mapping[str, str] = field(default_factory=dict)
    update: Update | None = None
    runtime: str | None = None
    runtime_update: Update | None = None
    kind: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """The MQTT payload."""
        known = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "extra"}
        for key in ("update", "runtime_update"):
            known[key] = None if known[key] is None else known[key].to_json()
        return dump({**self.extra, "schema": SCHEMA, **known, "refused": dict(self.refused)})

    @classmethod
    def from_bytes(cls, data: bytes) -> Reported:
        """Read a payload.

        Raises:
            FieldError: A field is missing, mistyped or out of range.
            SchemaError: A schema this version does not read.
        """
        values = load("reported", data)
        read = Fields("reported", values)
        boot = read.text("boot")
        if not _BOOT.fullmatch(boot):
            raise FieldError("reported", "boot", "must be 32 hex digits")
        known = {"schema", *(f.name for f in fields(cls))}
        return cls(
            boot=boot,
            bundle=read_bundle(read),
            health=read.choice("health", HEALTH),
            reason=read.text_or_none("reason", limit=4096),
            interval_s=read.number("interval_s", low=INTERVAL_S[0], high=INTERVAL_S[1]),
            thresholds=read_thresholds(read),
            region=read_region(read),
            refused=_refused(read),
            update=_update(read, "update"),
            runtime=read_bundle(read, "runtime"),
            runtime_update=_update(read, "runtime_update"),
            kind=read_word(read, "kind"),
            extra={key: value for key, value in values.items() if key not in known},
        )


def _update(read: Fields, key: str) -> Update | None:
    if read.values.get(key) is None:
        return None
    return Update.from_fields(Fields(f"{read.name}.{key}", read.mapping(key)))


def _refused(read: Fields) -> dict[str, str]:
    found = read.mapping("refused")
    if len(found) > _MAX_REFUSED:
        raise FieldError(read.name, "refused", f"has more than {_MAX_REFUSED} entries")
    inner = Fields(f"{read.name}.refused", found)
    return {key: inner.text(key) for key in found}

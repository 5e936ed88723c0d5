"""What a board says about itself when asked: which bundle runs, how it is, and what of `desired` it follows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from edgekit_device.contract.desired import INTERVAL_S, Region, read_bundle, read_region, read_thresholds
from edgekit_device.contract.documents import SCHEMA, Fields, dump, load
from edgekit_device.contract.errors import FieldError

HEALTH = ("starting", "serving", "trouble")
_BOOT = re.compile(r"[0-9a-f]{32}", re.ASCII)
_MAX_REFUSED = 64


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
    """

    boot: str
    bundle: str | None
    health: str
    reason: str | None
    interval_s: float
    thresholds: Mapping[str, Any] | None = None
    region: Region | None = None
    refused: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """The MQTT payload."""
        known = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "extra"}
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
            extra={key: value for key, value in values.items() if key not in known},
        )


def _refused(read: Fields) -> dict[str, str]:
    found = read.mapping("refused")
    if len(found) > _MAX_REFUSED:
        raise FieldError(read.name, "refused", f"has more than {_MAX_REFUSED} entries")
    inner = Fields(f"{read.name}.refused", found)
    return {key: inner.text(key) for key in found}

"""Whether a host and a board of different versions may work together: one table of rules, decided purely.

Documented in docs/guide/versions.md. Versions are those of `edgekit` and `edgekit-device`, which are released together;
the schema is that of the documents between them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgekit_device.contract.documents import SCHEMA

GO, WARN, UPDATE, REFUSE = "go", "warn", "update", "refuse"


@dataclass(frozen=True)
class Advice:
    """What a host should do with a board.

    Attributes:
        action: ``go``; ``warn`` (go on and say why); ``update`` (bring the host's runtime first); ``refuse``.
        reason: In words, with the remedy; None for ``go``.
    """

    action: str
    reason: str | None = None


def numbers(version: str) -> tuple[int, int, int]:
    """The first three numbers of a version: a development version of 1.2.0 counts as 1.2.0, and 1.2 as 1.2.0."""
    found = [int(number[:18]) for number in re.findall(r"[0-9]+", version[:64])[:3]]
    major, minor, patch = (*found, 0, 0, 0)[:3]
    return major, minor, patch


def _step(version: tuple[int, int, int]) -> tuple[int, ...]:
    """What may not be newer on the board: the first number, and before 1.0 the second one, too."""
    return version[:1] if version[0] else version[:2]


def advise(
    host: str,
    board: str | None,
    requires: Mapping[str, Any] | None = None,
    *,
    host_schema: int = SCHEMA,
    board_schema: int | None = None,
) -> Advice:
    """Decide what a host of one version does with a board of another.

    Args:
        host: Version of `edgekit`, and so of the runtime that it carries.
        board: Version of `edgekit-device` on the board; None where there is none.
        requires: A bundle's ``requires``, when one is to go there: ``runtime`` and ``schema``.
        host_schema: The contract's schema that the host speaks.
        board_schema: The one that the board speaks; the host's by default.
    """
    needed = requires or {}
    least, least_schema = needed.get("runtime"), needed.get("schema")
    here, there = numbers(host), None if board is None else numbers(board)
    spoken = host_schema if board_schema is None else board_schema
    kept = there is not None and (there > here or spoken > host_schema)
    if kept and (spoken > host_schema or _step(there or here) > _step(here)):
        return Advice(
            REFUSE,
            f"the board runs edgekit-device {board} (schema {spoken}), and edgekit {host} (schema {host_schema}) does"
            " not know it; upgrade this host: pip install --upgrade edgekit",
        )
    runs = there if kept and there is not None else here  # What the bundle will run on in the end.
    if (least is not None and numbers(least) > runs) or (least_schema is not None and least_schema > host_schema):
        return Advice(
            REFUSE,
            f"the bundle requires edgekit-device {least or 'of a newer schema'} (schema {least_schema or host_schema}) "
            f"and edgekit {host} carries none such; upgrade this host: pip install --upgrade edgekit",
        )
    if there is None:
        return Advice(UPDATE, f"the board has no runtime; edgekit-device {host} is installed")
    if spoken < host_schema:
        return Advice(UPDATE, f"the board speaks schema {spoken}, this host {host_schema}; its runtime becomes {host}")
    if there < here:
        return Advice(UPDATE, f"the board runs edgekit-device {board}, older than this host; it becomes {host}")
    if there > here:
        return Advice(
            WARN,
            f"the board runs edgekit-device {board}, newer than edgekit {host}; it stays as it is. To have both alike: "
            "pip install --upgrade edgekit",
        )
    return Advice(GO)

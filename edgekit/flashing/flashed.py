"""How a flash is asked for, and what became of it on each board."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgekit.errors import EdgeKitError
from edgekit.flashing.login import Ask
from edgekit.flashing.plans import Membership
from edgekit.flashing.steps import Step
from edgekit.flashing.targets import Target

Report = Callable[[str, str, float], None]
"""Told how a board is getting on: (target, what it does now, share that is done)."""


@dataclass(frozen=True)
class Flashed:
    """What a flash did, or with dry_run would do.

    Attributes:
        target: Where it went.
        bundle_id: ``NAME-VERSION`` that is current there now; empty after a removal.
        changes: Each change in words; empty when the target was already so.
        dry_run: Whether nothing was written.
        notes: Facts and reasons.
        warnings: Worth saying.
        outcome: What the board says now, e.g. ``29.8 FPS on xnnpack``.
        error: Why it failed; None where it did not.
        seconds: How long it took.
    """

    target: Target
    bundle_id: str
    changes: tuple[str, ...]
    dry_run: bool
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    outcome: str = ""
    error: EdgeKitError | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class Options:
    """How to flash.

    Attributes:
        dry_run: Write nothing.
        remove: Take everything away instead.
        on_step: Called before each step, and for each step of a dry run.
        report: Told how each board is getting on.
        ask: Asks a person for a password; None where nobody can be asked.
        ssh_config: In place of ~/.ssh/config.
        known_hosts: Where host keys are pinned; ``~/.config/edgekit/known_hosts`` by default.
        leaves: The fleet that revokes a board whose everything is taken away.
    """

    dry_run: bool = False
    remove: bool = False
    on_step: Callable[[str, Step], None] = lambda target, step: None
    report: Report = lambda target, words, share: None
    ask: Ask = lambda question: None
    ssh_config: str | None = None
    known_hosts: Path | None = None
    leaves: Membership | None = None

"""The verb `flash`: check on the host, list the steps, take them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgekit.errors import TargetUnavailableError
from edgekit.flashing.steps import Step, bundle_steps, folder_steps, key_steps, proof_steps, settings_steps
from edgekit.flashing.targets import FolderTarget, parse_target
from edgekit_device.bundle import open_bundle, user_public_key
from edgekit_device.contract.errors import NoTrustedKeyError


@dataclass(frozen=True)
class Flashed:
    """What a flash did, or with dry_run would do.

    Attributes:
        target: Where it went.
        bundle_id: ``NAME-VERSION`` that is current there now.
        changes: Each change in words; empty when the target was already so.
        dry_run: Whether nothing was written.
    """

    target: FolderTarget
    bundle_id: str
    changes: tuple[str, ...]
    dry_run: bool


def plan(
    bundle: Path, target: FolderTarget, settings: Mapping[str, object], public_key: Path
) -> tuple[str, list[Step]]:
    """Check everything that can be checked beforehand and list what has to change.

    Returns:
        (bundle id, steps in order).

    Raises:
        BundleError: The bundle is not as signed, or not signed with public_key.
        SettingsError: A setting is wrong.
        SlotConflictError: The target holds another bundle under this name and version.
    """
    opened, data = open_bundle(bundle, [public_key])
    install = bundle_steps(target, bundle, opened, data, public_key)
    steps = [
        *(proof_steps(opened, data) if install else ()),
        *folder_steps(target),
        *key_steps(target, public_key),
        *settings_steps(target, settings),
        *install,
    ]
    return opened.manifest.bundle_id, steps


def flash(
    bundle: str | Path,
    target: str | FolderTarget,
    *,
    settings: Mapping[str, object] | None = None,
    public_key: Path | None = None,
    dry_run: bool = False,
    on_step: Callable[[Step], None] | None = None,
) -> Flashed:
    """Put a bundle, its public key and the board's settings on a target.

    Interrupted anywhere, the target serves the old release or the new one, and flashing again ends where this
    should have. Flashing twice changes nothing the second time.

    Args:
        bundle: The ``.edgekit`` file, its signature beside it.
        target: ``dir:PATH``.
        settings: Keys of `DeviceSettings`; what is not named here stays as the board has it.
        public_key: Key that signed the bundle; the user's own by default.
        dry_run: Write nothing.
        on_step: Called before each step, and for each step of a dry run.

    Raises:
        TargetError: The target is not understood or not available.
        NoTrustedKeyError: There is no public key.
        BundleError: The bundle is not as signed.
        SelfTestError: Its golden photos are not reproduced; nothing was written.
        SlotError: The target's disk refuses, or another install runs there.
    """
    where = parse_target(target) if isinstance(target, str) else target
    if not isinstance(where, FolderTarget):
        raise TargetUnavailableError(where.name, "flashing over SSH is not available yet")
    key = public_key or user_public_key()
    if not key.is_file():
        raise NoTrustedKeyError([str(key)])
    bundle_id, steps = plan(Path(bundle), where, settings or {}, key)
    for step in steps:
        if on_step:
            on_step(step)
        if not dry_run:
            step.apply()
    return Flashed(where, bundle_id, tuple(step.describe for step in steps), dry_run)

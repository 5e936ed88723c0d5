"""The verb `flash`: boards side by side, one result each."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from edgekit.errors import EdgeKitError
from edgekit.event_loop import run_to_end
from edgekit.flashing import libedgetpu
from edgekit.flashing.device_wheel import device_wheel
from edgekit.flashing.errors import UnexpectedError
from edgekit.flashing.flashed import Flashed, Options
from edgekit.flashing.flight import Flight
from edgekit.flashing.hostkeys import HostKeys, known_hosts_path
from edgekit.flashing.login import Secrets
from edgekit.flashing.naming import config_folder
from edgekit.flashing.plans import Membership, Wanted
from edgekit.flashing.steps import Step
from edgekit.flashing.targets import Target, parse_target
from edgekit.flashing.wheelhouse import load_packaging, read_wheel
from edgekit.inputs import existing
from edgekit_device.bundle import open_bundle, user_public_key
from edgekit_device.contract.errors import NoTrustedKeyError

# A login costs a process here and one there; twenty at once is what sshd takes by default without dropping some.
AT_ONCE = 20


def prepare(
    bundle: str | Path,
    *,
    settings: Mapping[str, object] | None = None,
    public_key: Path | None = None,
    fleet: Membership | None = None,
    wheels: Path | None = None,
    package: Path | None = None,
    wait_s: float = 300.0,
) -> Wanted:
    """Check on this machine everything that can be checked before a board is asked.

    Raises:
        UsageError: There is no such bundle.
        NoTrustedKeyError: There is no public key.
        BundleError: The bundle is not as signed.
        LibraryError: The libedgetpu package is none.
    """
    bundle, key = existing(bundle), public_key or user_public_key()
    if not key.is_file():
        raise NoTrustedKeyError([str(key)])
    opened, data = open_bundle(bundle, [key])
    found = None
    if wheels is not None:
        load_packaging()
        found = [read_wheel(path) for path in sorted(wheels.rglob("*.whl"))]
    library = libedgetpu.read_package(package) if package is not None else None
    return Wanted(bundle, opened, data, key, settings or {}, fleet, found, library, wait_s)


def flash(
    bundle: str | Path,
    target: str | Target,
    *,
    settings: Mapping[str, object] | None = None,
    public_key: Path | None = None,
    dry_run: bool = False,
    on_step: Callable[[Step], None] | None = None,
) -> Flashed:
    """Put a bundle, its public key and the board's settings on one target.

    Interrupted anywhere, the target serves the old release or the new one, and flashing again ends where this
    should have. Flashing twice changes nothing the second time.

    Args:
        bundle: The ``.edgekit`` file, its signature beside it.
        target: ``dir:PATH`` or ``ssh://user@host``.
        settings: Keys of `DeviceSettings`; what is not named here stays as the board has it.
        public_key: Key that signed the bundle; the user's own by default.
        dry_run: Write nothing.
        on_step: Called before each step, and for each step of a dry run.

    Raises:
        EdgeKitError: Named by its class.
    """
    where = parse_target(target) if isinstance(target, str) else target
    wanted = prepare(bundle, settings=settings, public_key=public_key)
    tell = on_step or (lambda step: None)
    options = Options(dry_run=dry_run, on_step=lambda _, step: tell(step))
    (done,) = flash_all(wanted, [where], options)
    if done.error is not None:
        raise done.error
    return done


def flash_all(wanted: Wanted | None, targets: Sequence[Target], options: Options) -> list[Flashed]:
    """Flash boards side by side; one that fails stops no other.

    Args:
        wanted: What they get; None with `Options.remove`.
        targets: Where to.
        options: How.

    Returns:
        One result a target, in their order; failures are in `Flashed.error`.
    """
    return run_to_end(_flash_all(wanted, targets, options))


async def _flash_all(wanted: Wanted | None, targets: Sequence[Target], options: Options) -> list[Flashed]:
    keys = HostKeys(options.known_hosts or known_hosts_path(config_folder()))
    lock, gate = asyncio.Lock(), asyncio.Semaphore(AT_ONCE)
    with tempfile.TemporaryDirectory(prefix="edgekit-flash-") as folder:
        device = None if wanted is None else device_wheel()
        if device is not None:
            (Path(folder) / device.file_name).write_bytes(device.data)

        async def one(target: Target) -> Flashed:
            began = time.monotonic()
            async with gate:
                flight = Flight(target, wanted, options, device, Path(folder))
                try:
                    done = await flight.fly(keys, Secrets(options.ask, lock=lock))
                except Exception as cause:
                    if not isinstance(cause, EdgeKitError) and os.environ.get("EDGEKIT_DEBUG"):
                        raise
                    # A fault of ours on one board is no reason to leave the others alone.
                    words = f"{type(cause).__name__}: {cause}"
                    error = cause if isinstance(cause, EdgeKitError) else UnexpectedError(target.name, words)
                    options.report(target.name, "failed", 1.0)
                    name = wanted.bundle.manifest.bundle_id if wanted else ""
                    done = Flashed(target, name, tuple(flight.done), options.dry_run, error=error)
            return replace(done, seconds=time.monotonic() - began)

        return list(await asyncio.gather(*(one(target) for target in targets)))

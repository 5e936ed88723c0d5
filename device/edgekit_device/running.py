"""From the words of `edgekit-device run` to a supervisor that runs."""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit_device import __version__, slots
from edgekit_device.bundle import open_bundle, trusted_keys
from edgekit_device.contract.errors import UsageError
from edgekit_device.contract.telemetry import Status
from edgekit_device.ground import Ground
from edgekit_device.health.sampler import HealthPlaces
from edgekit_device.housekeeping import Housekeeping
from edgekit_device.judging import parse_rules
from edgekit_device.ladder import Ladder
from edgekit_device.model_wheels import installed_model
from edgekit_device.notify import Notifier
from edgekit_device.preview_address import preview_address
from edgekit_device.run_plan import RunPlan
from edgekit_device.runtimes.following import RuntimeWatch
from edgekit_device.settings import DeviceSettings, load_settings
from edgekit_device.sources import check_source, is_device
from edgekit_device.sources.frame import SourceOptions
from edgekit_device.status_file import candidates, writable_place
from edgekit_device.supervisor import Supervisor, new_boot
from edgekit_device.updates import first_release

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgekit_device.preview_address import PreviewAddress
    from edgekit_device.publish.outlet import Outlet

BOARD_KEYS = "/etc/edgekit/keys"
_TERMINAL_INTERVAL_S = 1.0
_MOST_THREADS = 4


def board_path(root: Path, place: str) -> Path:
    """A place on the board, below the folder that stands for its root."""
    return root / place.lstrip("/")


def find_bundle(args: argparse.Namespace) -> tuple[Path, tuple[Path, ...]]:
    """The bundle to run and the keys that it is checked with.

    Returns:
        (bundle file, public key files).

    Raises:
        UsageError: Neither --bundle nor an installed release.
        NoTrustedKeyError: No public key is known.
    """
    root = Path(args.root)
    named = Path(args.pubkey) if args.pubkey else None
    if args.bundle and not Path(args.bundle).exists() and "/" not in args.bundle and "." not in args.bundle:
        path, own = installed_model(args.bundle)
        return path, trusted_keys(named) if named else own
    if args.bundle:
        return Path(args.bundle), trusted_keys(named, board_keys=board_path(root, BOARD_KEYS))
    slot = slots.recover(board_path(root, "/opt/edgekit"))
    if slot is not None:
        return slot.bundle_path, trusted_keys(named, board_keys=board_path(root, BOARD_KEYS))
    if args.root != "/":
        raise UsageError(
            f"nothing is installed under {board_path(root, '/opt/edgekit')}; flash a bundle: "
            f"edgekit flash BUNDLE dir:{root}"
        )
    path, own = installed_model()
    return path, trusted_keys(named) if named else own


def ground_for(args: argparse.Namespace) -> Ground | None:
    """The releases that a run follows; None for a bundle that is run by hand, and where nothing is installed.

    Raises:
        NoTrustedKeyError: No public key is known.
        SlotError: The releases cannot be read.
    """
    rules, place = parse_rules(args.trial or ""), board_path(Path(args.root), "/opt/edgekit")
    if args.bundle or slots.recover(place) is None:
        return None
    named = Path(args.pubkey) if args.pubkey else None
    return Ground(place, trusted_keys(named, board_keys=board_path(Path(args.root), BOARD_KEYS)), rules)


def settings_for(args: argparse.Namespace) -> DeviceSettings:
    """Flag, then environment, then device.toml, then default."""
    flags = {
        "site": args.site,
        "id": args.id,
        "broker": args.broker,
        "interval_s": args.interval,
        "source": args.source,
        "delegate": args.delegate,
        "threads": args.threads,
        "mode": args.mode,
        "preview": args.preview,
        "pictures": args.pictures or None,
    }
    toml = None if args.bundle else board_path(Path(args.root), "/etc/edgekit/device.toml")
    settings = load_settings(toml, os.environ, flags)
    if args.interval is None and (args.json or settings.broker is None):
        return replace(settings, interval_s=_TERMINAL_INTERVAL_S)
    return settings


def secrets_of(source: str, preview: PreviewAddress | None, environ: Mapping[str, str]) -> tuple[str, ...]:
    """What this run knows and nobody else should: a camera's password, the preview's token."""
    named = [environ.get(name, "") for name in re.findall(r"\$\{(\w+)\}", source)]
    token = preview.token if preview is not None else None
    return tuple(secret for secret in (*named, token) if secret)


def default_threads() -> int:
    """As many interpreter threads as this process may use cores, at most four: a Pi has four."""
    return min(_MOST_THREADS, len(os.sched_getaffinity(0)))


def outlets_for(
    settings: DeviceSettings,
    boot: str,
    bundle_id: str,
    *,
    as_json: bool,
    outbox: Path | None = None,
    home_assistant: str | None = None,
    root: Path = Path("/"),
) -> list[Outlet]:
    """The publishers that the settings ask for, each imported when it is chosen.

    Args:
        settings: Where to publish, and as whom.
        boot: This start.
        bundle_id: What runs.
        as_json: Readings as lines of JSON instead of words.
        outbox: Folder for what nobody has stored yet; None keeps that in memory.
        home_assistant: ``announce`` or ``remove`` this board there; None does neither.
        root: Folder that stands for the board's ``/``: its identity lies below it.
    """
    found: list[Outlet] = []
    if as_json:
        from edgekit_device.publish.jsonl import JsonLines

        found.append(JsonLines())
    else:
        from edgekit_device.publish.console import Console

        found.append(Console())
    if settings.broker:
        from edgekit_device.publish.broker_url import parse_broker_url
        from edgekit_device.publish.home_assistant import discovery, removal
        from edgekit_device.publish.mqtt import Mqtt
        from edgekit_device.publish.options import MqttOptions
        from edgekit_device.renewing import member_access

        shown = {
            "announce": discovery(settings.site, settings.id, __version__),
            "remove": removal(settings.site, settings.id),
        }
        address = parse_broker_url(settings.broker)
        access = member_access(root, settings.site, settings.id, address, _say)
        options = MqttOptions(outbox=outbox, home_assistant=shown.get(home_assistant or ""), access=access)
        will = Status("offline", boot, bundle_id, None, "connection_lost").to_bytes()
        found.append(Mqtt(address, settings.site, settings.id, will, options))
    return found


def state_folder(args: argparse.Namespace) -> Path:
    """Where a run keeps what it found out: the board's own place, or the user's for a bundle run by hand."""
    if args.bundle:
        home = os.environ.get("XDG_STATE_HOME")
        return (Path(home) if home else Path.home() / ".local" / "state") / "edgekit"
    return board_path(Path(args.root), "/var/lib/edgekit")


def housekeeping_for(args: argparse.Namespace, plan: RunPlan) -> Housekeeping:
    """Health, systemd and the status file of one run.

    A run of a file by hand (--bundle) never writes over what the board's own service says.
    """
    places = candidates(Path(args.root))
    path = writable_place(places[2:] if args.bundle else places)
    return Housekeeping(HealthPlaces(plan.state_dir), Notifier.from_environment(), path)


def run(args: argparse.Namespace) -> int:
    """Run until told to stop.

    Returns:
        Exit code.

    Raises:
        EdgeKitError: Anything that keeps the run from starting, named.
    """
    settings = settings_for(args)
    options = SourceOptions(
        loop=args.loop, realtime=args.realtime, roi=args.roi, faults=tuple(args.fault), epoch_s=time.monotonic()
    )
    check_source(settings.source, options)
    preview = preview_address(settings.preview, os.environ) if settings.preview else None
    ground = ground_for(args)
    start = first_release(ground, _say) if ground else None
    if start is not None:
        bundle, data, path = start.bundle, start.data, Path(start.path)
    else:
        path, keys = find_bundle(args)
        bundle, data = open_bundle(path, keys)
    ladder = Ladder.for_choice(settings.delegate, bundle.manifest.models)
    boot = new_boot()
    plan = RunPlan(
        bundle=bundle,
        bundle_data=data,
        bundle_path=str(path),
        source=settings.source,
        options=options,
        threads=settings.threads or 0,
        most_threads=default_threads(),
        mode=settings.mode,
        site=settings.site,
        device=settings.id,
        interval_s=settings.interval_s,
        seconds=args.seconds,
        endless=is_device(settings.source),
        state_dir=state_folder(args),
        preview=preview,
        ground=ground,
        runtime=RuntimeWatch.from_environment(
            board_path(Path(args.root), "/opt/edgekit"), publishes=bool(settings.broker), now_s=time.monotonic()
        ),
        root=Path(args.root),
        updates=settings.updates,
        pictures=settings.pictures,
        secrets=secrets_of(settings.source, preview, os.environ),
    )
    if preview:
        _say(f"preview at {preview.url}")
    outlets = outlets_for(
        settings,
        boot,
        bundle.manifest.bundle_id,
        as_json=args.json,
        # A file that is tried by hand keeps nothing for later; a board does.
        outbox=None if args.bundle else plan.state_dir,
        home_assistant=args.home_assistant,
        root=Path(args.root),
    )
    if args.results:
        from edgekit_device.publish.results import results_outlet

        outlets.append(results_outlet(args.results))
    supervisor = Supervisor(plan, ladder, outlets, boot, _say, housekeeping_for(args, plan))
    # Another release may be taken up: this one's bytes are the supervisor's to forget.
    del start, bundle, data, plan

    def stop(signum: int, frame: object) -> None:
        supervisor.stopping = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    try:
        return supervisor.run()
    except BrokenPipeError:
        # The reader of our lines has gone (`| head`); that is no failure, and nothing can be said any more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _say(text: str) -> None:
    sys.stderr.write(f"edgekit-device: {text}\n")
    sys.stderr.flush()

"""From the words of `edgekit-device run` to a supervisor that runs."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit_device import slots
from edgekit_device.bundle import open_bundle, trusted_keys
from edgekit_device.contract.errors import UsageError
from edgekit_device.contract.telemetry import Status
from edgekit_device.ladder import Ladder
from edgekit_device.settings import DeviceSettings, load_settings
from edgekit_device.sources import split_source
from edgekit_device.sources.frame import SourceOptions
from edgekit_device.supervisor import RunPlan, Supervisor, new_boot

if TYPE_CHECKING:
    from edgekit_device.publish.outlet import Outlet

# Sources that are a device: when one is missing, the run waits for it instead of ending.
DEVICES = frozenset({"auto", "camera", "picamera", "rtsp", "synthetic", "sample"})
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
    keys = trusted_keys(Path(args.pubkey) if args.pubkey else None, board_keys=board_path(root, "/etc/edgekit/keys"))
    if args.bundle:
        return Path(args.bundle), keys
    slot = slots.recover(board_path(root, "/opt/edgekit"))
    if slot is None:
        raise UsageError(
            f"nothing is installed under {board_path(root, '/opt/edgekit')}; name a bundle with --bundle FILE, or "
            f"flash one: edgekit flash BUNDLE dir:{root}"
        )
    return slot.bundle_path, keys


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
    }
    toml = None if args.bundle else board_path(Path(args.root), "/etc/edgekit/device.toml")
    settings = load_settings(toml, os.environ, flags)
    if args.interval is None and (args.json or settings.broker is None):
        return replace(settings, interval_s=_TERMINAL_INTERVAL_S)
    return settings


def default_threads() -> int:
    """As many interpreter threads as this process may use cores, at most four: a Pi has four."""
    return min(_MOST_THREADS, len(os.sched_getaffinity(0)))


def outlets_for(settings: DeviceSettings, boot: str, bundle_id: str, *, as_json: bool) -> list[Outlet]:
    """The publishers that the settings ask for, each imported when it is chosen."""
    found: list[Outlet] = []
    if as_json:
        from edgekit_device.publish.jsonl import JsonLines

        found.append(JsonLines())
    else:
        from edgekit_device.publish.console import Console

        found.append(Console())
    if settings.broker:
        from edgekit_device.publish.broker_url import parse_broker_url
        from edgekit_device.publish.mqtt import Mqtt

        will = Status("offline", boot, bundle_id, None, "connection_lost").to_bytes()
        found.append(Mqtt(parse_broker_url(settings.broker), settings.site, settings.id, will))
    return found


def run(args: argparse.Namespace) -> int:
    """Run until told to stop.

    Returns:
        Exit code.

    Raises:
        EdgeKitError: Anything that keeps the run from starting, named.
    """
    settings = settings_for(args)
    kind, _ = split_source(settings.source)
    ladder = Ladder.for_choice(settings.delegate)
    path, keys = find_bundle(args)
    bundle, data = open_bundle(path, keys)
    boot = new_boot()
    plan = RunPlan(
        bundle=bundle,
        bundle_data=data,
        bundle_path=str(path),
        source=settings.source,
        options=SourceOptions(loop=args.loop, realtime=args.realtime, faults=tuple(args.fault)),
        threads=settings.threads or default_threads(),
        site=settings.site,
        device=settings.id,
        interval_s=settings.interval_s,
        seconds=args.seconds,
        endless=kind in DEVICES,
        state_dir=board_path(Path(args.root), "/var/lib/edgekit"),
    )
    outlets = outlets_for(settings, boot, bundle.manifest.bundle_id, as_json=args.json)
    supervisor = Supervisor(plan, ladder, outlets, boot, _say)

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

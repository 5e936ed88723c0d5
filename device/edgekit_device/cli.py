"""The command `edgekit-device`: argparse, so that a board needs one package less."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import TYPE_CHECKING

from edgekit_device import __version__
from edgekit_device.contract.errors import EdgeKitError
from edgekit_device.ladder import CHOICES

if TYPE_CHECKING:
    from collections.abc import Sequence


def parser() -> argparse.ArgumentParser:
    """The words that the command knows."""
    top = argparse.ArgumentParser(
        prog="edgekit-device", description="Classify camera frames with a signed bundle and report FPS."
    )
    top.add_argument("--version", action="version", version=f"edgekit-device {__version__}")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    _add_run(verbs.add_parser("run", help="classify frames and report FPS", description="Run a bundle."))
    return top


def _add_run(run: argparse.ArgumentParser) -> None:
    which = run.add_mutually_exclusive_group()
    which.add_argument("--bundle", metavar="FILE", help="run this bundle; its .minisig lies beside it")
    which.add_argument("--root", default="/", metavar="DIR", help="run what is installed below DIR (default /)")
    run.add_argument("--pubkey", metavar="FILE", help="trust this public key instead of the board's or your own")
    run.add_argument(
        "--source", metavar="SOURCE", help="synthetic | sample | video:FILE | images:DIR (default: device.toml)"
    )
    run.add_argument("--loop", action="store_true", help="start again at the end of a file")
    run.add_argument("--realtime", action="store_true", help="play a file at its own pace, as a camera would")
    run.add_argument("--fault", action="append", default=[], metavar="KIND@START", help="break the source on purpose")
    run.add_argument("--delegate", choices=CHOICES, help="which kernels serve (default auto: the fastest proved)")
    run.add_argument("--threads", type=int, metavar="N", help="interpreter threads (default: one a core, at most 4)")
    run.add_argument("--mode", choices=("throughput", "latency"), help=argparse.SUPPRESS)
    run.add_argument("--broker", metavar="URL", help="publish by MQTT 5, e.g. mqtt://127.0.0.1:1883")
    run.add_argument("--site", metavar="S", help="site id (default home)")
    run.add_argument("--id", metavar="ID", help="device id (default: the host name)")
    run.add_argument("--interval", type=float, metavar="S", help="seconds between Readings (30; 1 on a terminal)")
    run.add_argument("--seconds", type=float, metavar="N", help="stop after N seconds")
    run.add_argument("--json", action="store_true", help="print one Reading a line and nothing else")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point.

    Returns:
        Exit code: 0 done, 1 failed, 2 usage, 3 a gate said no.
    """
    args = parser().parse_args(argv)
    try:
        from edgekit_device.running import run

        return run(args)
    except EdgeKitError as error:
        if os.environ.get("EDGEKIT_DEBUG"):
            raise
        if getattr(args, "json", False):
            print(json.dumps({"error": type(error).__name__, "message": str(error)}))
        sys.stderr.write(f"edgekit-device: {error}\n")
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())

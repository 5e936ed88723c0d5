"""The command `edgekit-device`: argparse, so that a board needs one package less."""

from __future__ import annotations

import argparse
import json
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING

from edgekit_device import __version__
from edgekit_device.contract.errors import EdgeKitError
from edgekit_device.ladder import CHOICES

if TYPE_CHECKING:
    from collections.abc import Sequence

# Imported when asked for: `--help` and `status` load as little as they need.
VERBS = {
    "run": "edgekit_device.running:run",
    "doctor": "edgekit_device.diagnosis.verbs:doctor",
    "status": "edgekit_device.diagnosis.verbs:status",
    "check": "edgekit_device.diagnosis.verbs:check",
    "bench": "edgekit_device.benching.verb:bench",
    "capture": "edgekit_device.collecting:capture",
    "install": "edgekit_device.installing:install",
    "rollback": "edgekit_device.installing:rollback",
    "enroll": "edgekit_device.enrolling:enroll",
}
_SOURCES = "auto | camera:N | picamera | rtsp:URL | video:FILE | images:DIR | sample | synthetic"


def parser() -> argparse.ArgumentParser:
    """The words that the command knows."""
    top = argparse.ArgumentParser(
        prog="edgekit-device", description="Classify camera frames with a signed bundle and report FPS."
    )
    top.add_argument("--version", action="version", version=f"edgekit-device {__version__}")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    _add_run(verbs.add_parser("run", help="classify frames and report FPS", description="Run a bundle."))
    _add_doctor(verbs.add_parser("doctor", help="what is wrong, and the command that mends it"))
    _add_status(verbs.add_parser("status", help="what the running service says, and what is installed"))
    _add_check(verbs.add_parser("check", help="prove the model on every delegate, each in a process of its own"))
    _add_bench(verbs.add_parser("bench", help="how fast this board is, by delegate and threads"))
    _add_capture(verbs.add_parser("capture", help="keep diverse pictures of this camera, for calibration and training"))
    _add_install(verbs.add_parser("install", help="take a model or a runtime: check it, prove it, make it current"))
    _add_rollback(verbs.add_parser("rollback", help="go back to the release that served before"))
    _add_enroll(verbs.add_parser("enroll", help="become a member of a fleet with a one-time token"))
    return top


def _add_enroll(enroll: argparse.ArgumentParser) -> None:
    enroll.add_argument("token", nargs="?", metavar="FILE", help="the token's file (default: standard input)")
    enroll.add_argument("--ask", metavar="HOST", help="without a token: ask to join; somebody admits this board there")
    enroll.add_argument("--site", metavar="S", help="with --ask: site id (default: device.toml, else home)")
    enroll.add_argument("--id", metavar="ID", help="with --ask: device id (default: device.toml, else the host name)")
    enroll.add_argument("--pin", metavar="HEX", help="with --ask: the fleet's authority, as the Enrol page shows it")
    enroll.add_argument("--root", default="/", metavar="DIR", help="the board below DIR (default /)")
    enroll.add_argument("--json", action="store_true", help="print one object")


def _add_doctor(doctor: argparse.ArgumentParser) -> None:
    doctor.add_argument("--root", default="/", metavar="DIR", help="look below DIR (default /)")
    doctor.add_argument("--broker", metavar="URL", help="try this broker instead of the one in device.toml")
    doctor.add_argument("--json", action="store_true", help="print one object")


def _add_status(status: argparse.ArgumentParser) -> None:
    status.add_argument("--root", default="/", metavar="DIR", help="look below DIR (default /)")
    status.add_argument("--json", action="store_true", help="print one object")


def _add_install(install: argparse.ArgumentParser) -> None:
    install.add_argument("bundle", metavar="FILE", help="a bundle or a runtime release; its .minisig lies beside it")
    install.add_argument("--within", type=float, metavar="S", help="how long a runtime's trial may take (300 s)")
    _add_slots(install)


def _add_rollback(rollback: argparse.ArgumentParser) -> None:
    rollback.add_argument("--runtime", action="store_true", help="the runtime, and not the model")
    _add_slots(rollback)


def _add_slots(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--root", default="/", metavar="DIR", help="the releases below DIR (default /)")
    verb.add_argument("--force", action="store_true", help="also one that was rejected here, or is slower or larger")
    verb.add_argument("--pubkey", metavar="FILE", help="trust this public key instead of the board's or your own")
    verb.add_argument("--json", action="store_true", help="print one object")


def _add_check(check: argparse.ArgumentParser) -> None:
    which = check.add_mutually_exclusive_group()
    which.add_argument("--bundle", metavar="FILE", help="check this bundle; its .minisig lies beside it")
    which.add_argument("--root", default="/", metavar="DIR", help="check what is installed below DIR (default /)")
    check.add_argument("--pubkey", metavar="FILE", help="trust this public key instead of the board's or your own")
    check.add_argument("--delegate", choices=CHOICES, help="one rung only (default auto: all of them)")
    check.add_argument("--threads", type=int, metavar="N", help="interpreter threads (default: one a core, at most 4)")
    check.add_argument("--json", action="store_true", help="print one object")


def _add_bench(bench: argparse.ArgumentParser) -> None:
    which = bench.add_mutually_exclusive_group()
    which.add_argument("--bundle", metavar="FILE", help="measure this bundle file, or an installed model by its name")
    which.add_argument("--root", default="/", metavar="DIR", help="measure what is installed below DIR (default /)")
    bench.add_argument("--pubkey", metavar="FILE", help="trust this public key instead of the board's or your own")
    bench.add_argument("--source", metavar="SOURCE", help=f"{_SOURCES} (default: golden photos from memory)")
    bench.add_argument("--realtime", action="store_true", help="play a file at its own pace, as a camera would")
    bench.add_argument("--delegate", choices=CHOICES, help="one rung only (default auto: all of them)")
    bench.add_argument("--threads", type=int, metavar="N", help="this many threads only (default: every layout)")
    bench.add_argument("--seconds", type=float, default=5.0, metavar="S", help="load each row for S seconds (5)")
    bench.add_argument("--no-litert", action="store_true", help="leave out LiteRT's own benchmark tool")
    bench.add_argument("--json", action="store_true", help="print one object")


def _add_capture(capture: argparse.ArgumentParser) -> None:
    capture.add_argument("--source", default="auto", metavar="SOURCE", help=f"{_SOURCES} (default auto)")
    capture.add_argument("--roi", metavar="X,Y,W,H", help="keep this region only; pixels, or shares of the frame")
    capture.add_argument("--realtime", action="store_true", help="play a file at its own pace, as a camera would")
    capture.add_argument("--fault", action="append", default=[], metavar="KIND@START", help=argparse.SUPPRESS)
    capture.add_argument("-o", dest="out", required=True, metavar="DIR", help="where to; an earlier run is continued")
    capture.add_argument("--count", type=int, default=100, metavar="N", help="pictures to keep (default 100)")
    capture.add_argument("--budget-mb", type=float, default=100.0, metavar="MB", help="most that DIR may hold (100)")
    capture.add_argument("--every", type=float, metavar="S", help="also keep one after S seconds without any")
    capture.add_argument("--seconds", type=float, metavar="N", help="stop after N seconds")
    capture.add_argument("--bundle", metavar="FILE", help="also keep what this bundle's model is unsure of")
    capture.add_argument("--pubkey", metavar="FILE", help="trust this public key instead of the board's or your own")
    capture.add_argument("--root", default="/", help=argparse.SUPPRESS)
    capture.add_argument("--json", action="store_true", help="print one object")


def _add_run(run: argparse.ArgumentParser) -> None:
    which = run.add_mutually_exclusive_group()
    which.add_argument("--bundle", metavar="FILE", help="run this bundle file, or an installed model by its name")
    which.add_argument("--root", default="/", metavar="DIR", help="run what is installed below DIR (default /)")
    run.add_argument("--pubkey", metavar="FILE", help="trust this public key instead of the board's or your own")
    run.add_argument("--source", metavar="SOURCE", help=f"{_SOURCES} (default: device.toml, else auto)")
    run.add_argument("--roi", metavar="X,Y,W,H", help="look at this region only; pixels, or shares of the frame")
    run.add_argument("--loop", action="store_true", help="start again at the end of a file")
    run.add_argument("--realtime", action="store_true", help="play a file at its own pace, as a camera would")
    run.add_argument("--fault", action="append", default=[], metavar="KIND@START", help="break the source on purpose")
    run.add_argument("--delegate", choices=CHOICES, help="which kernels serve (default auto: the fastest proved)")
    run.add_argument("--threads", type=int, metavar="N", help="interpreter threads (default: one a core, at most 4)")
    run.add_argument(
        "--mode",
        choices=("throughput", "latency"),
        help="most frames with the fewest threads (default), or each frame's result as soon as can be",
    )
    run.add_argument("--broker", metavar="URL", help="publish by MQTT 5, e.g. mqtt://127.0.0.1:1883")
    run.add_argument("--site", metavar="S", help="site id (default home)")
    run.add_argument("--id", metavar="ID", help="device id (default: the host name)")
    run.add_argument("--interval", type=float, metavar="S", help="seconds between Readings (30; 1 on a terminal)")
    run.add_argument("--seconds", type=float, metavar="N", help="stop after N seconds")
    run.add_argument("--trial", metavar="NAME=VALUE,...", help="limits of an update's trial, e.g. window_s=45")
    run.add_argument("--preview", metavar="HOST:PORT", help="serve a page with the live picture, e.g. 127.0.0.1:8088")
    run.add_argument("--pictures", action="store_true", help="the fleet's operators may ask for a picture (default no)")
    run.add_argument(
        "--home-assistant",
        nargs="?",
        const="announce",
        choices=("announce", "remove"),
        help="show this board in Home Assistant; 'remove' takes it away again",
    )
    run.add_argument("--results", metavar="WHERE", help="each decision on change: stdout or unix:PATH")
    run.add_argument("--json", action="store_true", help="print one Reading a line and nothing else")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point.

    Returns:
        Exit code: 0 done, 1 failed, 2 usage, 3 a gate said no.
    """
    args = parser().parse_args(argv)
    try:
        module, _, name = VERBS[args.verb].partition(":")
        return int(getattr(import_module(module), name)(args))
    except EdgeKitError as error:
        if os.environ.get("EDGEKIT_DEBUG"):
            raise
        if getattr(args, "json", False):
            print(json.dumps({"error": type(error).__name__, "message": str(error)}))
        sys.stderr.write(f"edgekit-device: {error}\n")
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())

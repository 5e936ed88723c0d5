"""The command `edgekit`: one module a verb; nothing heavy is imported before a verb runs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence

import typer

from edgekit import __version__
from edgekit.cli import (
    bench,
    bundle,
    capture,
    compress,
    convert,
    demo,
    devices,
    doctor,
    evaluate,
    flash,
    fleet,
    inspect,
    keys,
    models,
    report,
    sdcard,
    train,
    verify,
    wheels,
)
from edgekit.errors import EdgeKitError

# rich would be imported for prettier help: 60 ms and a package more for `--help`.
app = typer.Typer(
    name="edgekit",
    help="From EfficientNet-Lite weights to a watched fleet: convert, verify, bundle, flash, run, monitor.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command(help=demo.HELP)(demo.demo)
app.command(help=models.HELP)(models.models)
app.command(help=train.HELP)(train.train)
app.command(help=compress.HELP)(compress.compress)
app.command(help=convert.HELP)(convert.convert)
app.command(help=verify.HELP)(verify.verify)
app.command(help=evaluate.HELP)(evaluate.evaluate)
app.command(help=bench.HELP)(bench.bench)
app.command(help=report.HELP)(report.report)
app.command(help=inspect.HELP)(inspect.inspect)
app.add_typer(keys.app, name="keys", help=keys.HELP)
app.command(help=bundle.HELP)(bundle.bundle)
app.command(help=flash.HELP)(flash.flash)
app.command(help=sdcard.HELP)(sdcard.sdcard)
app.command(help=devices.HELP)(devices.devices)
app.command(help=capture.HELP)(capture.capture)
app.add_typer(wheels.app, name="wheels", help=wheels.HELP)
app.add_typer(doctor.app, name="doctor", help=doctor.HELP)
app.add_typer(fleet.app, name="fleet", help=fleet.HELP)


@app.callback(invoke_without_command=True)
def _top(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    if version:
        typer.echo(f"edgekit {__version__}")
        raise typer.Exit


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point.

    Returns:
        Exit code: 0 done, 1 failed, 2 usage, 3 a gate said no.
    """
    words = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    try:
        code = app(words, prog_name="edgekit", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except EdgeKitError as error:
        if os.environ.get("EDGEKIT_DEBUG"):
            raise
        _say(words, type(error).__name__, str(error))
        return error.exit_code
    except typer.TyperException as error:
        _say(words, "UsageError", f"{error.format_message()} (see: edgekit --help)")
        return 2
    except (typer.Abort, KeyboardInterrupt):
        sys.stderr.write("\nedgekit: stopped\n")
        return 130


def _say(words: Sequence[str], kind: str, message: str) -> None:
    """One line on stderr; with --json also one object on stdout."""
    if "--json" in words:
        sys.stdout.write(json.dumps({"error": kind, "message": message}) + "\n")
    sys.stderr.write(f"edgekit: {message}\n")


def run() -> None:
    """The console script."""
    sys.exit(main())

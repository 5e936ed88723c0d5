"""`edgekit demo`."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgekit.cli.terminal import megabytes, percent, print_json, progress_bar

if TYPE_CHECKING:
    from edgekit.demonstration import DemoResult
    from edgekit.fleet.snapshot import FleetSnapshot

HELP = "The whole line on this machine: ImageNet weights to int8, signed, flashed, run, and FPS by MQTT."
_TICK_S = 0.25


def demo(
    seconds: Annotated[float, typer.Option(help="How long the board runs.", min=3.0)] = 20.0,
    folder: Annotated[Path, typer.Option(help="Where everything goes.")] = Path("demo"),
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Open no browser, and end when done.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One object on stdout.")] = False,
) -> None:
    """Run the verb; see HELP."""
    from edgekit.demonstration import demo as run

    began = time.monotonic()

    def say(stage: str, text: str) -> None:
        if not as_json:
            typer.echo(f"{time.monotonic() - began:6.1f} s  {stage:<8} {text}")

    # Where nobody looks, nothing opens and nothing waits for a key.
    looking = not (as_json or no_browser) and sys.stdout.isatty()
    with progress_bar(quiet=as_json) as progress:
        done = run(
            seconds=seconds,
            folder=folder,
            say=say,
            progress=progress,
            watch=None if as_json else _watcher(),
            opened=_open if looking else None,
            stay=_stay if looking else None,
        )
    if as_json:
        print_json(done.to_json())
    elif not looking:
        for line in summary(done):
            typer.echo(line)


def _open(url: str) -> None:
    typer.launch(url)


def _stay(done: DemoResult) -> None:
    for line in summary(done):
        typer.echo(line)
    typer.echo("The dashboard stays open until Ctrl-C.")
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        typer.echo("")


def _watcher() -> Callable[[Callable[[], FleetSnapshot], Callable[[], bool]], None]:
    """A live table where stdout is a terminal, a line now and then where it is not."""
    return _live if sys.stdout.isatty() else _lines


def _live(latest: Callable[[], FleetSnapshot], running: Callable[[], bool]) -> None:
    from rich.console import Console
    from rich.live import Live

    from edgekit.fleet.live import render

    console = Console(no_color="NO_COLOR" in os.environ)
    with Live(render(latest()), console=console, refresh_per_second=4) as live:
        while running():
            time.sleep(_TICK_S)
            live.update(render(latest()))


def _lines(latest: Callable[[], FleetSnapshot], running: Callable[[], bool]) -> None:
    shown = None
    while running():
        time.sleep(_TICK_S)
        for board in latest().boards:
            if board.at != shown and board.fps is not None and board.stored % 5 == 0:
                shown = board.at
                typer.echo(
                    f"          board    {board.fps:5.1f} FPS by MQTT, sees {board.label}, {board.stored} stored"
                )


def summary(done: DemoResult) -> list[str]:
    """What was measured, in at most 80 columns a line."""
    lines = ["", f"{'photo':<18}{'float32':<24}{'int8':<24}", "-" * 66]
    for row in done.photos:
        cells = [f"{row[kind][:17]} {row[f'{kind}_score']:.2f}" for kind in ("float", "int8")]
        mark = "" if row["float"] == row["int8"] else "  differs"
        lines.append(f"{row['photo'][:17]:<18}{cells[0]:<24}{cells[1]:<24}{mark}".rstrip())
    a = done.agreement
    low, high = a["top1_interval"]
    lines += [
        "",
        f"agreement   {percent(a['top1'])} same top-1 on {a['n']} random crops of {a['photos']} photos held out",
        f"            (95 %: {percent(low)} to {percent(high)})",
        f"size        {megabytes(done.float_bytes)} float32, {megabytes(done.int8_bytes)} int8: "
        f"{done.size_ratio:.2f} x smaller",
        f"speed       {done.fps:.1f} FPS (new frames; the clip plays at 30), "
        f"p50 {done.p50_ms:.1f} ms, p95 {done.p95_ms:.1f} ms, {done.delegate}",
        f"telemetry   {done.made} messages made by the board, {done.stored} stored in SQLite",
        f"files       {done.folder}/ (lite0.tflite, lite0-1.0.0.edgekit, fleet.db, readings.jsonl)",
        f"next        edgekit fleet up --store {done.folder}/fleet.db --bundles {done.folder}",
    ]
    return lines

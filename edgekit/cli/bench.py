"""`edgekit bench`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgekit.cli.terminal import print_json, progress_bar

if TYPE_CHECKING:
    from edgekit.reporting.bench import Bench

HELP = "Time models on this machine: rungs x threads, cold and steady apart, each in a process of its own."


def bench(
    models: Annotated[list[Path], typer.Argument(help=".tflite files.", metavar="MODEL...")],
    rung: Annotated[list[str] | None, typer.Option(help="xnnpack, builtin or reference; repeat for more.")] = None,
    threads: Annotated[list[int] | None, typer.Option(help="Repeat for more (default: 1 and all cores).")] = None,
    rounds: Annotated[int, typer.Option(help="How often every cell is visited.", min=1)] = 3,
    seconds: Annotated[float, typer.Option(help="Steady inference per visit.", min=0.05)] = 1.0,
    plot: Annotated[Path | None, typer.Option(help="Write a picture: OUT.svg.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One object on stdout.")] = False,
) -> None:
    """Run the verb; see HELP."""
    from edgekit.reporting.bench import RUNGS
    from edgekit.reporting.bench import bench as run
    from edgekit.reporting.pictures import bench_svg

    with progress_bar(quiet=as_json) as progress:
        done = run(models, rungs=rung or RUNGS, threads=threads, rounds=rounds, seconds=seconds, progress=progress)
    if plot:
        plot.write_text(bench_svg(done), "utf-8")
    if as_json:
        print_json(done.to_json())
        return
    for line in table(done):
        typer.echo(line)
    typer.echo(f"picture written to {plot}" if plot else f"next: edgekit bench {models[0]} --plot bench.svg")


def table(done: Bench) -> list[str]:
    """The table, in at most 80 columns a line."""
    facts = done.machine
    lines = [
        f"{facts['cpu']}, {facts['cores']} cores, {facts['interpreter']}, load {facts['load_1m']}"[:80],
        "ms of one inference; steady after a warm-up, first and load are cold",
        f"{'model':<22} {'rung':<9}{'thr':>3}{'p50':>8}{'p95':>8}{'p99':>8}{'first':>8}{'load':>8}",
        "-" * 78,
    ]
    for cell in done.cells:
        head = f"{Path(cell.model).stem[:22]:<22} {cell.rung:<9}{cell.threads:>3}"
        if cell.problem:
            lines.append(f"{head} {cell.problem}"[:80])
            continue
        values = (cell.p50_ms, cell.p95_ms, cell.p99_ms, cell.first_ms, cell.load_ms)
        lines.append(head + "".join(f"{value or 0:>8.2f}" for value in values))
    spread = [max(c.round_p50_ms) / min(c.round_p50_ms) for c in done.cells if len(c.round_p50_ms) > 1]
    if spread:
        lines.append(f"medians of a cell's rounds differ by up to {100 * (max(spread) - 1):.0f} %")
    return [*lines, *(f"warning: {text}" for text in done.warnings)]

"""`edgekit report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.terminal import megabytes, print_json, progress_bar

HELP = "Put what is known of a model into one HTML file: where it comes from, what it costs, what it lost and where."


def report(
    source: Annotated[str, typer.Argument(help="A .tflite file, or a run.", metavar="RUN|MODEL")],
    out: Annotated[Path | None, typer.Option("-o", "--output", help="The HTML file (default: MODEL.html).")] = None,
    reference: Annotated[Path | None, typer.Option(help="Its float .tflite: agreement, layers, pictures.")] = None,
    beside: Annotated[list[Path] | None, typer.Option(help="Another .tflite to be seen beside; repeat.")] = None,
    evaluation: Annotated[Path | None, typer.Option(help="Result of: edgekit evaluate --json")] = None,
    data: Annotated[Path | None, typer.Option(help="Labelled images to evaluate on now.")] = None,
    epsilon: Annotated[float | None, typer.Option(help="With --data and --reference: largest drop, points.")] = None,
    images: Annotated[Path | None, typer.Option(help="Photos to compare on (default: the shipped ones).")] = None,
    calibration: Annotated[Path | None, typer.Option(help="Photos it was calibrated on (default: shipped).")] = None,
    bench: Annotated[Path | None, typer.Option(help="Result of: edgekit bench --json")] = None,
    preprocess: Annotated[str | None, typer.Option(help="tf-lite, timm or a file, without OUT.json.")] = None,
    measure: Annotated[bool, typer.Option("--measure/--no-measure", help="Time and compare what is missing.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="The facts as one object on stdout.")] = False,
) -> None:
    """Run the verb; see HELP."""
    from edgekit.report_run import report as run

    with progress_bar(quiet=as_json) as progress:
        done = run(
            source,
            out=out,
            reference=reference,
            beside=beside or (),
            evaluation=evaluation,
            data=data,
            epsilon=epsilon,
            images=images,
            calibration=calibration,
            bench=bench,
            preprocess=preprocess,
            measure=measure,
            progress=progress,
        )
    if as_json:
        print_json({**done.document, "path": str(done.path)})
        return
    for name, command in done.document["missing"].items():
        typer.echo(f"  not known yet  {name}: {command.partition(';')[0]}")
    typer.echo(f"{done.path} written, {megabytes(done.path.stat().st_size)}; next: open it in a browser")

"""`edgekit verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.terminal import print_json, progress_bar

HELP = "Check a .tflite file: its structure, and its agreement with a float twin. Exit 3 if a check fails."


def verify(
    model: Annotated[Path, typer.Argument(help="The .tflite file.")],
    reference: Annotated[Path | None, typer.Option(help="The float .tflite to compare with.")] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of photos (default: the shipped ones).")] = None,
    preprocess: Annotated[str | None, typer.Option(help="tf-lite, timm or a file, without OUT.json.")] = None,
    least_agreement: Annotated[float, typer.Option(help="Least share of crops with the same top-1.")] = 0.8,
    as_json: Annotated[bool, typer.Option("--json", help="One object on stdout.")] = False,
) -> None:
    """Run the verb; see HELP."""
    from edgekit.pipeline import verify as run

    with progress_bar(quiet=as_json) as progress:
        verdict, agreement = run(
            model,
            reference=reference,
            images=images,
            preprocess=preprocess,
            least_agreement=least_agreement,
            progress=progress,
        )
    if as_json:
        measured = agreement.to_json() if agreement else None
        print_json({"model": str(model), **verdict.to_json(), "agreement": measured})
    else:
        for finding in verdict.findings:
            typer.echo(f"  {'ok  ' if finding.passed else 'FAIL'}  {finding.check:<22} {finding.detail}")
    verdict.require(str(model))
    if not as_json:
        typer.echo(f"{model} is as it should be; next: edgekit bundle {model} -o {model.stem}.edgekit")

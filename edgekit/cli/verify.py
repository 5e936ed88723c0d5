"""`edgekit verify`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgekit.cli.terminal import percent, print_json, progress_bar
from edgekit.errors import UsageError

if TYPE_CHECKING:
    from edgekit.diagnosis import Blame

HELP = "Check a .tflite file: structure, agreement with a float twin, the gates of a recipe. Exit 3 if one fails."


def verify(
    model: Annotated[Path, typer.Argument(help="The .tflite file.")],
    reference: Annotated[Path | None, typer.Option(help="The float .tflite to compare with.")] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of photos (default: the shipped ones).")] = None,
    preprocess: Annotated[str | None, typer.Option(help="tf-lite, timm or a file, without OUT.json.")] = None,
    least_agreement: Annotated[float, typer.Option(help="Least share of crops with the same top-1.")] = 0.8,
    gates: Annotated[Path | None, typer.Option(help="TOML file with a table [gates]; see docs/guide.")] = None,
    evaluation: Annotated[Path | None, typer.Option(help="Result of: edgekit evaluate --json")] = None,
    blame: Annotated[bool, typer.Option("--blame", help="Rank layers by what they cost; needs --reference.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One object on stdout.")] = False,
) -> None:
    """Run the verb; see HELP."""
    from edgekit.diagnosis import blame as find_blame
    from edgekit.pipeline import verify as run

    if blame and reference is None:
        raise UsageError("--blame compares with the float model: name it with --reference FLOAT.tflite")
    with progress_bar(quiet=as_json) as progress:
        verdict, agreement = run(
            model,
            reference=reference,
            images=images,
            preprocess=preprocess,
            least_agreement=least_agreement,
            gates=gates,
            evaluation=evaluation,
            progress=progress,
        )
        found = None
        if blame and reference is not None:
            found = find_blame(model, reference=reference, images=images, preprocess=preprocess, progress=progress)
    if as_json:
        measured = agreement.to_json() if agreement else None
        told = {"blame": found.to_json()} if found else {}
        print_json({"model": str(model), **verdict.to_json(), "agreement": measured, **told})
    else:
        for finding in verdict.findings:
            typer.echo(f"  {'ok  ' if finding.passed else 'FAIL'}  {finding.check:<22} {finding.detail}")
        for line in blame_lines(found) if found else ():
            typer.echo(line)
    verdict.require(str(model))
    if not as_json:
        typer.echo(f"{model} is as it should be; next: edgekit bundle {model} -o {model.stem}.edgekit")


def blame_lines(found: Blame, count: int = 5) -> list[str]:
    """The worst layers, what one back in float brought, and what to do."""
    lines = [
        f"  layers by what each alone does to the scores, on {found.crops} crops",
        f"  {'layer':<26}{'share':>8}{'scores':>10}{'own':>9}{'outside':>9}{'range':>8}  remedy (predicted)",
    ]
    for layer in found.layers[:count]:
        facts = layer.facts
        gain = f"{layer.remedy} ({layer.gain_db:+.1f} dB)" if layer.gain_db >= 0.05 else layer.remedy
        lines.append(
            f"  {facts.layer[:25]:<26}{percent(layer.share):>8}{layer.sqnr_db:>7.1f} dB{facts.own_sqnr_db:>6.1f} dB"
            f"{percent(facts.saturated):>9}{percent(facts.used):>8}  {gain}"
        )
    for name, agreement in found.swapped:
        before = found.baseline or agreement
        lines.append(
            f"  {name} back in float: {percent(before.top1)} -> {percent(agreement.top1)} same top-1, scores "
            f"{before.sqnr_db or 0:.1f} -> {agreement.sqnr_db or 0:.1f} dB, on {agreement.n} crops"
        )
    return lines

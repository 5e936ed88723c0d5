"""`edgekit models`."""

from __future__ import annotations

from typing import Annotated

import typer

from edgekit.cli.terminal import print_json

HELP = "List the EfficientNet-Lite variants."


def models(
    as_json: Annotated[bool, typer.Option("--json", help="One object on stdout.")] = False,
) -> None:
    """Run the verb; see HELP."""
    from edgekit.zoo import describe, get_variant

    rows = describe()
    if as_json:
        print_json({"models": rows})
        return
    typer.echo(f"{'name':<20}{'parameters':>11}{'multiply-adds':>15}{'input':>7}  {'top-1 published':<17}weights")
    for row in rows:
        published = get_variant(row["name"]).published
        accuracy = f"{row['top1_published']} % @{published.top1_resolution}" if published else "-"
        macs, size = f"{row['macs'] / 1e6:,.0f} M", f"{row['parameters'] / 1e6:.2f} M"
        origin = "imagenet" if row["weights"] else "bring a file"
        typer.echo(f"{row['name']:<20}{size:>11}{macs:>15}{row['resolution']:>7}  {accuracy:<17}{origin}")
    typer.echo("next: edgekit convert efficientnet-lite0 -o lite0.tflite")

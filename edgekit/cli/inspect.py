"""`edgekit inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from edgekit.cli.terminal import print_json, progress_bar

HELP = "Say what a .tflite or .edgekit file is, without running it."


def inspect(
    path: Annotated[Path, typer.Argument(help="A .tflite or .edgekit file.")],
    weights: Annotated[
        Path | None,
        typer.Option(help="Of a float .tflite: error and size at 2 to 8 bits, to NAME.csv, .json and .svg."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One object on stdout.")] = False,
) -> None:
    """Run the verb; see HELP."""
    if weights is not None:
        _study(path, weights, as_json)
        return
    from edgekit.bundling.inspection import inspect as look

    found = look(path)
    if as_json:
        print_json(found)
        return
    for line in _lines(found):
        typer.echo(line)


def _study(path: Path, out: Path, as_json: bool) -> None:
    from edgekit.weight_report import study

    with progress_bar(quiet=as_json) as progress:
        done = study(path, out=out, progress=progress)
    if as_json:
        print_json(done.to_json())
        return
    typer.echo(f"{path}: all weights together, dB (and MB)")
    bits = sorted({row.bits for row in done.whole})
    typer.echo(f"  {'grid':<22}" + "".join(f"{width:>7} bit" for width in bits))
    for grid, granularity in dict.fromkeys((row.grid, row.granularity) for row in done.whole):
        rows = [row for row in done.whole if (row.grid, row.granularity) == (grid, granularity)]
        cells = "".join(f"{row.sqnr_db:>6.1f}/{row.bytes / 1e6:>4.1f}" for row in sorted(rows, key=lambda r: r.bits))
        typer.echo(f"  {f'{grid}, a {granularity}':<22}{cells}")
    typer.echo(f"every tensor: {', '.join(str(file) for file in done.files)}")


def _lines(values: dict[str, Any], indent: int = 0) -> list[str]:
    lines = []
    for key, value in values.items():
        head = f"{' ' * indent}{key}"
        if isinstance(value, dict) and value:
            lines += [head, *_lines(value, indent + 2)]
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            lines.append(head)
            for item in value:
                lines += [f"{' ' * indent}  -", *_lines(item, indent + 4)]
        else:
            lines.append(f"{head:<24} {value}")
    return lines

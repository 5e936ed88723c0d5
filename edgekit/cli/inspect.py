"""`edgekit inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from edgekit.cli.terminal import print_json

HELP = "Say what a .tflite or .edgekit file is, without running it."


def inspect(
    path: Annotated[Path, typer.Argument(help="A .tflite or .edgekit file.")],
    as_json: Annotated[bool, typer.Option("--json", help="One object on stdout.")] = False,
) -> None:
    """Run the verb; see HELP."""
    from edgekit.bundling.inspection import inspect as look

    found = look(path)
    if as_json:
        print_json(found)
        return
    for line in _lines(found):
        typer.echo(line)


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

"""`edgekit doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgekit.cli.terminal import percent, print_json, progress_bar

if TYPE_CHECKING:
    from edgekit.calibration_check import CalibrationCheck

HELP = "Say what is wrong and what mends it."

app = typer.Typer(help=HELP, no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _doctor() -> None:
    """Several things can be looked at; each is a command of its own."""


@app.command(help="Look at a folder of calibration photos. Exit 3 if it would spoil a model or a figure.")
def calibration(
    folder: Annotated[Path, typer.Argument(help="Photos, or folders of photos by class.")],
    against: Annotated[Path | None, typer.Option(help="Folder that the model will be judged on.")] = None,
    model: Annotated[Path | None, typer.Option(help="A float .tflite: how many crops until its ranges settle.")] = None,
    preprocess: Annotated[str | None, typer.Option(help="Of that model: tf-lite, timm or a file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One object on stdout.")] = False,
) -> None:
    """Run the verb."""
    from edgekit.calibration_check import check_calibration
    from edgekit.errors import LimitsError

    with progress_bar(quiet=as_json) as progress:
        found = check_calibration(folder, against=against, model=model, preprocess=preprocess, progress=progress)
    if as_json:
        print_json(found.to_json())
    else:
        for line in lines(found):
            typer.echo(line)
    if not found.passed:
        raise LimitsError(str(folder), [s.detail for s in found.symptoms if s.severity == "error"])


@app.command(
    help="Run a board's own doctor over SSH, and say how both sides stand. Exit 1 if one keeps it from its work."
)
def device(
    target: Annotated[str, typer.Argument(help="ssh://user@host[:port], or a name from fleet.toml")],
    as_json: Annotated[bool, typer.Option("--json", help="One object on stdout.")] = False,
) -> int:
    """Run the verb."""
    from edgekit.cli.flash import _asker
    from edgekit.flashing.flashed import Options
    from edgekit.flashing.looking import examine
    from edgekit.flashing.naming import read_boards
    from edgekit.flashing.targets import parse_target
    from edgekit_device.diagnosis.finding import summary, table

    names = read_boards() if ":" not in target else {}
    found = examine(parse_target(target, names), Options(ask=_asker(None)))
    if as_json:
        sides = {"host": [f.to_json() for f in found.host], "board": [f.to_json() for f in found.board]}
        print_json({"target": found.target.name, "ok": found.ok, **sides})
        return 0 if found.ok else 1
    typer.echo("from here")
    typer.echo(table(found.host))
    if found.board:
        typer.echo(f"on {found.target.name}")
        typer.echo(table(found.board))
    typer.echo(summary([*found.host, *found.board]))
    return 0 if found.ok else 1


def lines(found: CalibrationCheck) -> list[str]:
    """In words, the worst first."""
    classes = f" in {len(found.classes)} classes" if found.classes else ""
    said = [f"{found.folder}: {found.photos} photos{classes}"]
    for symptom in found.symptoms:
        said.append(f"  {symptom.severity:<8} {symptom.what}: {symptom.detail}")
        shown = ", ".join(symptom.photos[:3]) + (" ..." if len(symptom.photos) > 3 else "")
        said.append(f"           {symptom.remedy}{f': {shown}' if shown else ''}")
    if found.skipped:
        said.append(f"  note     {len(found.skipped)} cannot be used: {', '.join(n for n, _ in found.skipped[:3])}")
    if found.stability:
        for count, median, p90 in found.stability.steps:
            said.append(
                f"  {count:>4} crops in each half: ranges differ by {percent(median)}, nine in ten {percent(p90)}"
            )
        after = f"from {found.stability.settled} crops on" if found.stability.settled else "not yet: add photos"
        said.append(f"  ranges settle {after}")
    if not found.symptoms:
        said.append("  nothing is wrong; next: edgekit convert SOURCE --calibration " + str(found.folder))
    return said

"""`edgekit compress`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.terminal import print_json, progress_bar
from edgekit.cli.train import show
from edgekit.errors import UsageError

HELP = "Run passes over a trained model: prune it, distil it from a teacher, train it on for int8."


def compress(
    source: Annotated[str, typer.Argument(help="A run, a .keras file or a SavedModel.")],
    data: Annotated[Path, typer.Option(help="DATA/<class>/*.jpg; pictures beside them have no label.")],
    out: Annotated[str, typer.Option("-o", "--output", help="The new run; NAME means runs/NAME.")],
    passes: Annotated[
        list[str] | None,
        typer.Option(
            "--pass", help="prune=structured:macs=0.5, distil=TEACHER:epochs=5 or qat=epochs=2; repeat, in order."
        ),
    ] = None,
    recipe: Annotated[Path | None, typer.Option(help="A TOML file that lists passes instead.")] = None,
    augment: Annotated[
        str | None, typer.Option(help="photo, no-mirror, any-way-up, inspection, none (default: the run's).")
    ] = None,
    preprocess: Annotated[str | None, typer.Option(help="tf-lite, timm or a file, for a model from elsewhere.")] = None,
    labels: Annotated[Path | None, typer.Option(help="One label a line, for a model from elsewhere.")] = None,
    study: Annotated[
        bool, typer.Option("--study", help="No pass: what each layer can spare, to OUT.csv, .json and .svg.")
    ] = False,
    seed: Annotated[int | None, typer.Option(help="Default: the recipe's, or 0.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Throw away a run of another recipe.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One object on stdout.")] = False,
) -> None:
    """Run the verb; see HELP."""
    if study:
        unused = [word for word, given in (("--pass", passes), ("--recipe", recipe), ("--augment", augment)) if given]
        if unused:
            raise UsageError(f"--study runs no pass and takes no {unused[0]}: leave one of them out")
        _study(source, data, out, preprocess, labels, seed or 0, as_json)
        return
    from edgekit.compressing import compress as run

    with progress_bar(quiet=as_json) as progress:
        done = run(
            source,
            data=data,
            out=out,
            passes=passes or (),
            recipe=recipe,
            augment=augment,
            preprocess=preprocess,
            labels=labels,
            seed=seed,
            force=force,
            progress=progress,
        )
    show(done, as_json=as_json)


def _study(
    source: str, data: Path, out: str, preprocess: str | None, labels: Path | None, seed: int, as_json: bool
) -> None:
    from edgekit.compression.prune_study import as_lines
    from edgekit.pruning_study import study_pruning

    with progress_bar(quiet=as_json) as progress:
        done = study_pruning(
            source, data=data, out=out, preprocess=preprocess, labels=labels, seed=seed, progress=progress
        )
    if as_json:
        print_json(done.to_json())
        return
    typer.echo(source)
    typer.echo(f"top-1 in % of {done.pictures} pictures, without a share of one layer's channels:")
    for group, points in as_lines(done.rows).items():
        cells = "".join(f"{gone:>5.0f} %: {top1:5.1f}" for gone, top1 in points if gone)
        typer.echo(f"  {group[:36]:<36}{cells}")
    for row in done.rows:
        if row.is_block:
            typer.echo(f"  without {row.group[:28]:<28}        {100 * row.top1:5.1f}")
    typer.echo(f"every figure: {', '.join(str(file) for file in done.files)}")

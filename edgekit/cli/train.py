"""`edgekit train`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgekit.cli.terminal import percent, print_json, progress_bar

if TYPE_CHECKING:
    from edgekit.run_writing import TrainedRun

HELP = "Train a variant on a folder of photos, one folder a class. A killed run goes on when called again."


def train(
    data: Annotated[Path, typer.Argument(help="DATA/<class>/*.jpg or DATA/<split>/<class>/*.jpg")],
    variant: Annotated[str, typer.Option(help="Such as efficientnet-lite0, or a recipe.toml.")],
    out: Annotated[str, typer.Option("-o", "--output", help="The run; NAME means runs/NAME.")],
    epochs: Annotated[int, typer.Option(help="Of fine-tuning; 0 trains the last layer alone.")] = 10,
    head_epochs: Annotated[int, typer.Option(help="Of the last layer, on cached features.")] = 30,
    weights: Annotated[str, typer.Option(help="imagenet, random, a weights file or another run.")] = "imagenet",
    preprocess: Annotated[
        str | None, typer.Option(help="tf-lite, timm or a file, for weights that state none.")
    ] = None,
    resolution: Annotated[
        int | None, typer.Option(help="Side of the input in pixels (default: the variant's).")
    ] = None,
    view: Annotated[str, typer.Option(help="square (the middle), center, or whole (squashed).")] = "square",
    augment: Annotated[str, typer.Option(help="photo, no-mirror, any-way-up, inspection or none.")] = "photo",
    batch: Annotated[int, typer.Option(help="Pictures a step.")] = 32,
    rate: Annotated[
        float | None, typer.Option(help="Largest step size (default: 1e-4 from trained weights, 5e-4 from random).")
    ] = None,
    smoothing: Annotated[float, typer.Option(help="Label smoothing.")] = 0.1,
    balanced: Annotated[bool, typer.Option(help="Every class counts the same.")] = True,
    held_out: Annotated[float, typer.Option(help="Share of each class that is judged once, at the end.")] = 0.2,
    monitor: Annotated[float, typer.Option(help="Share of the rest that early stopping watches.")] = 0.1,
    patience: Annotated[int, typer.Option(help="Epochs without a better loss until it stops; 0: never.")] = 5,
    seed: Annotated[int, typer.Option(help="The same seed gives the same result on one machine.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Throw away a run of another recipe.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One object on stdout.")] = False,
) -> None:
    """Run the verb; see HELP."""
    from edgekit.training_run import Recipe
    from edgekit.training_run import train as run

    recipe = Recipe(
        epochs=epochs,
        head_epochs=head_epochs,
        rate=rate,
        batch=batch,
        resolution=resolution,
        view=view,
        augment=augment,
        held_out=held_out,
        monitor=monitor,
        patience=patience,
        smoothing=smoothing,
        balanced=balanced,
        seed=seed,
    )
    with progress_bar(quiet=as_json) as progress:
        done = run(
            data,
            variant=variant,
            out=out,
            weights=weights,
            preprocess=preprocess,
            recipe=recipe,
            force=force,
            progress=progress,
        )
    show(done, as_json=as_json)


def show(done: TrainedRun, *, as_json: bool) -> None:
    """Print what was made: one object, or a summary."""
    if as_json:
        print_json({**done.facts, "path": str(done.folder), "resumed": done.resumed, "warnings": list(done.warnings)})
        return
    for line in summary(done):
        typer.echo(line)


def summary(done: TrainedRun) -> list[str]:
    """What was made, in at most 80 columns a line."""
    roles = done.facts.get("pictures", {})
    kept = ", ".join(f"{count} {role.replace('_', ' ')}" for role, count in sorted(roles.items()))
    lines = [f"{done.folder}: {len(done.labels)} classes; pictures: {kept}"[:80]]
    if done.top1 is not None and done.top1_interval is not None:
        low, high = done.top1_interval
        lines.append(
            f"  held out     {percent(done.top1)} of {done.held_out} right (95 %: {percent(low)} to {percent(high)})"
        )
        weakest = sorted(done.per_class.items(), key=lambda item: item[1][0] / max(1, item[1][1]))
        lines += [f"  weakest      {label[:40]:<40} {right} of {n}" for label, (right, n) in weakest[:3] if right < n]
    for stage, epochs in done.history.items():
        if epochs and "monitor_top1" in epochs[-1]:
            lines.append(f"  {stage:<12} {len(epochs)} epochs, watched {percent(epochs[-1]['monitor_top1'])}")
    lines += pruned_lines(done.facts.get("pruned"))
    lines += [f"  warning      {text}" for text in done.warnings]
    if done.skipped:
        lines.append(f"  skipped      {len(done.skipped)} pictures")
        lines += [f"    {name}: {reason}"[:80] for name, reason in done.skipped[:3]]
    lines.append(
        f"  made in      {done.facts.get('seconds', 0):.0f} s" if not done.resumed else "  made         before"
    )
    # A run's folder has curves.svg and confusion.svg.
    return [*lines, f"{done.folder} written; next: edgekit convert {done.folder} -o {done.folder.name}.tflite"]


def pruned_lines(pruned: Mapping[str, Any] | None) -> list[str]:
    """What the pass `prune` made of a model's size."""
    if not pruned:
        return []
    before, after = pruned["before"], pruned["after"]
    shares = {key: after[key] / max(1, before[key]) for key in before}
    lines = [
        f"  pruned       {after['macs'] / 1e6:.4g} M multiply-adds ({100 * shares['macs']:.0f} % of before),",
        f"               {after['parameters']:,} parameters ({100 * shares['parameters']:.0f} %)",
        f"  zipped       {after['int8_zip_bytes']:,} bytes of int8 weights ({100 * shares['int8_zip_bytes']:.0f} %),",
        f"               {after['float_zip_bytes']:,} of float ({100 * shares['float_zip_bytes']:.0f} %)",
    ]
    return lines + [f"  {line}" for line in pruned.get("notes", ())]

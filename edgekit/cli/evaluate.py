"""`edgekit evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgekit.cli.terminal import percent, print_json, progress_bar
from edgekit.errors import LimitsError

if TYPE_CHECKING:
    from edgekit.verification.bounds import Drop
    from edgekit.verification.evaluation import Evaluation

HELP = "Measure a model on labelled images, and how much it surely lost. Exit 3 unless --epsilon is certified."


def evaluate(
    model: Annotated[Path, typer.Argument(help="A .tflite classifier.")],
    data: Annotated[Path, typer.Argument(help="DATA/<class>/*.jpg: label, WordNet id or 0-based index; or a run.")],
    against: Annotated[Path | None, typer.Option(help="The float model, or another, on the same images.")] = None,
    epsilon: Annotated[float | None, typer.Option(help="Largest drop of top-1 in points, e.g. 1.0.")] = None,
    split: Annotated[str | None, typer.Option(help="For DATA/<split>/<class>/, e.g. val.")] = None,
    preprocess: Annotated[str | None, typer.Option(help="tf-lite, timm or a file, without OUT.json.")] = None,
    labels: Annotated[Path | None, typer.Option(help="One label a line (default: what convert left).")] = None,
    processes: Annotated[int | None, typer.Option(help="One a core by default.", min=1)] = None,
    plot: Annotated[Path | None, typer.Option(help="Write the confusion matrix as an SVG picture.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One object on stdout.")] = False,
) -> None:
    """Run the verb; see HELP."""
    from edgekit.evaluation_run import evaluate as run

    with progress_bar(quiet=as_json) as progress:
        done = run(
            model,
            data,
            against=against,
            epsilon=epsilon,
            split=split,
            preprocess=preprocess,
            labels=labels,
            processes=processes,
            progress=progress,
        )
    if plot:
        _write_plot(done, plot)
    if as_json:
        print_json(done.to_json())
    else:
        for line in summary(done):
            typer.echo(line)
        if plot:
            typer.echo(f"confusion matrix written to {plot}")
    if done.drop and done.drop.verdict not in (None, "certified"):
        raise LimitsError(str(model), [_reason(done.drop)])
    if not as_json:
        typer.echo(
            f"next: edgekit evaluate {model} {data} --json > eval.json; edgekit bundle {model} --baseline eval.json"
        )


def summary(done: Evaluation) -> list[str]:
    """What was measured, in at most 80 columns a line."""
    low, high = done.top1_interval
    rate = f"{done.extra['images_per_s']:.0f} images/s on {done.extra['processes']} processes"
    lines = [
        f"{done.n} images of {len(done.per_class)} classes (folders named by {done.extra['named_by']}), {rate}",
        f"  top-1        {percent(done.top1)} (95 %: {percent(low)} to {percent(high)})",
    ]
    if done.top5 is not None:
        lines.append(f"  top-5        {percent(done.top5)}")
    for row in sorted(done.per_class, key=lambda c: (c.top1, -c.n))[:3]:
        lines.append(f"  weakest      {row.label[:30]:<30} {row.right} of {row.n}")
    names = {row.index: row.label for row in done.per_class}
    for true, said, count in done.worst_confusions(3):
        said_name = names.get(said, f"class {said}")
        lines.append(f"  confused     {names[true][:24]} taken for {said_name[:24]}: {count}")
    if done.skipped:
        lines.append(f"  skipped      {len(done.skipped)} images")
        lines += [f"    {name}: {reason}"[:80] for name, reason in done.skipped[:5]]
        lines += ["    ... all of them: --json"] if len(done.skipped) > 5 else []
    if done.drop:
        drop = done.drop
        lines.append(
            f"  against      {percent(done.against_top1 or 0.0)}; lost {drop.lost}, gained {drop.gained} images"
        )
        lines.append(
            f"  drop         {100 * drop.observed:.2f} points, at 95 % no more than {100 * drop.upper:.2f} "
            f"and no less than {100 * drop.lower:.2f}"
        )
        if drop.verdict:
            lines.append(f"  verdict      {drop.verdict}: at most {100 * (drop.epsilon or 0):g} points")
    return lines


def _reason(drop: Drop) -> str:
    """Why the gate said no, in a line."""
    limit = f"{100 * (drop.epsilon or 0):g} points"
    if drop.verdict == "refuted":
        return f"the drop is surely over {limit}: at least {100 * drop.lower:.2f} (95 %), {drop.n} images"
    more = (
        f"about {drop.images_missing} more images would probably decide it"
        if drop.images_missing
        else "the drop is too close to the limit to say how many images would decide it"
    )
    return f"undecided whether the drop is at most {limit}: it may be {100 * drop.upper:.2f} (95 %); {more}"


def _write_plot(done: Evaluation, plot: Path) -> None:
    from edgekit.reporting.pictures import confusion_svg

    names = {row.index: row.label for row in done.per_class}
    highest = max(max(pair) for pair in done.confusion)
    labels = [names.get(index, f"class {index}") for index in range(highest + 1)]
    plot.write_text(confusion_svg(done.confusion, labels), "utf-8")

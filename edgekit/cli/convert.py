"""`edgekit convert`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgekit.cli.terminal import megabytes, percent, print_json, progress_bar

if TYPE_CHECKING:
    from edgekit.pipeline import Conversion

HELP = "Make a TFLite model: fully int8 by default, with input pixels passed through unchanged."


def convert(
    source: Annotated[
        str, typer.Argument(help="A variant such as efficientnet-lite0, a run, a .keras file, a SavedModel.")
    ],
    out: Annotated[Path, typer.Option("-o", "--output", help="The .tflite file; OUT.json goes beside it.")],
    weights: Annotated[str, typer.Option(help="imagenet, random, or a weights file.")] = "imagenet",
    calibration: Annotated[Path | None, typer.Option(help="Folder of photos (default: the shipped ones).")] = None,
    preprocess: Annotated[str | None, typer.Option(help="tf-lite, timm or a file, for a model from elsewhere.")] = None,
    labels: Annotated[Path | None, typer.Option(help="One label a line, in the order of the scores.")] = None,
    scheme: Annotated[str, typer.Option(help="int8, int16x8, dynamic, float16 or float32.")] = "int8",
    io: Annotated[str | None, typer.Option(help="Input and output: int8, uint8 or float32.")] = None,
    granularity: Annotated[str, typer.Option(help="One weight scale a channel, or a tensor.")] = "channel",
    keep_float: Annotated[str, typer.Option(help="Layers that stay in float, with commas.")] = "",
    target: Annotated[str | None, typer.Option("--for", help="edgetpu: as its compiler wants it.")] = None,
    engine: Annotated[str, typer.Option(help="What makes the integers: tflite or litert.")] = "tflite",
    refine: Annotated[str | None, typer.Option(help="Of equalise,round,bias, or none (default: round,bias).")] = None,
    ranges: Annotated[str | None, typer.Option(help="min-max, percentile or mse (default with passes).")] = None,
    seed: Annotated[int, typer.Option(help="Draws the crops, and random weights.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print OUT.json's content.")] = False,
) -> None:
    """Run the verb; see HELP."""
    from edgekit.pipeline import convert as run

    with progress_bar(quiet=as_json) as progress:
        done = run(
            source,
            out=out,
            weights=weights,
            calibration=calibration,
            preprocess=preprocess,
            labels=labels,
            scheme=scheme,
            io=io,
            granularity=granularity,
            keep_float=[name.strip() for name in keep_float.split(",") if name.strip()],
            target=target,
            engine=engine,
            refine=refine,
            ranges=ranges,
            seed=seed,
            progress=progress,
        )
    if as_json:
        print_json(done.sidecar.to_json())
        return
    for line in summary(done):
        typer.echo(line)


def summary(done: Conversion) -> list[str]:
    """What was made, in at most 80 columns a line."""
    card = done.sidecar
    operators = ", ".join(f"{count} {name}" for name, count in sorted(card.operators.items(), key=lambda i: -i[1]))
    ratio = f", {len(done.float_model) / card.bytes:.2f} x smaller than float32" if card.scheme != "float32" else ""
    lines = [
        f"{card.variant or Path(card.path).stem}: {card.scheme}, {card.io} in and out, {megabytes(card.bytes)}{ratio}",
        f"  operators    {operators}"[:80],
        f"  input        {card.input['dtype']} {card.input['shape']}, scale {card.input['scale']:.7g}, "
        f"zero point {card.input['zero_point']}",
    ]
    if done.agreement:
        a = done.agreement
        low, high = a.top1_interval
        where = "photos not calibrated on" if card.calibration["held_out"] else "the calibration photos themselves"
        lines.append(f"  agreement    {percent(a.top1)} same top-1 as float on {a.n} crops of {a.photos}")
        lines.append(f"               {where} (95 %: {percent(low)} to {percent(high)})")
    passes = card.recipe.get("refine", {})
    if passes.get("reason"):
        lines.append(f"  not refined  {passes['reason']}; weights are rounded one by one")
    elif passes.get("passes"):
        lines.append(f"  refined      {', '.join(passes['passes'])}; ranges {card.recipe['ranges']}")
    if card.recipe.get("keep_float"):
        bridges = card.operators.get("QUANTIZE", 0) + card.operators.get("DEQUANTIZE", 0)
        lines.append(
            f"  mixed        {', '.join(card.recipe['keep_float'])} in float: {bridges} operators lead there and back"
        )
        lines += cost_lines(card.extra.get("keep_float_cost") or {})
    if done.skipped:
        names = ", ".join(name for name, _ in done.skipped[:3])
        lines.append(f"  skipped      {len(done.skipped)} unreadable photos: {names}")
    lines.append(f"  made in      {card.seconds:.1f} s")
    following = f"edgekit bundle {done.path} -o {done.path.with_suffix('.edgekit').name}"
    if card.weights["source"] == "random":
        following = "random weights are for time and memory only; they cannot be bundled"
    elif not done.labels:
        following += " --labels FILE"
    return [*lines, f"{done.path} and {done.path.with_suffix('.json').name} written; next: {following}"]


def cost_lines(cost: Mapping[str, Any]) -> list[str]:
    """What the layers in float cost, rung by rung."""
    if not cost:
        return ["               xnnpack and builtin run it, slower; an Edge TPU stops at the first float operator"]
    rungs = []
    for rung in ("xnnpack", "builtin"):
        times = cost.get(f"{rung}_ms") or {}
        mixed, whole = times.get("mixed"), times.get("int8")
        rungs.append(f"{rung} {mixed:.2f} ms ({whole:.2f})" if mixed and whole else f"{rung} does not run it")
    more = cost["bytes"]["mixed"] - cost["bytes"]["int8"]
    on_tpu = cost["edgetpu_operators"]
    return [
        f"  costs        {', '.join(rungs)}, {more / 1e3:+.1f} kB; in brackets: all int8",
        f"               an Edge TPU would take {on_tpu['before_float']} of {on_tpu['all']} operators",
    ]

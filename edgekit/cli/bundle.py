"""`edgekit bundle`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.terminal import megabytes, print_json
from edgekit.errors import UsageError

HELP = "Put a model, its labels and golden vectors into one signed file. Signs with your own key, made at first use."


def bundle(
    model: Annotated[Path, typer.Argument(help="A .tflite classifier.")],
    out: Annotated[Path, typer.Option("-o", "--output", help="The .edgekit file.")],
    labels: Annotated[Path | None, typer.Option(help="One label a line (default: what convert left).")] = None,
    name: Annotated[str | None, typer.Option(help="Bundle name (default: the model's file name).")] = None,
    version: Annotated[str, typer.Option(help="N.N.N")] = "1.0.0",
    edgetpu: Annotated[Path | None, typer.Option(help="The model as edgetpu_compiler made it.")] = None,
    golden: Annotated[Path | None, typer.Option(help="Photos for the self-test (default: the shipped ones).")] = None,
    baseline: Annotated[Path | None, typer.Option(help="Result of: edgekit evaluate --json")] = None,
    bench: Annotated[
        Path | None,
        typer.Option(help="Result of: edgekit-device bench --json, on a board. Alerts hold FPS against it."),
    ] = None,
    sign: Annotated[Path | None, typer.Option(help="Secret key file (default: your own).")] = None,
    preprocess: Annotated[str | None, typer.Option(help="tf-lite, timm or a file, without OUT.json.")] = None,
    security_epoch: Annotated[int, typer.Option(min=0, help="Boards that entered it install nothing lower.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One object on stdout.")] = False,
) -> None:
    """Run the verb; see HELP."""
    from edgekit.pipeline import bundle as run

    written = run(
        model,
        out=out,
        labels=labels,
        name=name,
        version=version,
        edgetpu=edgetpu,
        golden=golden,
        baseline=_document("--baseline", baseline, "edgekit evaluate --json"),
        bench=_document("--bench", bench, "edgekit-device bench --json"),
        sign=sign,
        preprocess=preprocess,
        security_epoch=security_epoch,
    )
    manifest = written.manifest
    if as_json:
        print_json(
            {
                "path": str(written.path),
                "signature": str(written.signature),
                "sha256": written.sha256,
                "bytes": written.bytes,
                "key_id": written.key_id,
                "bundle": manifest.bundle_id,
                "golden": len(manifest.golden_images),
                "notes": list(written.notes),
            }
        )
        return
    typer.echo(f"{manifest.bundle_id}: {manifest.classes} classes, {megabytes(written.bytes)}")
    typer.echo(f"  sha256       {written.sha256}")
    typer.echo(f"  signed by    {written.key_id}")
    rungs = ", ".join(f"{rung} within {f.tolerance:.4f}" for rung, f in written.golden.rungs.items() if f.tolerance)
    typer.echo(f"  golden       {len(manifest.golden_images)} photos; {rungs}")
    for note in written.notes:
        typer.echo(f"  note         {note}")
    typer.echo(f"{written.path} written; next: edgekit-device run --bundle {written.path} --source sample")


def _document(option: str, path: Path | None, maker: str) -> dict[str, object] | None:
    if path is None:
        return None
    try:
        document = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as cause:
        raise UsageError(f"{option} {path}: is not readable JSON; make it with: {maker}") from cause
    if not isinstance(document, dict):
        raise UsageError(f"{option} {path}: is not a JSON object; make it with: {maker}")
    return document

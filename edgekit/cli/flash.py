"""`edgekit flash`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.terminal import print_json

HELP = "Install a bundle on a target: dir:PATH. Interrupted anywhere, the target runs the old release or the new."


def flash(
    bundle: Annotated[Path, typer.Argument(help="The .edgekit file, its .minisig beside it.")],
    targets: Annotated[list[str], typer.Argument(help="dir:PATH", metavar="TARGET...")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List every change, make none.")] = False,
    pubkey: Annotated[Path | None, typer.Option(help="The signer's public key (default: your own).")] = None,
    broker: Annotated[str | None, typer.Option(help="mqtt://host:port for the board.")] = None,
    site: Annotated[str | None, typer.Option(help="The board's site.")] = None,
    device_id: Annotated[str | None, typer.Option("--id", help="The board's id.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One object on stdout.")] = False,
) -> None:
    """Run the verb; see HELP."""
    from edgekit.pipeline import flash as run

    settings = {k: v for k, v in (("broker", broker), ("site", site), ("id", device_id)) if v is not None}

    def say(target: str, change: str) -> None:
        if not as_json:
            typer.echo(f"  {target}  {change}")

    done = run(bundle, targets, settings=settings, public_key=pubkey, dry_run=dry_run, on_step=say)
    if as_json:
        print_json(
            {
                "dry_run": dry_run,
                "targets": [
                    {"target": t, "bundle": f.bundle_id, "changes": list(f.changes)}
                    for t, f in zip(targets, done, strict=True)
                ],
            }
        )
        return
    for target, result in zip(targets, done, strict=True):
        verb = "would become" if dry_run else "runs"
        typer.echo(f"{target}: {verb} {result.bundle_id} ({len(result.changes)} changes)")
    if not dry_run:
        typer.echo(f"next: edgekit-device run --root {targets[0].removeprefix('dir:')} --source sample")

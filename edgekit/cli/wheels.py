"""`edgekit wheels`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.terminal import megabytes, print_json, progress_bar

HELP = "Packages for boards without a network, and runtime releases made of them."
app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.callback()
def _wheels() -> None:
    """Packages for boards without a network, and runtime releases made of them."""


@app.command()
def fetch(
    python: Annotated[
        list[str] | None, typer.Option(help="Python of the boards: 3.11 (Bookworm), 3.13 (Trixie); again for more.")
    ] = None,
    machine: Annotated[
        list[str] | None, typer.Option(help="Their machine: aarch64, x86_64, armv7l; again for more.")
    ] = None,
    out: Annotated[Path | None, typer.Option("-o", "--output", help="Another folder than the cache.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One object on stdout.")] = False,
) -> None:
    """Fetch what boards need, with hashes, so that `edgekit flash` needs no network. Interrupted, it goes on."""
    from edgekit.flashing.wheel_cache import cache_folder
    from edgekit.flashing.wheel_cache import fetch as run

    with progress_bar(quiet=as_json) as progress:
        done = run(out, pythons=python or (), machines=machine or (), progress=progress)
    if as_json:
        print_json(
            {
                "folder": str(done.folder),
                "fetched": list(done.fetched),
                "kept": list(done.kept),
                "device": done.device,
                "bytes": done.bytes,
            }
        )
        return
    typer.echo(
        f"{done.folder}: {len(done.fetched)} wheels fetched, {len(done.kept)} were there, {megabytes(done.bytes)}; "
        f"{done.device} of this version beside them"
    )
    where = "" if done.folder == cache_folder() else f" --wheels {done.folder}"
    typer.echo(f"next: edgekit flash BUNDLE ssh://USER@HOST{where}")


@app.command()
def release(
    folder: Annotated[Path, typer.Argument(help="Wheels, with edgekit-device's and pip's among them.")],
    python: Annotated[str, typer.Option(help="Python of the boards, such as 3.11.")],
    machine: Annotated[str, typer.Option(help="Their machine, such as aarch64.")],
    out: Annotated[Path, typer.Option("-o", "--output", help="The .edgekit file, or a folder for it.")],
    system: Annotated[
        list[str] | None, typer.Option(help="A package that these boards take from apt, such as numpy; again for more.")
    ] = None,
    version: Annotated[str | None, typer.Option(help="N.N.N (default: edgekit-device's).")] = None,
    sign: Annotated[Path | None, typer.Option(help="Secret key file (default: your own).")] = None,
    security_epoch: Annotated[int, typer.Option(min=0, help="Boards that entered it install nothing lower.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One object on stdout.")] = False,
) -> None:
    """Put the wheels of one Python and one machine into a signed runtime release."""
    from edgekit.runtime_making import runtime_release

    written = runtime_release(
        folder,
        python=python,
        machine=machine,
        out=out,
        system=system or (),
        version=version,
        sign=sign,
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
                "runtime": manifest.release_id,
                "device": manifest.device,
                "wheels": sorted(manifest.wheels),
            }
        )
        return
    kind = f"Python {manifest.python} on {manifest.machine}"
    typer.echo(f"{manifest.release_id}: edgekit-device {manifest.device} for {kind}, {megabytes(written.bytes)}")
    for wheel in sorted(manifest.wheels):
        typer.echo(f"  {wheel}")
    typer.echo(f"{written.path} written; next, on a board: edgekit-device install {written.path.name}")

"""`edgekit flash`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgekit.cli.terminal import print_json

if TYPE_CHECKING:
    from edgekit.flashing.flashed import Flashed

HELP = (
    "Install a bundle on boards: ssh://user@host[:port], names of fleet.toml, or dir:PATH. "
    "Interrupted anywhere, a board runs the old release or the new."
)
_TARGET_WIDTH, _LINE_WIDTH = 28, 80


def flash(
    bundle: Annotated[str, typer.Argument(help="The .edgekit file, its .minisig beside it; left out with --remove.")],
    targets: Annotated[
        list[str] | None,
        typer.Argument(help="ssh://user@host[:port], dir:PATH, or a name from fleet.toml", metavar="TARGET..."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List every change, make none.")] = False,
    pubkey: Annotated[Path | None, typer.Option(help="The signer's public key (default: your own).")] = None,
    broker: Annotated[str | None, typer.Option(help="mqtt://host:port for the board, instead of your fleet.")] = None,
    updates_url: Annotated[
        str | None, typer.Option(help="Where it fetches updates (default: port 8080 of your fleet).")
    ] = None,
    site: Annotated[str | None, typer.Option(help="The board's site.")] = None,
    device_id: Annotated[str | None, typer.Option("--id", help="The board's id (one board only).")] = None,
    source: Annotated[str | None, typer.Option(help="Where its frames come from (default: auto).")] = None,
    interval: Annotated[float | None, typer.Option(help="Seconds between its Readings.")] = None,
    wheels: Annotated[Path | None, typer.Option(help="Folder of wheels: the boards need no network.")] = None,
    libedgetpu: Annotated[Path | None, typer.Option(help="A .deb of libedgetpu: library, udev rule, group.")] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Take everything away again, and revoke the board.")] = False,
    fleet: Annotated[
        Path | None, typer.Option(envvar="EDGEKIT_FLEET", help="The fleet folder that boards join.")
    ] = None,
    no_enroll: Annotated[bool, typer.Option("--no-enroll", help="Leave the board's membership alone.")] = False,
    enroll_again: Annotated[
        bool, typer.Option("--enroll-again", help="Also under a name that is taken; its old identity ends.")
    ] = False,
    wait: Annotated[float, typer.Option(help="Seconds a board may take to its first Reading.")] = 300.0,
    as_json: Annotated[bool, typer.Option("--json", help="One object on stdout.")] = False,
) -> int:
    """Run the verb; see HELP."""
    from edgekit.errors import UsageError
    from edgekit.flashing.errors import FlashFailedError
    from edgekit.flashing.flashed import Options
    from edgekit.pipeline import flash as run

    words = list(targets or ())
    if remove and not bundle.endswith(".edgekit"):
        words.insert(0, bundle)
    if not words:
        raise UsageError("name at least one target: ssh://user@host, dir:PATH, or a name from fleet.toml")
    if device_id is not None and len(words) > 1:
        raise UsageError("--id names one board; name several in fleet.toml: [boards]")
    given = {
        "broker": broker, "updates": updates_url, "site": site, "id": device_id, "source": source,
        "interval_s": interval,
    }  # fmt: skip
    settings = {key: value for key, value in given.items() if value is not None}
    with _progress(words, quiet=as_json or dry_run) as (report, hidden):

        def say(target: str, change: str) -> None:
            if not as_json and (dry_run or hidden is None):
                typer.echo(f"  {target}  {change}")

        try:
            done: Sequence[Flashed] = run(
                None if remove else bundle,
                words,
                settings=settings,
                public_key=pubkey,
                dry_run=dry_run,
                on_step=say,
                wheels=wheels,
                libedgetpu=libedgetpu,
                fleet=fleet,
                enroll=not no_enroll,
                enroll_again=enroll_again,
                remove=remove,
                wait_s=wait,
                options=Options(report=report, ask=_asker(hidden)),
            )
            code = 0
        except FlashFailedError as error:
            done, code = error.results, error.exit_code
    if as_json:
        print_json({"dry_run": dry_run, "targets": [_row(one) for one in done]})
        return code
    _print(done, dry_run=dry_run, remove=remove)
    if not dry_run and not remove and not code:
        first = words[0]
        board = f"edgekit-device run --root {first.removeprefix('dir:')} --source sample"
        typer.echo(f"next: {board if first.startswith('dir:') else 'edgekit fleet status'}")
    return code


def _print(done: Sequence[Flashed], *, dry_run: bool, remove: bool) -> None:
    for one in done:
        for text in (*(one.notes if dry_run else ()), *(f"warning: {word}" for word in one.warnings)):
            typer.echo(f"  {one.target.name}  {text}")
    rows = [("board", "result", "changes", "s")] if len(done) > 1 else []
    for one in done:
        if one.error is not None:
            words = f"FAILED: {type(one.error).__name__}"
        elif remove:
            words = "would be empty" if dry_run else "is empty"
        else:
            words = f"{'would become' if dry_run else 'runs'} {one.bundle_id}"
        words += f", {one.outcome}" if one.outcome else ""
        rows.append((one.target.name, words, str(len(one.changes)), f"{one.seconds:.0f}"))
    if len(done) == 1:
        name, words, changes, seconds = rows[0]
        typer.echo(f"{name}: {words} ({changes} changes), {seconds} s")
    else:
        names, results = (max(len(row[column]) for row in rows) for column in (0, 1))
        for name, words, changes, seconds in rows:
            typer.echo(f"{name:<{names}}  {words:<{results}}  {changes:>7}  {seconds:>4}")
    for one in done:
        if one.error is not None:
            sys.stderr.write(f"edgekit: {one.error}\n")


def _row(one: Flashed) -> dict[str, object]:
    row: dict[str, object] = {
        "target": one.target.name,
        "bundle": one.bundle_id or None,
        "changes": list(one.changes),
        "notes": list(one.notes),
        "warnings": list(one.warnings),
        "outcome": one.outcome or None,
        "seconds": round(one.seconds, 1),
    }
    if one.error is not None:
        row |= {"error": type(one.error).__name__, "message": str(one.error)}
    return row


Hidden = Callable[[], None]


@contextmanager
def _progress(
    targets: Sequence[str], *, quiet: bool
) -> Iterator[tuple[Callable[[str, str, float], None], Hidden | None]]:
    """A line a board on stderr while it is a terminal; else nothing, and steps are printed as they come."""
    if quiet or not sys.stderr.isatty():
        yield (lambda target, words, share: None), None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.fields[board]:<" + str(_TARGET_WIDTH) + "}"),
        BarColumn(10),
        TextColumn("{task.description}"),
    )
    console = Console(stderr=True, no_color="NO_COLOR" in os.environ)
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=len(targets) > 1) as bars:
        tasks: dict[str, object] = {}

        def report(target: str, words: str, share: float) -> None:
            if target not in tasks:
                tasks[target] = bars.add_task("", total=1.0, board=escape(target[-_TARGET_WIDTH:]))
            room = console.width - _TARGET_WIDTH - 24
            bars.update(tasks[target], completed=share, description=escape(words[: max(10, room)]))  # type: ignore[arg-type]

        yield report, bars.stop


def _asker(hide: Hidden | None) -> Callable[[str], str | None]:
    """Asks for a password on a terminal; nobody is asked where there is none."""

    def ask(question: str) -> str | None:
        if not sys.stdin.isatty():
            return None
        import getpass

        if hide is not None:
            hide()
        try:
            return getpass.getpass(question)
        except (EOFError, KeyboardInterrupt):
            return None

    return ask

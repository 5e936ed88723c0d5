"""`edgekit fleet rollout`: a release on many boards, a few at a time."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgekit.cli.fleet_publish import UPDATES, Updates, check_published
from edgekit.cli.terminal import print_json

if TYPE_CHECKING:
    from edgekit.fleet.batch import BoardKey
    from edgekit.fleet.rollouts.state import Rollout
    from edgekit.fleet.store import Store

STORE = "fleet.db"
_Store = Annotated[
    str, typer.Option(envvar="EDGEKIT_STORE", help="A file for SQLite, or postgresql://USER@HOST/DATABASE.")
]
_Json = Annotated[bool, typer.Option("--json", help="One object on stdout.")]
_Number = Annotated[int | None, typer.Argument(metavar="[ROLLOUT]", help="Its number (default: the open one).")]
_Board = Annotated[str, typer.Argument(metavar="SITE.DEVICE")]

app = typer.Typer(
    help="A release on many boards, a few at a time; it stops by itself when boards do worse.",
    rich_markup_mode=None,
    no_args_is_help=True,
)


@app.command(help="Begin: boards are told in waves, and each wave is judged by what its boards report.")
def start(
    bundle: Annotated[str, typer.Argument(metavar="BUNDLE", help="A published bundle: NAME-VERSION or its file.")],
    waves: Annotated[str, typer.Option(help="Cumulative; counts or shares of the boards.")] = "1,10%,50%,100%",
    max_failures: Annotated[
        str, typer.Option(help="Stop above that: a count, or a share of the boards that were told.")
    ] = "20%",
    where: Annotated[str, typer.Option(help="Which boards, e.g. 'kind=pi5 and site=berlin' (default: all).")] = "",
    window: Annotated[str | None, typer.Option(help="Only between these times of day, UTC: 02:00-04:30.")] = None,
    min_reports: Annotated[int, typer.Option(help="Boards of a wave that must report before the next.")] = 1,
    readings: Annotated[int, typer.Option(help="Readings of the new release that are judged, per board.")] = 3,
    board_timeout: Annotated[float, typer.Option(help="Seconds until a board that does not get on failed.")] = 1800.0,
    max_rate: Annotated[int | None, typer.Option(help="Most bytes per second of one board's download.")] = None,
    jitter: Annotated[float, typer.Option(help="Boards begin at a random moment within so many seconds.")] = 0.0,
    gates: Annotated[
        str, typer.Option(help="Against the release before: fps=0.8,p95=1.5,mix=0.5,margin=0.15; NAME=off.")
    ] = "",
    force: Annotated[bool, typer.Option("--force", help="Boards try again what they rejected before.")] = False,
    updates: Updates = UPDATES,
    store: _Store = STORE,
    as_json: _Json = False,
) -> None:
    """Run the verb; see its help."""
    from edgekit.fleet.rollouts import orders
    from edgekit.fleet.rollouts.plan import Plan, parse_limits, parse_waves, parse_window

    plan = Plan(
        parse_waves(waves), max_failures, where, min_reports, readings, board_timeout,
        parse_window(window), max_rate, jitter, force, parse_limits(gates),
    )  # fmt: skip
    named = bundle_id(bundle)
    check_published(named, updates)
    with _opened(store) as opened:
        begun = orders.start(opened, named, plan, _who())
        _show(opened, begun, as_json, "it goes on while this runs: edgekit fleet up")


@app.command(help="Tell no other board; those on their way are judged.")
def pause(rollout: _Number = None, store: _Store = STORE, as_json: _Json = False) -> None:
    """Run the verb; see its help."""
    _order("pause", rollout, store, as_json, "edgekit fleet rollout resume")


@app.command(help="Go on with a paused rollout.")
def resume(rollout: _Number = None, store: _Store = STORE, as_json: _Json = False) -> None:
    """Run the verb; see its help."""
    _order("resume", rollout, store, as_json, "edgekit fleet rollout status")


@app.command(help="End it, and take every board it touched back to the release it had.")
def abort(rollout: _Number = None, store: _Store = STORE, as_json: _Json = False) -> None:
    """Run the verb; see its help."""
    _order("abort", rollout, store, as_json, "edgekit fleet rollout status")


@app.command(help="Where rollouts stand; without a number the open ones and the last.")
def status(rollout: _Number = None, store: _Store = STORE, as_json: _Json = False) -> None:
    """Run the verb; see its help."""
    from edgekit.errors import UsageError
    from edgekit.fleet.rollouts.picture import in_words, look, overview
    from edgekit.fleet.rollouts.state import OPEN
    from edgekit.fleet.web.drawing import plain

    now_ms = int(time.time() * 1000)
    with _opened(store) as opened:
        if rollout is None:
            shown = overview(opened, now_ms)
            shown = [each for each in shown if each.rollout.state in OPEN] or shown[:1]
        else:
            one = look(opened, rollout, now_ms)
            if one is None:
                raise UsageError(f"there is no rollout {rollout}; see: edgekit fleet rollout status")
            shown = [one]
    if as_json:
        print_json({"rollouts": [each.to_json() for each in shown]})
        return
    for each in shown:
        typer.echo("\n".join(in_words(each, plain)))
    if not shown:
        typer.echo("no rollout yet\nnext: edgekit fleet rollout start BUNDLE")


@app.command(help="Let a board keep its release, whatever goes out.")
def pin(board: _Board, reason: Annotated[str, typer.Option(help="Why.")] = "", store: _Store = STORE) -> None:
    """Run the verb; see its help."""
    from edgekit.fleet.rollouts import orders

    with _opened(store) as opened:
        orders.pin(opened, _board(board), _who(), reason)
    typer.echo(f"{board} keeps its release\nnext: edgekit fleet rollout unpin {board}")


@app.command(help="Let a pinned board update again.")
def unpin(board: _Board, store: _Store = STORE) -> None:
    """Run the verb; see its help."""
    from edgekit.fleet.rollouts import orders

    with _opened(store) as opened:
        orders.unpin(opened, _board(board), _who())
    typer.echo(f"{board} updates again, with the next rollout")


def bundle_id(named: str) -> str:
    """``NAME-VERSION``; a bundle's file is asked what it is.

    Raises:
        EdgeKitError: It is neither, or nobody signed it whose key is here.
    """
    from edgekit_device.bundle import open_bundle, trusted_keys
    from edgekit_device.contract.ids import split_bundle_id

    path = Path(named)
    if path.suffix == ".edgekit":
        return open_bundle(path, trusted_keys())[0].manifest.bundle_id
    split_bundle_id(named)
    return named


def _order(name: str, number: int | None, store: str, as_json: bool, following: str) -> None:
    from edgekit.fleet.rollouts import orders

    with _opened(store) as opened:
        chosen = orders.newest(opened).number if number is None else number
        changed = getattr(orders, name)(opened, chosen, _who())
        _show(opened, changed, as_json, f"next: {following} {chosen}")


def _show(opened: Store, rollout: Rollout, as_json: bool, following: str) -> None:
    from edgekit.fleet.rollouts.picture import in_words, look
    from edgekit.fleet.web.drawing import plain

    shown = look(opened, rollout.number, int(time.time() * 1000))
    assert shown is not None
    if as_json:
        print_json(shown.to_json())
    else:
        typer.echo("\n".join([*in_words(shown, plain), following]))


def _opened(store: str) -> Store:
    from edgekit.cli.fleet import store_url
    from edgekit.fleet.store import Store

    return Store(store_url(store, must_exist=True))


def _board(text: str) -> BoardKey:
    from edgekit.fleet.watching import board_named

    return board_named(text)


def _who() -> str:
    from edgekit.person import command_line

    return command_line()

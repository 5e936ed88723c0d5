"""`edgekit fleet`: collect, status, export, simulate."""

from __future__ import annotations

import signal
import sys
import threading
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgekit.cli import (
    fleet_audit,
    fleet_backup,
    fleet_logs,
    fleet_publish,
    fleet_rollout,
    fleet_trust,
    fleet_up,
    fleet_users,
)
from edgekit.cli.terminal import print_json

if TYPE_CHECKING:
    from edgekit.fleet.snapshot import FleetSnapshot
    from edgekit.fleet.swarm import SwarmResult

HELP = "Watch boards: collect what they send, ask what is stored, export it, simulate a fleet."
BROKER, STORE = "mqtt://127.0.0.1:1883", "fleet.db"


class HomeAssistant(StrEnum):
    """What to do there."""

    ANNOUNCE = "announce"
    REMOVE = "remove"


app = typer.Typer(help=HELP, rich_markup_mode=None, no_args_is_help=True)
fleet_trust.register(app)
fleet_backup.register(app)

app.command(help="Broker, collector, store and dashboard as one program, until Ctrl-C.")(fleet_up.up)
app.command(help="The fleet in the terminal, live: what is wrong first.")(fleet_up.top)
app.command(help="Alerts that stand.")(fleet_up.alerts)
app.command(help="What a board said last, and its doctor, asked over MQTT; noted in the audit log.")(fleet_logs.logs)
app.command(help="Who did what to which board, newest first.")(fleet_audit.audit)
app.add_typer(fleet_rollout.app, name="rollout", help="A release on many boards, a few at a time.")
app.command(help=fleet_publish.HELP)(fleet_publish.publish)
app.add_typer(fleet_users.app, name="user", help="Who may log in to the dashboard.")

_Broker = Annotated[str, typer.Option(envvar="EDGEKIT_BROKER", help="mqtt://HOST:PORT, or mqtts:// for TLS.")]
_Store = Annotated[
    str, typer.Option(envvar="EDGEKIT_STORE", help="A file for SQLite, or postgresql://USER@HOST/DATABASE.")
]
_Json = Annotated[bool, typer.Option("--json", help="One object on stdout.")]


@app.command(help="Store what boards send and acknowledge it; run it on several machines with one PostgreSQL to grow.")
def collect(
    broker: _Broker = BROKER,
    store: _Store = STORE,
    name: Annotated[str | None, typer.Option(help="This collector's own name (default: the machine's).")] = None,
    alone: Annotated[bool, typer.Option("--alone", help="Take every message; share with no other collector.")] = False,
    keep_days: Annotated[float, typer.Option(help="How long single Readings are kept.", min=0.01)] = 30.0,
    ack_s: Annotated[float, typer.Option(help="Longest wait before boards hear what is stored.", min=0.1)] = 30.0,
    home_assistant: Annotated[
        HomeAssistant | None,
        typer.Option("--home-assistant", help="Announce every board to Home Assistant on this broker, or remove them."),
    ] = None,
    seconds: Annotated[float | None, typer.Option(help="Stop after so long (default: when interrupted).")] = None,
    as_json: _Json = False,
) -> None:
    """Run the verb; see its help."""
    from edgekit.fleet.access import broker_address
    from edgekit.fleet.operation import Duty, default_name, report
    from edgekit.fleet.operation import collect as run
    from edgekit.fleet.retention import Keep

    shown = home_assistant.value if home_assistant else None
    keep = Keep(raw_days=keep_days)
    duty = Duty(name=name or default_name(), alone=alone, keep=keep, ack_s=ack_s, home_assistant=shown)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    if seconds is not None:
        timer = threading.Timer(seconds, stop.set)
        timer.daemon = True
        timer.start()

    def say(latest: FleetSnapshot) -> None:
        if not as_json:
            typer.echo(_line(report(latest)))

    done = run(broker_address(broker), store_url(store), duty, stop, say)
    if as_json:
        print_json(report(done))
    else:
        typer.echo(f"{_line(report(done))}\nnext: edgekit fleet status --store {store}")


@app.command(help="What is stored: boards, online, messages, gaps; with --watch, what one board says now.")
def status(
    store: _Store = STORE,
    watch: Annotated[
        str | None,
        typer.Option(metavar="SITE.DEVICE", help="Ask this board for a Reading every two seconds, and print them."),
    ] = None,
    broker: _Broker = BROKER,
    seconds: Annotated[float | None, typer.Option(help="Watch for so long (default: until Ctrl-C).")] = None,
    as_json: _Json = False,
) -> None:
    """Run the verb; see its help."""
    from edgekit.fleet.operation import status as ask

    if watch is not None:
        _watch(watch, broker, seconds, as_json)
        return
    found = ask(store_url(store, must_exist=True))
    if as_json:
        print_json(found)
        return
    typer.echo(f"{found['online']} of {found['boards']} boards online")
    typer.echo(f"{found['stored']} messages stored, {found['rows']} of them still here as rows")
    typer.echo(f"{found['gaps']} missing, {found['dropped']} dropped by boards for space, {found['rejected']} rejected")
    late = f"{found['delayed']} came late, {found['late']} more than a week late, {found['ahead']} from the future"
    typer.echo(late)
    typer.echo(f"next: edgekit fleet export --store {store} -o readings.csv")


@app.command(help="Write Readings to a CSV or Parquet file.")
def export(
    output: Annotated[Path, typer.Option("-o", "--output", help="The file.")],
    store: _Store = STORE,
    kind: Annotated[str | None, typer.Option("--format", help="csv or parquet (default: by the file's name).")] = None,
    since: Annotated[
        str | None, typer.Option(help="Made at that time or later: 2026-11-22 or 2026-11-22T10:00.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Made before that time; times are UTC.")] = None,
    site: Annotated[str | None, typer.Option(help="Only this site.")] = None,
    device: Annotated[str | None, typer.Option(help="Only boards of this id.")] = None,
    as_json: _Json = False,
) -> None:
    """Run the verb; see its help."""
    from edgekit.fleet.export import export as write
    from edgekit.fleet.store import Store

    kind = kind or ("parquet" if output.suffix == ".parquet" else "csv")
    with Store(store_url(store, must_exist=True)) as opened:
        rows = write(opened, output, kind, since=_time(since), until=_time(until), site=site, device=device)
    if as_json:
        print_json({"path": str(output), "format": kind, "rows": rows})
    else:
        typer.echo(f"{output}: {rows} Readings as {kind}")


@app.command(help="Boards that are not there: they send, reboot, vanish and come back, until all is acknowledged.")
def simulate(
    boards: Annotated[int, typer.Option("-n", "--boards", help="How many.", min=1, max=20_000)],
    rate: Annotated[float, typer.Option(help="Readings per second and board.", min=0.001, max=100)] = 0.1,
    seconds: Annotated[float, typer.Option(help="How long they make Readings.", min=0.1)] = 60.0,
    broker: Annotated[
        str | None,
        typer.Option(envvar="EDGEKIT_BROKER", help="mqtt://HOST:PORT (default: one of its own, with a collector)."),
    ] = None,
    calm: Annotated[bool, typer.Option("--calm", help="They never reboot, vanish, overheat or lose the time.")] = False,
    wait: Annotated[float, typer.Option(help="Longest wait for the acks at the end.", min=0)] = 180.0,
    patience: Annotated[float, typer.Option(help="Seconds without an ack before a message is sent again.")] = 60.0,
    prefix: Annotated[str, typer.Option(help="How the boards' ids begin; two runs at once need two.")] = "board",
    seed: Annotated[int, typer.Option(help="The same seed makes the same boards.")] = 0,
    follow: Annotated[bool, typer.Option("--follow", help="They follow rollouts: download, try, commit.")] = False,
    repository: Annotated[
        str | None, typer.Option(help="With --follow: fetch real bytes from http://HOST:PORT/updates/.")
    ] = None,
    bad: Annotated[
        list[str] | None, typer.Option(metavar="NAME-VERSION", help="With --follow: a release that is rolled back.")
    ] = None,
    slow: Annotated[
        list[str] | None, typer.Option(metavar="NAME-VERSION", help="With --follow: one that makes fewer frames.")
    ] = None,
    bad_share: Annotated[float, typer.Option(help="On so many of the boards.", min=0, max=1)] = 1.0,
    trial: Annotated[float, typer.Option(help="With --follow: seconds that a release is tried.", min=0)] = 45.0,
    ledger: Annotated[Path | None, typer.Option(help="Write what was made, for comparing with a store.")] = None,
    as_json: _Json = False,
) -> None:
    """Run the verb; see its help."""
    from edgekit.errors import UsageError
    from edgekit.fleet.simulated_fleet import simulate_fleet
    from edgekit.fleet.simulated_updates import Updating
    from edgekit.fleet.simulation import CALM, Habits
    from edgekit.fleet.swarm import SwarmOptions
    from edgekit_device.publish.broker_url import parse_broker_url

    usual = CALM if calm else Habits()
    habits = Habits(**{**asdict(usual), "rate_hz": rate})
    shown = not as_json and sys.stderr.isatty()
    if (repository or bad or slow) and not follow:
        raise UsageError("--repository, --bad and --slow are for boards that follow rollouts; add --follow")
    updating = Updating(
        trial_s=trial,
        bad=frozenset(bad or ()),
        slow=frozenset(slow or ()),
        bad_share=bad_share,
        repository=repository.rstrip("/") + "/" if repository else None,
    )

    def say(result: SwarmResult) -> None:
        if shown:
            text = f"{result.made} made, {result.sent} sent, {result.acked} acknowledged"
            sys.stderr.write(f"\r{text}{f'  ({result.problem})' if result.problem else ''}\033[K")

    done = simulate_fleet(
        parse_broker_url(broker) if broker else None,
        boards,
        habits=habits,
        updating=updating if follow else None,
        options=SwarmOptions(seconds=seconds, wait_s=wait, patience_s=patience),
        prefix=prefix,
        seed=seed,
        ledger_path=ledger,
        progress=say,
    )
    if shown:
        sys.stderr.write("\n")
    if as_json:
        print_json({key: value for key, value in asdict(done).items() if key != "problem"})
    else:
        typer.echo(f"{done.boards} boards: {done.made} made, {done.sent} sent, {done.acked} acknowledged")


def _watch(board: str, broker: str, seconds: float | None, as_json: bool) -> None:
    from edgekit.fleet.access import broker_address
    from edgekit.fleet.live import spoken
    from edgekit.fleet.watching import board_named, watch
    from edgekit_device.contract.telemetry import Reading

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    if seconds is not None:
        timer = threading.Timer(seconds, stop.set)
        timer.daemon = True
        timer.start()
    for heard in watch(broker_address(broker), board_named(board), stop):
        if not as_json:
            typer.echo(spoken(heard))
        elif isinstance(heard, Reading):
            print_json(heard.to_json())


def store_url(store: str, *, must_exist: bool = False) -> str:
    """An SQLAlchemy URL; a plain path is a SQLite file."""
    from edgekit.errors import UsageError
    from edgekit.fleet.database import sqlite_url

    if "://" in store:
        return store
    path = Path(store).expanduser()
    if must_exist and not path.exists():
        raise UsageError(f"{store}: there is no such store; name one with --store, or collect into it first")
    return sqlite_url(path)


def _time(text: str | None) -> datetime | None:
    from edgekit.errors import UsageError

    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError as cause:
        raise UsageError(f"{text!r} is no time; write it like 2026-11-22 or 2026-11-22T10:00 (UTC)") from cause
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _line(found: dict[str, object]) -> str:
    lag = f", {found['lag_p99_ms']} ms p99 from made to stored" if found["lag_p99_ms"] is not None else ""
    problem = f"\n  {found['problem']}" if found["problem"] else ""
    return f"{found['online']} of {found['boards']} boards online, {found['stored']} stored{lag}{problem}"

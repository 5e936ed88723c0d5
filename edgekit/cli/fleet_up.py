"""`edgekit fleet up`, `top`, `alerts`: the dashboard and what belongs to it on the command line."""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgekit.cli.fleet_publish import UPDATES, Updates, offered_in, served
from edgekit.cli.terminal import print_json
from edgekit.enlisting import DASHBOARD_PORT

if TYPE_CHECKING:
    from edgekit.fleet.web.serving import Certificate

STORE, PORT = "fleet.db", DASHBOARD_PORT
_Store = Annotated[
    str, typer.Option(envvar="EDGEKIT_STORE", help="A file for SQLite, or postgresql://USER@HOST/DATABASE.")
]
_Json = Annotated[bool, typer.Option("--json", help="One object on stdout.")]
_Config = Annotated[Path, typer.Option("--config", help="fleet.toml, for its [alerts] part.")]
_CONFIG = Path("fleet.toml")


def up(
    broker: Annotated[
        str | None,
        typer.Option(envvar="EDGEKIT_BROKER", help="mqtt://HOST:PORT (default: one of its own, on loopback)."),
    ] = None,
    local: Annotated[
        bool, typer.Option("--local", help="The embedded broker on loopback, although fleet init has been done.")
    ] = False,
    store: _Store = STORE,
    port: Annotated[int, typer.Option(help="Port of the dashboard; 0 chooses one.", min=0, max=65535)] = PORT,
    host: Annotated[
        str, typer.Option(help="Address of the dashboard; beyond loopback only after fleet init.")
    ] = "127.0.0.1",
    broker_port: Annotated[
        int, typer.Option(help="Port of the broker of its own; 0 chooses one.", min=0, max=65535)
    ] = 1883,
    bundles: Annotated[
        Path, typer.Option(help="Folder with your .edgekit files: their baselines and labels.")
    ] = Path(),
    updates: Updates = UPDATES,
    config: _Config = _CONFIG,
    cert: Annotated[Path | None, typer.Option(help="TLS certificate chain, PEM.")] = None,
    key: Annotated[Path | None, typer.Option(help="Its key, PEM.")] = None,
    name: Annotated[list[str] | None, typer.Option(help="A host name browsers use for it; may be given again.")] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="File with the token for Prometheus and scripts (Authorization: Bearer).")
    ] = None,
    proxy_header: Annotated[str | None, typer.Option(help="Header in which your proxy names the user.")] = None,
    proxy_from: Annotated[list[str] | None, typer.Option(help="Address of that proxy; may be given again.")] = None,
    keep_days: Annotated[float, typer.Option(help="How long single Readings are kept.", min=0.01)] = 30.0,
    alone: Annotated[bool, typer.Option("--alone", help="Take every message; share with no other collector.")] = False,
    home_assistant: Annotated[
        bool, typer.Option("--home-assistant", help="Show boards and their updates in Home Assistant on this broker.")
    ] = False,
    seconds: Annotated[float | None, typer.Option(help="Stop after so long (default: when interrupted).")] = None,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    as_json: _Json = False,
) -> None:
    """Run the verb; see its help."""
    from edgekit.cli.fleet import store_url
    from edgekit.cli.fleet_own import own_fleet
    from edgekit.errors import UsageError
    from edgekit.fleet.access import broker_address
    from edgekit.fleet.alerts_rules import read_alerts
    from edgekit.fleet.operation import Duty
    from edgekit.fleet.retention import Keep
    from edgekit.fleet.up import Plan, fleet_folder, is_initialised, report
    from edgekit.fleet.up import up as run
    from edgekit.fleet.web.running import DashboardOptions

    if config != _CONFIG and not config.exists():
        raise UsageError(f"--config {config}: there is no such file")
    initialised = is_initialised(fleet_folder())
    if initialised and not config.exists():
        config = fleet_folder() / "fleet.toml"
    if proxy_header and not proxy_from:
        raise UsageError("--proxy-header needs --proxy-from: anybody else could write that header too")
    rules, outlets = read_alerts(config)
    options = DashboardOptions(
        rules,
        outlets,
        bundles,
        _certificate(cert, key),
        tuple(name or ()),
        program_token=_token(token_file),
        proxy_header=proxy_header.lower() if proxy_header else None,
        proxy_addresses=tuple(proxy_from or ()),
    )
    plan = Plan(
        store_url(store),
        broker_address(broker) if broker else None,
        broker_port,
        host,
        port,
        Duty(alone=alone, keep=Keep(raw_days=keep_days), home_assistant="announce" if home_assistant else None),
        options,
        offered=lambda: offered_in(updates),
    )
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with ExitStack() as stack:
        if initialised and broker is None and not local:
            plan = stack.enter_context(own_fleet(plan, stop))
        plan = stack.enter_context(served(plan, updates, stop))
        running = stack.enter_context(run(plan))
        if as_json:
            print_json(report(running))
            sys.stdout.flush()
        else:
            where = (
                "its own, on this machine only" if running.embedded else "the fleet's own" if plan.broker else "yours"
            )
            typer.echo(f"broker     {running.broker.url} ({where})")
            typer.echo(f"store      {store}")
            typer.echo(f"dashboard  {running.dashboard.url}")
            typer.echo("Ctrl-C ends; what was taken is stored first.")
        if open_browser:
            typer.launch(running.dashboard.url)
        stop.wait(seconds)
    if not as_json:
        typer.echo(f"stopped\nnext: edgekit fleet status --store {store}")


def top(
    store: _Store = STORE,
    config: _Config = _CONFIG,
    bundles: Annotated[Path, typer.Option(help="Folder with your .edgekit files.")] = Path(),
    every: Annotated[float, typer.Option(help="Seconds between two looks.", min=0.2)] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Look once and end; also where stdout is no terminal.")] = False,
    as_json: _Json = False,
) -> None:
    """Run the verb; see its help."""
    from edgekit.cli.fleet import store_url
    from edgekit.fleet import top as view
    from edgekit.fleet.alerts_rules import read_alerts
    from edgekit.fleet.store import Store
    from edgekit.fleet.web.baselines import read_baselines

    rules, _ = read_alerts(config)
    baselines = read_baselines(bundles)
    with Store(store_url(store, must_exist=True)) as opened:
        if as_json:
            print_json(view.as_json(view.look(opened, rules, baselines)))
            return
        from rich.console import Console

        console = Console(no_color="NO_COLOR" in os.environ, highlight=False)
        if once or not sys.stdout.isatty():
            console.print(view.render(view.look(opened, rules, baselines), console.width, 1000))
            return
        view.live(opened, rules, baselines, every, console)


def alerts(
    store: _Store = STORE,
    as_json: _Json = False,
) -> None:
    """Run the verb; see its help."""
    import time

    from edgekit.cli.fleet import store_url
    from edgekit.fleet import alerts_records as records
    from edgekit.fleet.alerts_judging import duration
    from edgekit.fleet.alerts_state import Ledger
    from edgekit.fleet.store import Store
    from edgekit.fleet.web.drawing import plain
    from edgekit.fleet.web.tables import settle

    now_ms = int(time.time() * 1000)
    with Store(store_url(store, must_exist=True)) as opened:
        settle(opened)
        standing = Ledger(records.standing(opened, now_ms)).standing()
    if as_json:
        rows = [
            {
                **a.key.board._asdict(),
                "kind": a.key.kind,
                "severity": a.severity,
                "text": a.text,
                "since_ms": a.since_ms,
            }
            for a in standing
        ]
        print_json({"alerts": rows})
        return
    for alert in standing:
        known = f" ({alert.acknowledged_by} knows)" if alert.acknowledged_by else ""
        lasted = duration((now_ms - alert.since_ms) / 1000)
        who = "/".join(alert.key.board)
        typer.echo(f"{alert.severity:<8} {who:<30} {lasted:>6}  {alert.key.kind}: {plain(alert.text, 200)}{known}")
    typer.echo(f"{len(standing)} alerts stand")


def _certificate(cert: Path | None, key: Path | None) -> Certificate | None:
    from edgekit.errors import UsageError
    from edgekit.fleet.web.serving import Certificate

    if cert is None and key is None:
        return None
    if cert is None or key is None:
        raise UsageError("--cert and --key go together")
    for path in (cert, key):
        if not path.is_file():
            raise UsageError(f"{path}: there is no such file")
    return Certificate(cert, key)


def _token(path: Path | None) -> str | None:
    from edgekit.errors import UsageError

    if path is None:
        return None
    try:
        token = path.read_text("utf-8").strip()
    except OSError as cause:
        raise UsageError(f"--token-file {path}: {cause.strerror}") from cause
    if len(token) < 24:
        raise UsageError(f"--token-file {path}: take at least 24 characters, e.g. from: openssl rand -hex 24")
    return token

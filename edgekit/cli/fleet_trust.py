"""`edgekit fleet`: init, broker, enroll, revoke, rotate, list."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgekit.cli.fleet_backup import passphrase
from edgekit.cli.terminal import print_json

if TYPE_CHECKING:
    from edgekit.trust.fleet_folder import Fleet
    from edgekit.trust.registry import Member

_Json = Annotated[bool, typer.Option("--json", help="One object on stdout.")]
_Folder = Annotated[
    Path | None, typer.Option("--fleet", envvar="EDGEKIT_FLEET", help="The fleet folder (~/.config/edgekit/fleet).")
]
_Passphrase = Annotated[
    Path | None,
    typer.Option("--passphrase-file", help="File with a passphrase; else EDGEKIT_KEY_PASSPHRASE or its _FILE."),
]
_Board = Annotated[str, typer.Argument(metavar="SITE.DEVICE", help="The board, for example home.porch.")]


def register(app: typer.Typer) -> None:
    """Add these verbs to `edgekit fleet`."""
    app.command(help="Make a fleet: authority, broker certificate, accounts, keys; run again to finish one.")(init)
    app.command(help="Run the fleet's broker (mosquitto, TLS, MQTT 5) and enrolment; stop with Ctrl-C.")(broker)
    app.command(help="Make a one-time token with which a board joins; it lives 15 minutes.")(enroll)
    app.command(help="Throw a board out: cut within seconds, never renewed.")(revoke)
    app.command(help="Void a board's password and certificate; it fetches new ones by itself, with its own key.")(
        rotate
    )
    app.command("list", help="Who belongs to the fleet, and until when.")(list_members)


def init(
    folder: _Folder = None,
    name: Annotated[str, typer.Option(help="Of the fleet.")] = "fleet",
    host: Annotated[
        list[str] | None, typer.Option(help="Name or address of this machine; repeat. Default: those it has.")
    ] = None,
    listen: Annotated[str, typer.Option(help="Address the broker listens on (default: all).")] = "",
    port: Annotated[int, typer.Option(help="MQTT 5 over TLS.")] = 8883,
    enroll_port: Annotated[int, typer.Option(help="HTTPS for enrolment.")] = 8884,
    require_certificate: Annotated[
        bool, typer.Option("--require-certificate", help="Boards must show a certificate before any word of MQTT.")
    ] = False,
    passphrase_file: _Passphrase = None,
    ask: Annotated[bool, typer.Option("--protect", help="Ask for a passphrase for signing and update keys.")] = False,
    as_json: _Json = False,
) -> None:
    """Run the verb; see its help."""
    from edgekit.trust import authority
    from edgekit.trust.fleet_settings import FleetSettings, default_hosts
    from edgekit.trust.founding import init as make

    settings = FleetSettings(name, tuple(host or default_hosts()), listen, port, enroll_port, require_certificate)
    fleet, made = make(folder, settings, passphrase(passphrase_file, ask=ask))
    pin = authority.fingerprint(fleet.authority.certificate)
    if as_json:
        print_json({"folder": str(fleet.folder), "made": made, "authority_sha256": pin, "hosts": fleet.settings.hosts})
        return
    typer.echo(f"{fleet.folder}: {', '.join(made) if made else 'complete already; nothing was changed'}")
    typer.echo(f"boards reach it as {', '.join(fleet.settings.hosts)}; change that in fleet.toml")
    typer.echo("back up now: whoever loses this folder enrols every board again; whoever gets it is the fleet.")
    typer.echo("  edgekit fleet backup fleet.backup --passphrase-file FILE   # and keep it off this machine")
    typer.echo("next: edgekit fleet broker, then: edgekit fleet enroll SITE.DEVICE")


def broker(
    folder: _Folder = None,
    loopback: Annotated[
        bool, typer.Option("--loopback", help="The embedded broker instead: this machine only, no accounts.")
    ] = False,
    existing: Annotated[
        bool, typer.Option("--existing", help="Start no broker: one that was given this fleet's files runs already.")
    ] = False,
    show: Annotated[
        bool, typer.Option("--print", help="Print a configuration for an existing mosquitto, and the rules in words.")
    ] = False,
    port: Annotated[int, typer.Option(help="Of the embedded broker.")] = 1883,
    as_json: _Json = False,
) -> None:
    """Run the verb; see its help."""
    from edgekit.trust.fleet_folder import Fleet

    fleet = Fleet(folder)
    if show:
        _print_rules(fleet)
        return
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    if loopback:
        from edgekit.fleet.broker import EmbeddedBroker

        with EmbeddedBroker(port) as embedded:
            _announce({"broker": embedded.url, "enroll": None}, as_json)
            stop.wait()
        return
    from edgekit.trust.upkeep import Service

    service = Service(fleet, own_broker=not existing, say=_say)
    service.start()
    try:
        settings = fleet.settings
        if os.geteuid() == 0:
            sys.stderr.write("edgekit: the broker runs as root; a user of its own would be safer\n")
        host = settings.url_host
        found = {"broker": f"mqtts://{host}:{settings.port}", "enroll": f"https://{host}:{settings.enroll_port}"}
        _announce(found, as_json)
        service.run(stop)
    finally:
        service.stop()


def enroll(
    board: _Board,
    folder: _Folder = None,
    again: Annotated[
        bool, typer.Option("--again", help="Also for a member or a revoked board; its old identity ends.")
    ] = False,
    collector: Annotated[
        bool, typer.Option("--collector", help="Not a board: an account for a collector of this NAME.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write the token to a file (0600) instead of stdout.")
    ] = None,
    as_json: _Json = False,
) -> None:
    """Run the verb; see its help."""
    from edgekit.artefacts import write_atomically
    from edgekit.person import command_line
    from edgekit.trust.enrolment import Enrolment
    from edgekit.trust.fleet_folder import Fleet
    from edgekit.trust.founding import add_collector
    from edgekit_device.contract.ids import check_id

    fleet = Fleet(folder)
    fleet.must_exist()
    if collector:
        add_collector(fleet, check_id("collector", board), fresh=again)
        path = fleet.account_file(f"collector-{board}")
        if as_json:
            print_json({"collector": board, "account": str(path)})
        else:
            typer.echo(
                f"{path}: the account of collector {board}; where it runs, EDGEKIT_BROKER_ACCOUNT names the file"
            )
        return
    invitation = Enrolment(fleet).invite(board, again=again, by=command_line())
    text = invitation.to_text()
    if output is not None:
        write_atomically(output, text.encode() + b"\n", mode=0o600)
    if as_json:
        print_json({"board": board, "token": None if output else text, "path": str(output) if output else None})
        return
    typer.echo(str(output) if output else text)
    sys.stderr.write("good for 15 minutes and one board. On the board: edgekit-device enroll, and paste it\n")


def revoke(board: _Board, folder: _Folder = None, as_json: _Json = False) -> None:
    """Run the verb; see its help."""
    from edgekit.trust.registry import REVOKED

    _set_state(folder, board, REVOKED, as_json)


def rotate(board: _Board, folder: _Folder = None, as_json: _Json = False) -> None:
    """Run the verb; see its help."""
    from edgekit.trust.registry import ROTATING

    _set_state(folder, board, ROTATING, as_json)


def list_members(folder: _Folder = None, as_json: _Json = False) -> None:
    """Run the verb; see its help."""
    from edgekit.trust.fleet_folder import Fleet

    members = sorted(Fleet(folder).registry.members(), key=lambda member: member.account.name)
    if as_json:
        print_json({"members": [_row(member) for member in members]})
        return
    for member in members:
        row = _row(member)
        until = f"certificate until {row['until']}" if row["until"] else ""
        typer.echo(
            f"{row['name']:<40} {row['role']:<14} {row['state']:<9} {until}{' EXPIRED' if row['expired'] else ''}"
        )


def _set_state(folder: Path | None, board: str, state: str, as_json: bool) -> None:
    from edgekit.person import command_line
    from edgekit.trust.fleet_folder import Fleet

    Fleet(folder).registry.set_state(board, state, time.time(), command_line())
    text = f"{board}: {state}; the running `edgekit fleet broker` acts within seconds"
    print_json({"board": board, "state": state}) if as_json else typer.echo(text)


def _row(member: Member) -> dict[str, object]:
    until = datetime.fromtimestamp(member.until_s, UTC) if member.until_s else None
    return {
        "name": member.account.name,
        "role": member.account.role,
        "state": member.state,
        "until": f"{until:%Y-%m-%d}" if until else None,
        "expired": bool(until and until < datetime.now(UTC)),
    }


def _say(line: str) -> None:
    sys.stderr.write(f"edgekit: {line}\n")


def _announce(found: Mapping[str, str | None], as_json: bool) -> None:
    if as_json:
        print_json(found)
        sys.stdout.flush()
    else:
        typer.echo(f"broker at {found['broker']}" + (f", enrolment at {found['enroll']}" if found["enroll"] else ""))


def _print_rules(fleet: Fleet) -> None:
    from edgekit.trust import mosquitto
    from edgekit.trust.rules import in_words

    fleet.must_exist()
    folder = fleet.folder / "broker"
    plugin = mosquitto.find_plugin() or "PATH/mosquitto_dynamic_security.so"
    typer.echo(mosquitto.configuration(fleet, folder, str(plugin)))
    typer.echo(f"# The files it names lie in {folder} once `edgekit fleet broker` has run there; then: --existing")
    typer.echo("\n# For any other broker: TLS with the fleet's authority, MQTT 5 only (3.1.1 shows no refusals), no")
    typer.echo("# anonymous clients, client id = user name, and these rules; whatever is not in them is refused:\n")
    typer.echo(in_words())

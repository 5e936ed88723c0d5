"""`edgekit sdcard`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.terminal import megabytes, print_json

HELP = (
    "Write first-boot files for a fresh Raspberry Pi OS card: it comes up enrolled and running. Files only, no device."
)


def sdcard(
    bundle: Annotated[str, typer.Argument(help="The .edgekit file, its .minisig beside it.")],
    system: Annotated[str, typer.Option("--os", help="What the card holds: trixie or bookworm (64 bit).")],
    out: Annotated[Path, typer.Option("-o", "--output", help="The card's mounted boot partition, or a folder.")],
    device_id: Annotated[str, typer.Option("--id", help="The board's id, which is its host name too.")],
    site: Annotated[str, typer.Option(help="The board's site.")] = "home",
    source: Annotated[str | None, typer.Option(help="Where its frames come from (default: auto).")] = None,
    broker: Annotated[str | None, typer.Option(help="mqtt://host:port for the board, instead of your fleet.")] = None,
    updates_url: Annotated[
        str | None, typer.Option(help="Where it fetches updates (default: port 8080 of your fleet).")
    ] = None,
    user: Annotated[str, typer.Option(help="Who may log in, with your SSH key and no password.")] = "pi",
    ssh_key: Annotated[Path | None, typer.Option(help="Another public key than ~/.ssh/id_*.pub.")] = None,
    wifi: Annotated[str | None, typer.Option(help="Name of the Wi-Fi; a cable needs nothing.")] = None,
    wifi_passphrase_file: Annotated[Path | None, typer.Option(help="File with its passphrase.")] = None,
    wifi_country: Annotated[str, typer.Option(help="Where the radio is, such as DE.")] = "",
    token_hours: Annotated[
        float, typer.Option(help="How long the card can enrol; until then who reads it can join as this board.")
    ] = 24.0,
    wheels: Annotated[Path | None, typer.Option(help="Another folder of wheels than the cache.")] = None,
    pubkey: Annotated[Path | None, typer.Option(help="The signer's public key (default: your own).")] = None,
    fleet: Annotated[Path | None, typer.Option(envvar="EDGEKIT_FLEET", help="The fleet folder.")] = None,
    no_enroll: Annotated[bool, typer.Option("--no-enroll", help="Put no token on the card.")] = False,
    enroll_again: Annotated[bool, typer.Option("--enroll-again", help="Also under a name that is taken.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One object on stdout.")] = False,
) -> None:
    """Run the verb; see HELP."""
    from edgekit.card_making import Network, make_card
    from edgekit.errors import UsageError

    if (wifi is None) != (wifi_passphrase_file is None):
        raise UsageError("--wifi and --wifi-passphrase-file belong together")
    network = Network(wifi, wifi_passphrase_file, wifi_country) if wifi and wifi_passphrase_file else None
    settings = {"site": site, "id": device_id, "source": source, "broker": broker, "updates": updates_url}
    done = make_card(
        bundle,
        system,
        out,
        settings={key: value for key, value in settings.items() if value is not None},
        ssh_key=ssh_key,
        user=user,
        network=network,
        wheels=wheels,
        public_key=pubkey,
        fleet=fleet,
        enroll=not no_enroll,
        enroll_again=enroll_again,
        token_hours=token_hours,
    )
    if as_json:
        print_json(
            {
                "folder": str(done.folder),
                "files": list(done.files),
                "bytes": done.bytes,
                "board": done.board,
                "token_hours": done.token_hours,
                "boot_line": done.boot_line or None,
            }
        )
        return
    typer.echo(f"{done.folder}: {len(done.files)} files, {megabytes(done.bytes)}, for {done.board} on {system}")
    if done.token_hours is not None:
        typer.echo(
            f"its token is good for {done.token_hours:g} h and once: until then, who reads the card can join as "
            f"{done.board}"
        )
    else:
        typer.echo("no fleet: the board will run and belong to nobody")
    if done.boot_line:
        typer.echo(f"add to the one line of the card's cmdline.txt:\n  {done.boot_line}")
    typer.echo("next: put the files on the card's boot partition, boot the board, then: edgekit fleet status")

"""`edgekit fleet logs`: what a board said last, and its doctor, asked over MQTT."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgekit.cli.terminal import print_json

if TYPE_CHECKING:
    from edgekit_device.contract.asking import Answer

_STORE, _BROKER = "fleet.db", "mqtt://127.0.0.1:1883"


def logs(
    board: Annotated[str, typer.Argument(metavar="SITE.DEVICE", help="The board, for example home.porch.")],
    doctor: Annotated[bool, typer.Option(help="Also run the board's doctor, up to a minute.")] = True,
    broker: Annotated[
        str, typer.Option(envvar="EDGEKIT_BROKER", help="mqtt://HOST:PORT, or mqtts:// for TLS.")
    ] = _BROKER,
    store: Annotated[
        str, typer.Option(envvar="EDGEKIT_STORE", help="Where the asking is noted: the store of `fleet up`.")
    ] = _STORE,
    as_json: Annotated[bool, typer.Option("--json", help="One object on stdout.")] = False,
) -> None:
    """Run the verb; see its help."""
    from edgekit.cli.fleet import store_url
    from edgekit.fleet.access import broker_address
    from edgekit.fleet.asking import Asker
    from edgekit.fleet.store import Store
    from edgekit.fleet.watching import board_named
    from edgekit_device.contract.asking import DOCTOR, DONE, LOGS

    key = board_named(board)
    # Nobody is asked unnoted: without a store there is no answer either.
    with Store(store_url(store, must_exist=True)) as opened:
        asker = Asker(broker_address(broker), "logs")
        try:
            answers = [_ask(asker, opened, key, what) for what in ((LOGS, DOCTOR) if doctor else (LOGS,))]
        finally:
            asker.close()
    if as_json:
        print_json({"board": board, **{answer.what: _as_json(answer) for answer in answers}})
    else:
        for answer in answers:
            _print(answer)
    if any(answer.outcome != DONE for answer in answers):
        raise typer.Exit(1)


def _ask(asker: Any, store: Any, key: Any, what: str) -> Answer:
    from edgekit.fleet import audit
    from edgekit.person import command_line
    from edgekit_device.contract.asking import DONE

    outcome = "interrupted"
    try:
        answer: Answer = asker.ask(key, what)
        outcome = audit.DONE if answer.outcome == DONE else f"{answer.outcome}: {answer.reason}"
    except Exception as error:
        outcome = str(error)
        raise
    finally:
        audit.record(store, audit.on_board(command_line(), f"{what} asked for", key, outcome))
    return answer


def _as_json(answer: Answer) -> dict[str, Any]:
    found: dict[str, Any] = {"at": answer.at, "outcome": answer.outcome, "reason": answer.reason}
    if answer.what == "logs":
        return found | {"lines": [line._asdict() for line in answer.lines]}
    return found | {"findings": [finding._asdict() for finding in answer.findings]}


def _print(answer: Answer) -> None:
    from edgekit.fleet.web.drawing import plain
    from edgekit_device.contract.asking import DONE
    from edgekit_device.diagnosis.finding import Finding, summary, table

    if answer.outcome != DONE:
        typer.echo(f"{answer.what}: {answer.outcome}: {plain(answer.reason or 'no reason')}")
        return
    for line in answer.lines:
        typer.echo(f"{line.at}  {plain(line.text, 400)}")
    if answer.what == "logs" and not answer.lines:
        typer.echo("it has said nothing yet")
    if answer.findings:
        cleaned = [
            Finding(plain(f.check), f.state, plain(f.detail, 1000), plain(f.remedy, 1000) if f.remedy else None)
            for f in answer.findings
        ]
        typer.echo(f"\n{table(cleaned)}\n{summary(cleaned)}")

"""`edgekit fleet user`: who may log in to the dashboard."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.terminal import print_json

STORE = "fleet.db"
_Store = Annotated[
    str, typer.Option(envvar="EDGEKIT_STORE", help="A file for SQLite, or postgresql://USER@HOST/DATABASE.")
]
_Json = Annotated[bool, typer.Option("--json", help="One object on stdout.")]

app = typer.Typer(help="Who may log in to the dashboard.", rich_markup_mode=None, no_args_is_help=True)


@app.command("add", help="Add somebody, or change role, sites and password of somebody.")
def user_add(
    name: Annotated[str, typer.Argument(help="a-z, 0-9 and . _ @ -")],
    role: Annotated[str, typer.Option(help="viewer, operator or administrator.")] = "viewer",
    site: Annotated[list[str] | None, typer.Option(help="Only this site; may be given again (default: all).")] = None,
    password_file: Annotated[Path | None, typer.Option(help="Take the password from a file instead of asking.")] = None,
    store: _Store = STORE,
) -> None:
    """Run the verb; see its help."""
    from edgekit.cli.fleet import store_url
    from edgekit.errors import UsageError
    from edgekit.fleet.store import Store
    from edgekit.fleet.web import users
    from edgekit.fleet.web.tables import settle

    if password_file is not None:
        password = password_file.read_text("utf-8").strip()
    elif sys.stdin.isatty():
        password = getpass.getpass(f"password for {name} (at least {users.LEAST_PASSWORD} characters): ")
        if getpass.getpass("again: ") != password:
            raise UsageError("the two passwords differ")
    else:
        raise UsageError("there is no terminal to ask for the password; give --password-file FILE")
    with Store(store_url(store)) as opened:
        settle(opened)
        user = users.add(opened, name, role, password, tuple(site or ()))
    typer.echo(f"{user.name} may log in as {role}{f' for {chr(44).join(sorted(user.sites))}' if user.sites else ''}")


@app.command("remove", help="Take somebody away; they are logged out when the dashboard is started again.")
def user_remove(name: str, store: _Store = STORE) -> None:
    """Run the verb; see its help."""
    from edgekit.cli.fleet import store_url
    from edgekit.errors import UsageError
    from edgekit.fleet.store import Store
    from edgekit.fleet.web import users
    from edgekit.fleet.web.tables import settle

    with Store(store_url(store, must_exist=True)) as opened:
        settle(opened)
        if not users.remove(opened, name):
            raise UsageError(f"there is no user {name!r}; see: edgekit fleet user list")
    typer.echo(f"{name} may not log in any more")


@app.command("list", help="Everybody who may log in.")
def user_list(store: _Store = STORE, as_json: _Json = False) -> None:
    """Run the verb; see its help."""
    from edgekit.cli.fleet import store_url
    from edgekit.fleet.store import Store
    from edgekit.fleet.web import users
    from edgekit.fleet.web.tables import settle

    with Store(store_url(store, must_exist=True)) as opened:
        settle(opened)
        people = users.everyone(opened)
    if as_json:
        print_json({"users": [{"name": u.name, "role": u.role.name.lower(), "sites": sorted(u.sites)} for u in people]})
        return
    for user in people:
        typer.echo(f"{user.name:<24} {user.role.name.lower():<14} {', '.join(sorted(user.sites)) or 'all sites'}")

"""Local users: names, roles, sites, and passwords as Argon2id."""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import delete, select, update

from edgekit.errors import UsageError
from edgekit.fleet import audit
from edgekit.fleet.web.roles import Role
from edgekit.fleet.web.tables import users
from edgekit.person import command_line
from edgekit_device.contract.ids import check_id

if TYPE_CHECKING:
    from argon2 import PasswordHasher

    from edgekit.fleet.store import Store

LEAST_PASSWORD = 12
_NAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}", re.ASCII)
# Each hash takes 64 MiB: guesses in parallel must not take the memory of the machine.
_AT_ONCE = threading.BoundedSemaphore(2)
# The hash of nothing anybody knows, so that an unknown name takes as long as a wrong password.
_DECOY: list[str] = []


@dataclass(frozen=True)
class User:
    """Somebody who may come.

    Attributes:
        sites: The only ones they may see; empty is all.
    """

    name: str
    role: Role
    sites: frozenset[str] = frozenset()
    disabled: bool = False


def add(store: Store, name: str, role: str, password: str, sites: tuple[str, ...] = ()) -> User:
    """Add a user, or change one that is there.

    Raises:
        UsageError: Name, role, site or password will not do.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"user {name[:80]!r}: use 1 to 64 of a-z, 0-9 and . _ @ -")
    try:
        held = Role.named(role)
    except KeyError as cause:
        raise UsageError(f"role {role[:40]!r}: it is viewer, operator or administrator") from cause
    if len(password) < LEAST_PASSWORD:
        raise UsageError(f"the password has {len(password)} characters; take at least {LEAST_PASSWORD}")
    if len(password) > 1024:
        raise UsageError("the password has over 1024 characters; take a shorter one")
    for site in sites:
        check_id("site", site)
    now_ms = int(time.time() * 1000)
    values = {
        "role": role,
        "sites": ",".join(sorted(sites)),
        "password": _hasher().hash(password),
        "created": now_ms,
        "disabled": False,
    }
    with store.writing() as connection:
        if not connection.execute(update(users).where(users.c.name == name).values(**values)).rowcount:
            connection.execute(users.insert().values(name=name, **values))
        shown = f"{name} as {role}{f' for {chr(44).join(sorted(sites))}' if sites else ''}"
        audit.write(connection, audit.Act(command_line(), "user set", shown), now_ms)
    return User(name, held, frozenset(sites))


def remove(store: Store, name: str) -> bool:
    """Take a user away; False if there was none."""
    with store.writing() as connection:
        done = bool(connection.execute(delete(users).where(users.c.name == name)).rowcount)
        outcome = audit.DONE if done else "there was no such user"
        audit.write(connection, audit.Act(command_line(), "user removed", name, outcome))
    return done


def everyone(store: Store) -> list[User]:
    """All users by name."""
    with store.reading() as connection:
        return [_user(row) for row in connection.execute(select(users).order_by(users.c.name))]


def find(store: Store, name: str) -> User | None:
    """A user who may come, for a trusted proxy that has checked who they are."""
    with store.reading() as connection:
        row = connection.execute(select(users).where(users.c.name == name, users.c.disabled.is_(False))).first()
    return _user(row) if row else None


def check(store: Store, name: str, password: str) -> User | None:
    """The user, if the password is theirs; takes as long for a name that nobody has."""
    from argon2.exceptions import InvalidHashError, VerificationError

    with store.reading() as connection:
        row = connection.execute(select(users).where(users.c.name == name)).first()
    with _AT_ONCE:
        hasher = _hasher()
        if not _DECOY:
            _DECOY.append(hasher.hash("nobody knows this"))
        try:
            hasher.verify(row.password if row else _DECOY[0], password[:1024])
        except (VerificationError, InvalidHashError):
            return None
    return _user(row) if row and not row.disabled else None


def _user(row: object) -> User:
    values = row._asdict()  # type: ignore[attr-defined]
    sites = frozenset(site for site in values["sites"].split(",") if site)
    return User(values["name"], Role.named(values["role"]), sites, bool(values["disabled"]))


def _hasher() -> PasswordHasher:
    from argon2 import PasswordHasher, Type

    return PasswordHasher(time_cost=3, memory_cost=65_536, parallelism=2, type=Type.ID)

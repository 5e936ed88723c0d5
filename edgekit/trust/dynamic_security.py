"""Accounts in the form of mosquitto's dynamic-security plugin: the file it starts from, and the commands it obeys.

Pure: rules and accounts in, documents out. The registry is the truth; the file is written anew at each start.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Iterable
from typing import Any, NamedTuple

from edgekit.trust.rules import BOARD, Rule, rules_for

# A password here is 256 random bits, so stretching it would only slow the broker, which hashes at each CONNECT.
ITERATIONS = 101
_SALT_BYTES = 12
_DENY = {"publishClientSend": False, "publishClientReceive": False, "subscribe": False, "unsubscribe": True}


class Hashed(NamedTuple):
    """What the broker keeps of a password: PBKDF2 with SHA-512, 64 bytes."""

    salt: bytes
    digest: bytes
    iterations: int = ITERATIONS


class Account(NamedTuple):
    """One account at the broker.

    Attributes:
        name: User name, and the only client id it may use.
        role: Which rows of the table hold for it.
        site: Of a board; empty for others.
        device: Of a board; empty for others.
        hashed: Its password.
        enabled: False once it is revoked.
    """

    name: str
    role: str
    site: str
    device: str
    hashed: Hashed
    enabled: bool = True

    @property
    def role_name(self) -> str:
        """A board has a role of its own, for its topics hold its name."""
        return self.name if self.role == BOARD else self.role


def new_password() -> str:
    """256 random bits, as text without quotes or spaces."""
    return secrets.token_urlsafe(32)


def hash_password(password: str, salt: bytes | None = None) -> Hashed:
    """As the plugin wants it.

    Args:
        password: In clear.
        salt: 12 random bytes by default.
    """
    salt = secrets.token_bytes(_SALT_BYTES) if salt is None else salt
    return Hashed(salt, hashlib.pbkdf2_hmac("sha512", password.encode(), salt, ITERATIONS))


def access_list(rules: Iterable[Rule]) -> list[dict[str, Any]]:
    """The plugin's list of a role.

    A filter without wildcards is granted literally: `subscribePattern` would grant it as a pattern as well.
    """
    found: list[dict[str, Any]] = []
    for rule in rules:
        if rule.publish:
            found.append({"acltype": "publishClientSend", "topic": rule.topic, "priority": 0, "allow": True})
        if rule.subscribe:
            kind = "subscribePattern" if "+" in rule.topic else "subscribeLiteral"
            found.append({"acltype": kind, "topic": rule.topic, "priority": 0, "allow": True})
            if not rule.topic.startswith("$share/"):
                found.append({"acltype": "publishClientReceive", "topic": rule.topic, "priority": 0, "allow": True})
    return found


def accounts_file(accounts: Iterable[Account]) -> bytes:
    """The file with which the plugin starts: every account, one role a board, everything else refused."""
    accounts = list(accounts)
    shared = sorted({account.role for account in accounts if account.role != BOARD})
    roles = [_role(name, rules_for(name)) for name in shared]
    roles += [_board_role(account) for account in accounts if account.role == BOARD]
    document = {"defaultACLAccess": _DENY, "clients": [_client(a) for a in accounts], "groups": [], "roles": roles}
    return json.dumps(document, separators=(",", ":")).encode()


def commands_for(account: Account, password: str | None, *, replaced: bool = False) -> list[dict[str, Any]]:
    """What brings one account in a running broker to where it belongs, whatever is there now.

    Args:
        account: As the registry has it.
        password: In clear where it has just been made: the plugin takes no hash over its topic. None leaves it.
        replaced: Somebody else may be connected under this account now, and is thrown off.
    """
    if not account.enabled:
        # Disabling cuts a live connection at once; deleting alone would leave it until it reconnects.
        return [
            {"command": "disableClient", "username": account.name},
            {"command": "deleteClient", "username": account.name},
            *([{"command": "deleteRole", "rolename": account.name}] if account.role == BOARD else []),
        ]
    made: list[dict[str, Any]] = []
    if account.role == BOARD:
        made.append({"command": "createRole", **_board_role(account)})
    if password is not None:
        if replaced:
            made.append({"command": "disableClient", "username": account.name})
            made.append({"command": "deleteClient", "username": account.name})
        made.append(
            {
                "command": "createClient",
                "username": account.name,
                "clientid": account.name,
                "password": password,
                "roles": [{"rolename": account.role_name, "priority": 0}],
            }
        )
        # For one that is there; the broker cuts its connection, and it comes back with the new password.
        made.append({"command": "setClientPassword", "username": account.name, "password": password})
    return made


def _client(account: Account) -> dict[str, Any]:
    found: dict[str, Any] = {
        "username": account.name,
        "clientid": account.name,
        "password": base64.b64encode(account.hashed.digest).decode(),
        "salt": base64.b64encode(account.hashed.salt).decode(),
        "iterations": account.hashed.iterations,
        "roles": [{"rolename": account.role_name, "priority": 0}],
    }
    return found if account.enabled else {**found, "disabled": True}


def _board_role(account: Account) -> dict[str, Any]:
    return _role(account.name, rules_for(BOARD, account.site, account.device))


def _role(name: str, rules: Iterable[Rule]) -> dict[str, Any]:
    return {"rolename": name, "acls": access_list(rules)}

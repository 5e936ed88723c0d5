"""As whom the host's programs present themselves to the fleet's broker: the account file that `fleet init` wrote."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit_device.bundle import user_public_key
from edgekit_device.contract.errors import CredentialsError
from edgekit_device.publish.access import Access, present
from edgekit_device.publish.broker_url import BrokerAddress, parse_broker_url

if TYPE_CHECKING:
    import paho.mqtt.client as paho

ACCOUNT_ENV = "EDGEKIT_BROKER_ACCOUNT"
_LOCAL = "fleet/accounts/collector-local.json"
_COLLECTOR = "collector."
_MAX_BYTES = 64 << 10


def broker_address(url: str) -> BrokerAddress:
    """A broker's address with the account to use there.

    Args:
        url: ``mqtt://`` or ``mqtts://``. An account is used with the latter: the file that EDGEKIT_BROKER_ACCOUNT
            names, else that of this machine's own fleet. It trusts its fleet's authority and nobody else, so that no
            other broker is told the password.

    Raises:
        UsageError: Not a broker's URL.
        CredentialsError: The account file cannot be used.
    """
    address = parse_broker_url(url)
    named = os.environ.get(ACCOUNT_ENV)
    path = Path(named) if named else user_public_key().parent.parent / _LOCAL
    if not address.tls or not (named or path.exists()):
        return address
    return address._replace(access=read_account(path))


def read_account(path: Path) -> Access:
    """Read an account file.

    Raises:
        CredentialsError: Missing, damaged, or others can read it.
    """
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise CredentialsError(str(path), f"others may read this secret; close it: chmod 600 {path}")
            values = json.loads(file.read(_MAX_BYTES))
        authority = values.get("authority")
        identity = path.with_name("host.pem")
        found = Access(
            str(values["user"]),
            str(values["password"]),
            str(authority) if authority else None,
            identity if identity.exists() else None,
        )
    except OSError as cause:
        raise CredentialsError(str(path), f"cannot be read ({cause.strerror})") from cause
    except (ValueError, KeyError, TypeError, AttributeError) as cause:
        raise CredentialsError(
            str(path), "is not an account file; make one: edgekit fleet enroll --collector"
        ) from cause
    return found


def present_host(client: paho.Client | Any, address: BrokerAddress, purpose: str) -> None:
    """Give a connection of the host its user name, password and TLS.

    Args:
        client: Not connected yet.
        address: Where it will connect, with its access.
        purpose: The connections of one collector have an account each, or they would throw one another off.
    """
    access = address.access
    fleet = access is not None and access.user.startswith(_COLLECTOR)
    present(client, address, access, purpose if fleet else "")

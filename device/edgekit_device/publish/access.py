"""As whom a program presents itself to a broker: user, password, the authority it trusts, its own certificate."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from edgekit_device.publish.tls import client_context

if TYPE_CHECKING:
    from edgekit_device.publish.broker_url import BrokerAddress
    from edgekit_device.trusted_time import TrustedTime


@dataclass(frozen=True)
class Access:
    """What is shown and what is trusted. The password never appears in a repr.

    Attributes:
        user: User name.
        password: In clear, as the broker wants it; None shows none.
        authority: Certificate of the fleet's authority, PEM; None trusts what the system trusts.
        identity: Key and certificate in one PEM file; None shows none.
        times: Judges dates of certificates.
    """

    user: str
    password: str | None = field(default=None, repr=False)
    authority: str | None = field(default=None, repr=False)
    identity: Path | None = None
    times: TrustedTime | None = field(default=None, repr=False, compare=False)


class AccessSource(Protocol):
    """Where a connection reads its access, anew each time: it may have been renewed meanwhile."""

    def read(self) -> Access:
        """The access as it is now.

        Raises:
            CredentialsError: It cannot be used.
        """
        ...

    def refused(self) -> None:
        """The broker did not accept it."""
        ...


def present(client: Any, address: BrokerAddress, access: Access | None, purpose: str = "") -> None:
    """Give a paho client what it needs before it connects.

    Args:
        client: Not connected yet.
        address: Where it will connect; a password is never sent without TLS but to this machine itself.
        access: None is nobody.
        purpose: Of one connection among several of one account of the host; appended to its user name.

    Raises:
        CredentialsError: The access cannot be used, or would travel in clear.
    """
    if access is not None:
        if not address.tls and address.host not in ("127.0.0.1", "::1", "localhost"):
            from edgekit_device.contract.errors import CredentialsError

            raise CredentialsError(address.url, "a password is not sent without TLS; write mqtts://")
        client.username_pw_set(f"{access.user}.{purpose}" if purpose else access.user, access.password)
    if address.tls:
        known = access or Access("")
        client.tls_set_context(client_context(known.authority, known.identity, known.times))

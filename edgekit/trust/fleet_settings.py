"""fleet.toml: what the operator decides about the broker, with its defaults in sight."""

from __future__ import annotations

import difflib
import ipaddress
import json
import re
import socket
import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from edgekit.errors import FleetSettingsError
from edgekit_device.contract.addresses import url_host

_MAX_TOML_BYTES = 1 << 20
_HOST = re.compile(r"(?=.{1,253}$)[a-zA-Z0-9]([a-zA-Z0-9-]{0,62})(\.[a-zA-Z0-9][a-zA-Z0-9-]{0,62})*", re.ASCII)
_HEAD = "# Written by edgekit fleet init; yours to change. Secrets do not belong here."
LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class FleetSettings:
    """One fleet's broker.

    Attributes:
        name: Of the fleet; stands in its authority's certificate.
        hosts: Names and addresses under which boards reach this machine; the first is what boards are told.
        listen: Address to listen on; empty for every one.
        port: MQTT 5 over TLS.
        enroll_port: HTTPS for enrolment and renewal.
        require_certificate: Whoever connects must also show a certificate of this fleet, before a word of MQTT.
    """

    name: str = "fleet"
    hosts: tuple[str, ...] = field(default_factory=lambda: default_hosts())
    listen: str = ""
    port: int = 8883
    enroll_port: int = 8884
    require_certificate: bool = False

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,31}", self.name):
            raise FleetSettingsError("name", f"{self.name!r} is not 1 to 32 of a-z, 0-9 and '-'")
        if not self.hosts:
            raise FleetSettingsError("hosts", "names no host under which boards reach this machine")
        for host in self.hosts:
            check_host(host)
        if self.listen:
            try:
                ipaddress.ip_address(self.listen)
            except ValueError as cause:
                raise FleetSettingsError("listen", f"{self.listen!r} is no address") from cause
        for key in ("port", "enroll_port"):
            if not 0 < getattr(self, key) < 65_536:
                raise FleetSettingsError(key, f"{getattr(self, key)} is no port")
        if self.port == self.enroll_port:
            raise FleetSettingsError("enroll_port", "is the broker's own port; give it another")

    @property
    def names(self) -> tuple[str, ...]:
        """What the broker's certificate must name: the hosts, and this machine for itself."""
        return tuple(dict.fromkeys((*self.hosts, *((self.listen,) if self.listen else ()), *LOOPBACK)))

    @property
    def url_host(self) -> str:
        """The host that boards are told, as it stands in a URL."""
        return url_host(self.hosts[0])

    def to_toml(self) -> str:
        """The file, whole."""
        lines = [f"{f.name} = {_toml(getattr(self, f.name))}" for f in fields(self)]
        return (
            "# Written by edgekit fleet init; yours to change. Secrets do not belong here.\n" + "\n".join(lines) + "\n"
        )


def read_settings(path: Path) -> FleetSettings:
    """Read fleet.toml.

    Raises:
        FleetSettingsError: Not readable, not TOML, an unknown key or a wrong value.
    """
    try:
        with path.open("rb") as file:
            values = tomllib.loads(file.read(_MAX_TOML_BYTES).decode("utf-8"))
    except OSError as cause:
        raise FleetSettingsError(
            str(path), f"cannot be read ({cause.strerror}); begin with: edgekit fleet init"
        ) from cause
    except (ValueError, RecursionError) as cause:
        raise FleetSettingsError(str(path), f"is not TOML ({cause})") from cause
    return settings_from(values)


def settings_from(values: dict[str, Any]) -> FleetSettings:
    """Check what a file states.

    Raises:
        FleetSettingsError: An unknown key or a wrong value.
    """
    defaults = {f.name: f for f in fields(FleetSettings)}
    checked: dict[str, Any] = {}
    for key, value in values.items():
        if key in ("alerts", "boards"):
            continue  # The dashboard's and flash's parts of the file, checked where they are read.
        if key not in defaults:
            near = difflib.get_close_matches(key, defaults, 1)
            hint = f"; did you mean '{near[0]}'?" if near else f" (known: {', '.join(defaults)})"
            raise FleetSettingsError(key[:60], f"is no setting{hint}")
        kind = {"hosts": list, "port": int, "enroll_port": int, "require_certificate": bool}.get(key, str)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise FleetSettingsError(key, f"must be {kind.__name__}, found {type(value).__name__}")
        if isinstance(value, list):
            if not all(isinstance(item, str) for item in value):
                raise FleetSettingsError(key, "must be a list of texts")
            value = tuple(value)
        checked[key] = value
    return FleetSettings(**checked)


def check_host(host: str) -> str:
    """Return a host name or an address.

    Raises:
        FleetSettingsError: Neither.
    """
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        if not _HOST.fullmatch(host):
            raise FleetSettingsError("hosts", f"{host[:80]!r} is neither a host name nor an address") from None
        return host


def default_hosts() -> tuple[str, ...]:
    """This machine's addresses, its name, its name by mDNS. Addresses first: boards often have no name service."""
    found: list[str] = []
    # Connecting a datagram socket sends nothing; it only asks the kernel which address would be used.
    for family, far in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((far, 9))
                found.append(probe.getsockname()[0])
        except OSError:
            continue
    host = socket.gethostname()
    short = host.partition(".")[0].lower()
    found += [name for name in (host, f"{short}.local") if _HOST.fullmatch(name)]
    return tuple(dict.fromkeys(found)) or ("localhost",)


def _toml(value: object) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return json.dumps(value)

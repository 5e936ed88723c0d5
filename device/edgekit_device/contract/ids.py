"""Names that travel in topics, file names and user names: checked on both sides."""

from __future__ import annotations

import re

from edgekit_device.contract.errors import UsageError

# No dot: it joins site and device in the MQTT user name. No slash, plus or hash: they are topic syntax.
_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}", re.ASCII)
_BUNDLE_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}", re.ASCII)
_VERSION = re.compile(r"(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})", re.ASCII)


def check_id(what: str, value: str) -> str:
    """Return `value` if it may name a site or a device.

    Raises:
        UsageError: It does not match ``[a-z0-9][a-z0-9-]{0,62}``.
    """
    if not _ID.fullmatch(value):
        raise UsageError(
            f"{what} {value!r} is not allowed: use 1 to 63 of a-z, 0-9 and '-', starting with a letter or digit"
        )
    return value


def check_bundle_name(value: str) -> str:
    """Return `value` if it may name a bundle, ``[a-z0-9][a-z0-9-]*`` of at most 63 characters."""
    if not _BUNDLE_NAME.fullmatch(value):
        raise UsageError(f"bundle name {value!r} is not allowed: use a-z, 0-9 and '-', starting with a letter or digit")
    return value


def check_version(value: str) -> str:
    """Return `value` if it is a version N.N.N without leading zeros."""
    if not _VERSION.fullmatch(value):
        raise UsageError(f"version {value!r} is not allowed: use three numbers such as 1.0.0")
    return value


def split_bundle_id(bundle_id: str) -> tuple[str, str]:
    """Split ``NAME-VERSION`` at the last dash.

    Returns:
        (name, version), both checked.
    """
    name, _, version = bundle_id.rpartition("-")
    return check_bundle_name(name), check_version(version)


def client_name(site: str, device: str) -> str:
    """MQTT user name and client id of one board."""
    return f"{check_id('site', site)}.{check_id('device', device)}"


def suggest_id(text: str) -> str:
    """Turn a host name into an id: lower case, other characters become '-'."""
    cleaned = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:63].rstrip("-")
    return cleaned or "device"

"""A host as it stands in a URL."""

from __future__ import annotations


def url_host(host: str) -> str:
    """Names and IPv4 addresses as they are; IPv6 in brackets (RFC 3986, 3.2.2): its colons would name a port."""
    return f"[{host}]" if ":" in host else host

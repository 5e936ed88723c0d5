"""Does the broker answer an MQTT 5 CONNECT?"""

from __future__ import annotations

import socket
import ssl
import time
from pathlib import Path

from edgekit_device.contract.errors import CredentialsError, UsageError
from edgekit_device.diagnosis.finding import FAIL, OK, WARN, Finding
from edgekit_device.identity import IdentityStore
from edgekit_device.publish.broker_url import BrokerAddress, parse_broker_url
from edgekit_device.publish.tls import client_context, words_of

_DEADLINE_S = 5.0
# Fixed header, "MQTT", version 5, clean start, keep-alive 10 s, no properties, no client id: the board's own would
# throw the running service off the broker.
_CONNECT = bytes([0x10, 13, 0, 4]) + b"MQTT" + bytes([5, 0x02, 0, 10, 0, 0, 0])
_DISCONNECT = bytes([0xE0, 0])
_CONNACK = 0x20
_OLD_PROTOCOL = (0x01, 0x84)
_WANTS_CREDENTIALS = (0x86, 0x87, 0x8C)
_REFUSED = 0x80


def broker(url: str | None, deadline_s: float = _DEADLINE_S, root: Path = Path("/")) -> Finding:
    """Connect as MQTT 5 and leave again.

    Args:
        url: ``mqtt://host:port`` or ``mqtts://``; None when the board has none.
        deadline_s: How long the broker may take.
        root: Folder that stands for the board's ``/``: an enrolled board trusts its fleet's authority.
    """
    if url is None:
        return Finding("broker", OK, "none is set: Readings stay on this board")
    try:
        address = parse_broker_url(url)
    except UsageError as error:
        return Finding("broker", FAIL, str(error), "edgekit flash BUNDLE TARGET --broker mqtt://HOST")
    try:
        code = _reason_code(address, deadline_s, root)
    except CredentialsError as error:
        return Finding("broker", FAIL, str(error), "sudo edgekit-device enroll")
    except ssl.SSLError as cause:
        words = words_of(cause, address.host)
        return Finding("broker", FAIL, f"{url}: TLS fails: {words}", f"openssl s_client -connect {_pair(address)}")
    except socket.gaierror:
        return Finding("broker", FAIL, f"{url}: no such host", f"getent hosts {address.host}")
    except OSError as cause:
        words = "no answer" if isinstance(cause, TimeoutError) else cause.strerror or str(cause)
        return Finding("broker", FAIL, f"{url}: {words}", f"nc -vz {address.host} {address.port}   # is the broker up?")
    if code is None:
        return Finding(
            "broker", FAIL, f"{url}: what answers is no MQTT broker", f"nc -vz {address.host} {address.port}"
        )
    if code in _OLD_PROTOCOL:
        return Finding(
            "broker", FAIL, f"{url}: it does not speak MQTT 5", "sudo apt install mosquitto   # on its machine"
        )
    if code in _WANTS_CREDENTIALS:
        return Finding("broker", OK, f"{url} speaks MQTT 5 and asks for credentials (not tried here)")
    if code >= _REFUSED:
        return Finding(
            "broker", WARN, f"{url} speaks MQTT 5 and refused with code 0x{code:02x}", "edgekit fleet status"
        )
    return Finding("broker", OK, f"{url} speaks MQTT 5")


def _context(address: BrokerAddress, root: Path) -> ssl.SSLContext:
    store = IdentityStore(root)
    if not store.exists or store.read().address != address:
        return client_context()
    return client_context(store.read().authority, store.pair, store.times)


def _reason_code(address: BrokerAddress, deadline_s: float, root: Path) -> int | None:
    until = time.monotonic() + deadline_s
    with socket.create_connection((address.host, address.port), deadline_s) as plain:
        link = plain
        if address.tls:
            link = _context(address, root).wrap_socket(plain, server_hostname=address.host)
        with link:
            link.sendall(_CONNECT)
            # Type, length (one byte is enough for what is read here), flags, reason code.
            found = b""
            while len(found) < 4:
                left = until - time.monotonic()
                if left <= 0:
                    raise TimeoutError
                link.settimeout(left)
                piece = link.recv(4 - len(found))
                if not piece:
                    # A broker that knows no version 5 may just hang up, which MQTT 3.1.1 allows.
                    return _OLD_PROTOCOL[0] if not found else None
                found += piece
            if found[0] != _CONNACK:
                return None
            # A length of 128 and more takes two bytes.
            code = found[3] if found[1] < 0x80 else (link.recv(1) or b"\xff")[0]
            if code < _REFUSED:
                link.sendall(_DISCONNECT)
            return code


def _pair(address: BrokerAddress) -> str:
    return f"{address.host}:{address.port}"

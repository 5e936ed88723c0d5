"""Gate E6: every secret of a fleet, where it must not be found, and what stands behind each open port."""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
from dataclasses import dataclass, field
from pathlib import Path

from edgekit.trust import keys
from edgekit.trust.fleet_folder import Fleet
from edgekit_device.contract.enrolment import parse_invitation

_LISTENING = "0A"


@dataclass
class Canaries:
    """Texts that must be nowhere but in their own files."""

    all: list[bytes] = field(default_factory=list)

    @classmethod
    def of(cls, fleet: Fleet, board: Path, token: Path) -> Canaries:
        """Passwords, private keys and the token of one fleet and one board."""
        found = cls()
        for path in (fleet.folder / "accounts").glob("*.json"):
            found.add(json.loads(path.read_bytes())["password"])
        private = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\n(.+?)\n", re.S)
        for folder in (fleet.folder, board):
            for path in folder.rglob("*"):
                if path.is_file() and path.suffix in (".key", ".pem"):
                    # All keys of one kind begin alike: the end of the first line is the key's own.
                    found.all += [body[24:] for body in private.findall(path.read_bytes())]
        found.add((keys.keys_folder() / keys.SECRET_NAME).read_text().splitlines()[1][60:120])
        found.add(json.loads((board / "var/lib/edgekit/identity/credentials.json").read_bytes())["password"])
        found.add(parse_invitation(token.read_text()).secret)
        return found

    def add(self, text: str) -> None:
        """One more."""
        self.all.append(text.encode())

    def found_in(self, data: bytes) -> list[int]:
        """Which of them a text holds, by number."""
        return [number for number, secret in enumerate(self.all) if secret in data]


def arguments_of(pid: int) -> list[str]:
    """Arguments and environment of a process and its children, as other users might see the former."""
    found = [Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")]
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        found += arguments_of(int(child))
        found.append(Path(f"/proc/{child}/environ").read_bytes().decode("utf-8", "replace"))
    return found


def listeners(pid: int) -> set[int]:
    """TCP ports on which a process listens."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(descriptor)
        except OSError:
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTENING and fields[9] in inodes:
                found.add(int(fields[1].rpartition(":")[2], 16))
    return found


def scan(host: str, port: int, authority: Path) -> list[str]:
    """What is wrong with an open port: it speaks in clear, with an old TLS, or to somebody it does not know."""
    problems = []
    connect = bytes([0x10, 13, 0, 4]) + b"MQTT" + bytes([5, 2, 0, 10, 0, 0, 0])
    for words in (connect, b"GET /v1/authority HTTP/1.0\r\n\r\n"):
        if _answer(host, port, words):
            problems.append(f"{port}: answers in clear")
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    try:
        with socket.create_connection((host, port), 5) as link, old.wrap_socket(link):
            problems.append(f"{port}: speaks TLS 1.1")
    except OSError:
        pass
    context = ssl.create_default_context(cafile=str(authority))
    try:
        with (
            socket.create_connection((host, port), 5) as link,
            context.wrap_socket(link, server_hostname=host) as secure,
        ):
            secure.sendall(connect)
            secure.settimeout(5)
            answer = secure.recv(16)
            # CONNACK: the fourth byte is the reason; below 0x80 is a welcome.
            if answer[:1] == b"\x20" and len(answer) > 3 and answer[3] < 0x80:
                problems.append(f"{port}: lets in whoever comes")
    except ssl.SSLCertVerificationError as error:
        problems.append(f"{port}: {error.verify_message}")
    except OSError:
        pass
    return problems


def _answer(host: str, port: int, words: bytes) -> bytes:
    """What a port says to plain text, but for a TLS alert."""
    try:
        with socket.create_connection((host, port), 5) as link:
            link.sendall(words)
            link.settimeout(3)
            answer = link.recv(64)
    except OSError:
        return b""
    return b"" if answer[:1] == b"\x15" else answer

"""`edgekit-device enroll`, and the renewal that follows from it for ever: the board's side of membership.

The key is made here and stays here. The host is known by the fingerprint in the token before anything is told to it,
so neither a right clock nor any other trust is needed.
"""

from __future__ import annotations

import argparse
import base64
import getpass
import hashlib
import http.client
import json
import os
import ssl
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edgekit_device.contract.documents import SCHEMA, Fields, dump, load
from edgekit_device.contract.enrolment import (
    AUTHORITY_PATH,
    CHALLENGE_PATH,
    ENROLL_PATH,
    RENEW_PATH,
    Invitation,
    parse_invitation,
    renewal_text,
)
from edgekit_device.contract.errors import ContractError, CredentialsError, EnrolmentError, UsageError
from edgekit_device.contract.ids import client_name
from edgekit_device.identity import Identity, IdentityStore, identity_from
from edgekit_device.publish.tls import client_context, words_of
from edgekit_device.settings import device_toml, read_device_toml

TOKEN_ENV = "EDGEKIT_ENROLL_TOKEN_FILE"  # noqa: S105 - the variable's name
_MAX_BYTES = 64 << 10
_TIMEOUT_S = 10.0
_MAX_TOKEN = 2048


def enroll(args: argparse.Namespace) -> int:
    """The verb: read the token, become a member, write device.toml.

    Raises:
        UsageError: No token, or one that was given as an argument.
        EnrolmentError: The host did not accept it; the message says why.
        CredentialsError: The identity cannot be written.
    """
    if args.ask:
        from edgekit_device.joining import ask

        return ask(args)
    invitation = parse_invitation(read_token(args.token))
    root = Path(args.root)
    identity = join(invitation, IdentityStore(root))
    tell(identity, write_settings(root, identity), as_json=args.json)
    return 0


def tell(identity: Identity, settings: Path, *, as_json: bool) -> None:
    """Say who this board is now, and what to type next."""
    if as_json:
        print(json.dumps({"site": identity.site, "id": identity.device, "broker": identity.broker}))
    else:
        print(f"enrolled as {identity.name} at {identity.broker}; {settings} says so too")
        print("next: edgekit-device run, or: sudo systemctl restart edgekit")


def read_token(place: str | None) -> str:
    """Read the token from a file, from standard input or from a prompt; never from an argument, which others can see.

    Raises:
        UsageError: It stands in the arguments, or cannot be read.
    """
    place = place or os.environ.get(TOKEN_ENV)
    if place and "://" in place:
        raise UsageError(
            "a token in an argument can be seen by every user of this machine: make another one, "
            "then give it on standard input or as a file: edgekit-device enroll FILE"
        )
    try:
        if place and place != "-":
            with Path(place).open(encoding="ascii") as file:
                return file.read(_MAX_TOKEN)
        if sys.stdin.isatty():
            return getpass.getpass("token: ")
        return sys.stdin.read(_MAX_TOKEN)
    except (OSError, UnicodeDecodeError) as cause:
        raise UsageError(f"{place or 'standard input'}: the token cannot be read") from cause


def join(invitation: Invitation, store: IdentityStore) -> Identity:
    """Become a member.

    Args:
        invitation: The token, taken apart.
        store: Where the identity is kept.

    Raises:
        EnrolmentError: The host is another than the token's, or refuses.
        CredentialsError: The identity cannot be written.
    """
    authority = _pinned_authority(invitation)
    key = ec.generate_private_key(ec.SECP256R1())
    request = {
        "schema": SCHEMA,
        "site": invitation.site,
        "device": invitation.device,
        "id": invitation.number,
        "secret": invitation.secret,
        "csr": request_text(key, client_name(invitation.site, invitation.device)),
    }
    host = Host(invitation.url, authority, store)
    answer = host.ask(ENROLL_PATH, request)
    return keep_identity(answer, host, store, key, invitation.site, invitation.device)


def renew(store: IdentityStore) -> Identity:
    """Get a fresh certificate and password with the board's own key, also when both have ended.

    Raises:
        EnrolmentError: The host does not answer, or refuses.
        CredentialsError: The identity cannot be read or written.
    """
    held = store.read()
    key = _held_key(store)
    host = Host(held.enroll, held.authority, store)
    answer = host.ask(CHALLENGE_PATH, {"schema": SCHEMA, "name": held.name})
    nonce = _text(answer, "nonce", host.url)
    csr = request_text(key, held.name)
    signature = key.sign(renewal_text(held.name, nonce, csr), ec.ECDSA(hashes.SHA256()))
    request = {
        "schema": SCHEMA,
        "site": held.site,
        "device": held.device,
        "nonce": nonce,
        "csr": csr,
        "signature": base64.b64encode(signature).decode(),
    }
    return keep_identity(host.ask(RENEW_PATH, request), host, store, key, held.site, held.device)


def write_settings(root: Path, identity: Identity) -> Path:
    """Bring site, id and broker into device.toml; everything else there stays."""
    path = root / "etc/edgekit/device.toml"
    values = read_device_toml(path) if path.exists() else {}
    named = {"site": identity.site, "id": identity.device, "broker": identity.broker}
    if {key: values.get(key) for key in named} == named:
        return path  # Nothing to say: so it needs no right to write there either.
    values |= named
    fresh = path.with_name(".device.toml.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text(device_toml(values), encoding="utf-8")
        fresh.replace(path)
    except OSError as cause:
        raise CredentialsError(str(path), f"cannot be written ({cause.strerror}); try again with sudo") from cause
    return path


class Host:
    """The fleet's host, known by its authority."""

    def __init__(self, url: str, authority: str, store: IdentityStore) -> None:
        self.url, self.authority = url, authority
        self._context = client_context(authority, times=store.times)

    def ask(self, path: str, document: dict[str, Any]) -> dict[str, Any]:
        """Send a document, give the answer; a refusal is an EnrolmentError in the host's words."""
        code, body = _exchange(self.url, self._context, "POST", path, dump(document))
        try:
            answer = load("answer", body)
        except ContractError as cause:
            raise EnrolmentError(self.url, "what answers is not a fleet's host") from cause
        if code != 200:
            words = answer.get("message")
            plain = "".join(c for c in words if c.isprintable())[:300] if isinstance(words, str) else f"code {code}"
            raise EnrolmentError(self.url, f"refused: {plain}")
        return answer


def fetch_authority(url: str) -> tuple[str, str]:
    """The authority's certificate, PEM, and its SHA-256, hex; whoever gives it, nothing is trusted by that alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, body = _exchange(url, context, "GET", AUTHORITY_PATH, b"")
    try:
        der = x509.load_pem_x509_certificate(body).public_bytes(serialization.Encoding.DER)
        return body.decode("ascii"), hashlib.sha256(der).hexdigest()
    except ValueError as cause:
        raise EnrolmentError(url, "what answers is not a fleet's host") from cause


def _pinned_authority(invitation: Invitation) -> str:
    """Whoever gives it, only the certificate that the token names is taken."""
    text, pin = fetch_authority(invitation.url)
    if pin != invitation.pin:
        raise EnrolmentError(invitation.url, "this is another fleet's host than the token's, or somebody in between")
    return text


def _exchange(url: str, context: ssl.SSLContext, verb: str, path: str, body: bytes) -> tuple[int, bytes]:
    parts = urlsplit(url)
    link = http.client.HTTPSConnection(parts.hostname or "", parts.port, timeout=_TIMEOUT_S, context=context)
    try:
        link.request(verb, path, body or None, {"Content-Type": "application/json"} if body else {})
        answer = link.getresponse()
        return answer.status, answer.read(_MAX_BYTES)
    except (OSError, http.client.HTTPException, ValueError) as cause:
        words = words_of(cause, parts.hostname or "")
        raise EnrolmentError(url, f"{words}; does the fleet's host run? edgekit fleet broker") from cause
    finally:
        link.close()


def request_text(key: ec.EllipticCurvePrivateKey, name: str) -> str:
    """The certificate request, PEM: this key, this name and nothing else."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name, _validate=False)])
    made = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM).decode()


def keep_identity(
    answer: dict[str, Any], host: Host, store: IdentityStore, key: ec.EllipticCurvePrivateKey, site: str, device: str
) -> Identity:
    """Check every part of what the host gave before any of it counts."""
    try:
        # Who this board is was in the token; the host may not say otherwise, nor name another authority.
        named = {**answer, "site": site, "device": device, "authority": host.authority}
        identity = identity_from(named)
        certificate = x509.load_pem_x509_certificate(_text(answer, "certificate", host.url).encode())
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(host.authority.encode()))
        common = [part.value for part in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        if certificate.public_key() != key.public_key() or common != [identity.name]:
            raise EnrolmentError(host.url, "the certificate it gave is not this board's")
        at_s = Fields("answer", answer).number("at_s", low=0)
    except (ValueError, TypeError, InvalidSignature, ContractError) as cause:
        raise EnrolmentError(host.url, f"its answer cannot be used ({type(cause).__name__})") from cause
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    store.write(identity, private, certificate.public_bytes(serialization.Encoding.PEM))
    store.times.saw(at_s)
    return identity


def _held_key(store: IdentityStore) -> ec.EllipticCurvePrivateKey:
    data = store.read_pair()
    try:
        key = serialization.load_pem_private_key(data[data.index(b"-----BEGIN PRIVATE") :], None)
    except (ValueError, TypeError) as cause:
        raise CredentialsError(str(store.pair), "holds no key; enrol this board again") from cause
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CredentialsError(str(store.pair), "holds a key of another kind; enrol this board again")
    return key


def _text(answer: dict[str, Any], field: str, url: str) -> str:
    try:
        return Fields("answer", answer).text(field, limit=16 << 10)
    except ContractError as cause:
        raise EnrolmentError(url, f"its answer cannot be used ({cause})") from cause

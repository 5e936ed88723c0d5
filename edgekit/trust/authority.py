"""The fleet's certificate authority: what it signs, for whom and for how long. Pure: bytes in, bytes out.

Keys are on the curve P-256, which every TLS library has. A board's certificate can only be a client's, the broker's
only a server's, and the authority can make no further authority.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edgekit.errors import CertificateRequestError, FleetFileError
from edgekit_device.contract.errors import UsageError
from edgekit_device.contract.ids import check_id

AUTHORITY_DAYS, BROKER_DAYS, BOARD_DAYS = 20 * 365, 397, 365
# Renewed when less than a third of its life is left: months in which a failing renewal can be seen and mended.
RENEW_BELOW = 1 / 3
MAX_CSR_BYTES = 8192
# Clocks of hosts differ by seconds; those of boards are dealt with on the board.
_BACKDATED = timedelta(minutes=5)


class Pair(NamedTuple):
    """A certificate and its key, both PEM."""

    certificate: bytes
    key: bytes


class Request(NamedTuple):
    """What a checked certificate request asks for."""

    csr: x509.CertificateSigningRequest
    public_key: bytes


def new_authority(name: str, now: datetime) -> Pair:
    """A certificate authority that signs itself.

    Args:
        name: Its common name; a fleet's authorities should be told apart by it.
        now: When it begins.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(name)
    builder = (
        _builder(subject, subject, key.public_key(), now, AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return Pair(_pem(builder.sign(key, hashes.SHA256())), private_bytes(key))


def issue_broker(authority: Pair, names: Iterable[str], now: datetime) -> Pair:
    """A server's certificate for the broker and for enrolment.

    Args:
        authority: The fleet's.
        names: Host names and addresses under which boards reach it; at least one.
        now: When it begins.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    listed = list(dict.fromkeys(names))
    alternatives = x509.SubjectAlternativeName([_alternative(name) for name in listed])
    builder = _leaf(authority, _name(listed[0][:64]), key.public_key(), now, BROKER_DAYS)
    builder = builder.add_extension(alternatives, critical=False)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    return Pair(_pem(builder.sign(_key(authority.key), hashes.SHA256())), private_bytes(key))


def issue_board(authority: Pair, request: Request, name: str, now: datetime) -> bytes:
    """A client's certificate for a board, PEM.

    Only the key is taken from the request: name and use are the authority's to say.

    Args:
        authority: The fleet's.
        request: From `check_request`.
        name: ``<site>.<device>``, checked before.
        now: When it begins.
    """
    builder = _leaf(authority, _name(name), request.csr.public_key(), now, BOARD_DAYS)  # type: ignore[arg-type]
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
    return _pem(builder.sign(_key(authority.key), hashes.SHA256()))


def issue_host(authority: Pair, name: str, now: datetime) -> Pair:
    """A client's certificate with its key, for programs of the host itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _leaf(authority, _name(name), key.public_key(), now, BOARD_DAYS)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
    return Pair(_pem(builder.sign(_key(authority.key), hashes.SHA256())), private_bytes(key))


def check_request(pem: bytes, name: str) -> Request:
    """Check what a board wants signed.

    Args:
        pem: The request.
        name: The only common name it may state.

    Raises:
        CertificateRequestError: Not a request, signed by another key than it holds, of another kind of key, or for
            another name.
    """
    if len(pem) > MAX_CSR_BYTES:
        raise CertificateRequestError(f"is {len(pem)} bytes, over the limit of {MAX_CSR_BYTES}")
    try:
        csr = x509.load_pem_x509_csr(pem)
        key = csr.public_key()
        valid = csr.is_signature_valid
        stated = [str(part.value) for part in csr.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    except (ValueError, TypeError, InvalidSignature, x509.UnsupportedGeneralNameType) as cause:
        raise CertificateRequestError("is not a PEM certificate request") from cause
    except Exception as cause:
        # cryptography names some malformed keys by exceptions of its own; none of them may end a server.
        raise CertificateRequestError(f"cannot be read ({type(cause).__name__})") from cause
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise CertificateRequestError("must hold a key on the curve P-256")
    if not valid:
        raise CertificateRequestError("is not signed by the key that it holds")
    if stated != [name] or len(list(csr.subject)) != 1:
        raise CertificateRequestError(f"must name {name} and nothing else")
    return Request(csr, public_bytes(key))


def check_board_name(name: str) -> tuple[str, str]:
    """Split ``SITE.DEVICE``.

    Raises:
        UsageError: Not two ids joined by one dot.
    """
    site, dot, device = name.partition(".")
    if not dot:
        raise UsageError(f"{name[:60]!r} names no board; write SITE.DEVICE, for example home.porch")
    return check_id("site", site), check_id("device", device)


def fingerprint(certificate: bytes) -> str:
    """SHA-256 of a PEM certificate, hex."""
    der = x509.load_pem_x509_certificate(certificate).public_bytes(serialization.Encoding.DER)
    return hashlib.sha256(der).hexdigest()


def expiry(certificate: bytes) -> datetime:
    """When a PEM certificate ends."""
    return x509.load_pem_x509_certificate(certificate).not_valid_after_utc


def is_due(certificate: bytes, now: datetime) -> bool:
    """Whether less than a third of its life is left."""
    found = x509.load_pem_x509_certificate(certificate)
    life = found.not_valid_after_utc - found.not_valid_before_utc
    return found.not_valid_after_utc - now < life * RENEW_BELOW


def names_of(certificate: bytes) -> list[str]:
    """The host names and addresses of a server's certificate."""
    extension = x509.load_pem_x509_certificate(certificate).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    return [str(part.value) for part in extension.value]


def belongs(authority: bytes, pair: Pair) -> bool:
    """Whether a certificate was made by this authority and its key is the one beside it."""
    try:
        made = x509.load_pem_x509_certificate(pair.certificate)
        made.verify_directly_issued_by(x509.load_pem_x509_certificate(authority))
        return public_bytes(_key(pair.key).public_key()) == public_bytes(made.public_key())  # type: ignore[arg-type]
    except (ValueError, TypeError, InvalidSignature, FleetFileError):
        return False


def private_bytes(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A key as PKCS 8, PEM, without a passphrase: file permissions guard it."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def public_bytes(key: ec.EllipticCurvePublicKey) -> bytes:
    """A public key as DER: what the registry knows a board by."""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise FleetFileError("private key", "is not on the curve P-256")
    return key


def _leaf(
    authority: Pair, subject: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, days: int
) -> x509.CertificateBuilder:
    issuer = x509.load_pem_x509_certificate(authority.certificate)
    signer = _key(authority.key).public_key()
    return (
        _builder(subject, issuer.subject, key, now, days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer), critical=False)
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now.astimezone(UTC) - _BACKDATED)
        .not_valid_after(now.astimezone(UTC) + timedelta(days=days))
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common: str) -> x509.Name:
    # Up to 127 characters for a board; the standard's 64 are a limit of X.520, not of TLS or of this check.
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common, _validate=False)])


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)

"""TLS to the fleet's broker and host: its own authority, the name checked, and times judged without a right clock.

For another authority than the fleet's everything is as the system has it.
"""

from __future__ import annotations

import socket
import ssl
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from edgekit_device.contract.errors import CredentialsError
from edgekit_device.trusted_time import TrustedTime

# X509_V_FLAG_NO_CHECK_TIME: OpenSSL would ask the wall clock, which may say 1970.
_NO_CHECK_TIME = 0x200000
_EXPIRED, _NOT_YET, _SELF_SIGNED = 10, 9, (18, 19)
_UNKNOWN, _NAME = (2, 20, 21), (62, 64)


class CertificateTimeError(ssl.SSLError):
    """The other side's certificate has ended, or has not begun."""


class _Checked(ssl.SSLSocket):
    """A connection that is not used before the times of the certificate are judged."""

    def do_handshake(self, block: bool = False) -> None:
        """Shake hands, then look at the dates: nothing secret has been said by then."""
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()  # paho leaves a socket open whose handshake failed.
            raise
        times = getattr(self.context, "times", None)
        der = self.getpeercert(binary_form=True)
        if times is not None and der is not None:
            problem = time_problem(x509.load_der_x509_certificate(der), times)
            if problem:
                self.close()
                raise CertificateTimeError(1, problem)


class _Context(ssl.SSLContext):
    times: TrustedTime | None = None


def client_context(
    authority: str | None = None, identity: Path | None = None, times: TrustedTime | None = None
) -> ssl.SSLContext:
    """What a client trusts, and what it shows.

    Args:
        authority: The fleet's certificate, PEM; None trusts what the system trusts.
        identity: Key and certificate in one PEM file; None shows nothing.
        times: Judges dates where the fleet's authority is used.

    Raises:
        CredentialsError: A file or a certificate cannot be used.
    """
    try:
        if authority is None:
            context = ssl.create_default_context()
        else:
            own = _Context(ssl.PROTOCOL_TLS_CLIENT)
            own.minimum_version = ssl.TLSVersion.TLSv1_2
            own.load_verify_locations(cadata=authority)
            own.times = times or TrustedTime()
            own.verify_flags |= ssl.VerifyFlags(_NO_CHECK_TIME)
            own.sslsocket_class = _Checked
            context = own
        if identity is not None:
            context.load_cert_chain(identity)
    except (ssl.SSLError, OSError, ValueError) as cause:
        where = str(identity) if identity is not None else "the fleet's authority"
        raise CredentialsError(where, f"cannot be used for TLS ({words_of(cause)})") from cause
    return context


def time_problem(certificate: x509.Certificate, times: TrustedTime) -> str | None:
    """Why a certificate is not valid at this time; None if it is, as far as this board can know."""
    moment = times.now()
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    clock = f"this machine's clock says {_day(moment.wall_s)}"
    if moment.judged_s > ends.timestamp():
        if not moment.right:
            clock += f" and is not right; it is {_day(moment.floor_s)} at least"
        return f"its certificate expired on {ends:%Y-%m-%d} ({clock}); renew it on the host: edgekit fleet broker"
    if moment.right and moment.wall_s < begins.timestamp():
        return f"its certificate begins on {begins:%Y-%m-%d %H:%M} UTC ({clock}); set the clock"
    return None


def words_of(error: Exception, host: str = "") -> str:
    """What went wrong with a connection, for a person: which of the four it was, and what mends it."""
    if isinstance(error, CertificateTimeError):
        return str(error.args[1])
    if isinstance(error, ssl.SSLCertVerificationError):
        return _verification_words(error, host)
    if isinstance(error, ssl.SSLError):
        reason = error.reason or ""
        if "CERTIFICATE_EXPIRED" in reason:
            return "the broker says that this board's certificate expired; it is renewed by itself"
        if "CERTIFICATE_REQUIRED" in reason or "HANDSHAKE_FAILURE" in reason or "UNKNOWN_CA" in reason:
            return "the broker wants a certificate of its fleet; enrol this board: edgekit-device enroll"
        if reason in ("WRONG_VERSION_NUMBER", "UNEXPECTED_EOF_WHILE_READING", "RECORD_LAYER_FAILURE"):
            return "what answers does not speak TLS; was mqtt:// meant?"
        return f"TLS failed ({reason or error.strerror or type(error).__name__})"
    if isinstance(error, socket.gaierror):
        return f"there is no host {host}" if host else "there is no such host"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _verification_words(error: ssl.SSLCertVerificationError, host: str) -> str:
    code = error.verify_code
    if code in _NAME:
        return f"its certificate is not for {host or 'this name'}; name that host in fleet.toml, or use another address"
    if code in _UNKNOWN or code in _SELF_SIGNED:
        return "its certificate is from an unknown authority, not this fleet's; enrol this board: edgekit-device enroll"
    if code in (_EXPIRED, _NOT_YET):
        word = "expired" if code == _EXPIRED else "begins later"
        return f"its certificate {word} by this machine's clock, {datetime.now(UTC):%Y-%m-%d}; is the clock right?"
    return f"its certificate is refused ({error.verify_message})"


def _day(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}"

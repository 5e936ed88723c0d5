"""Real services, started for a test and gone after it: mosquitto and PostgreSQL, each on loopback in its own folder."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from edgekit.fleet.broker import answers
from edgekit_device.publish.broker_url import BrokerAddress

MOSQUITTO = "apt install mosquitto"
POSTGRESQL = "apt install postgresql"
# What Debian's /etc/mosquitto/mosquitto.conf sets, and nothing more: no autosave, at most 1,000 messages queued.
STOCK = "persistence true\npersistence_location {folder}/\nlog_dest file {folder}/mosquitto.log\n"
# What a host that expects load sets.
TUNED = STOCK + "max_inflight_messages 1000\nmax_queued_messages 0\nset_tcp_nodelay true\n"


def find_mosquitto() -> str | None:
    """Debian puts it where a user's PATH does not look."""
    return shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def find_postgresql() -> Path | None:
    """The folder of the newest server's programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("postgres")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


def free_port() -> int:
    """A TCP port of loopback that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Mosquitto:
    """A broker that can be killed and started again on the same port with the same folder."""

    folder: Path
    config: str = STOCK
    tls: bool = False
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> BrokerAddress:
        return BrokerAddress("127.0.0.1", self.port, self.tls)

    @property
    def url(self) -> str:
        return self.address.url

    @property
    def authority(self) -> Path:
        """The certificate that signs the broker's; for SSL_CERT_FILE."""
        return self.folder / "ca.crt"

    def start(self) -> None:
        program = find_mosquitto()
        assert program is not None
        text = f"listener {self.port} 127.0.0.1\nallow_anonymous true\n" + self.config.format(folder=self.folder)
        # As root, mosquitto would become a user that cannot write here.
        text += f"user {pwd.getpwuid(os.geteuid()).pw_name}\n"
        if self.tls:
            if not self.authority.exists():
                make_certificates(self.folder)
            text += f"certfile {self.folder}/server.crt\nkeyfile {self.folder}/server.key\n"
        path = self.folder / "mosquitto.conf"
        path.write_text(text)
        self.process = subprocess.Popen(
            [program, "-c", str(path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until = time.monotonic() + 10
        while time.monotonic() < until:
            if self._listens():
                return
            assert self.process.poll() is None, (self.folder / "mosquitto.log").read_text()
            time.sleep(0.02)
        raise AssertionError("mosquitto did not come up")

    def kill(self) -> None:
        """As a power cut ends it: nothing is saved."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process = None

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
            self.process = None

    def _listens(self) -> bool:
        if not self.tls:
            return answers(self.address, 1.0)
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1.0):
                return True
        except OSError:
            return False


@contextmanager
def mosquitto(config: str = STOCK, *, tls: bool = False) -> Iterator[Mosquitto]:
    """A running broker."""
    with tempfile.TemporaryDirectory(prefix="edgekit-mosquitto-") as folder:
        broker = Mosquitto(Path(folder), config, tls)
        broker.start()
        try:
            yield broker
        finally:
            broker.stop()


def make_certificates(folder: Path) -> None:
    """A certificate authority of one afternoon, and a server certificate for 127.0.0.1."""
    import datetime
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    now = datetime.datetime.now(datetime.UTC)

    def certificate(
        name: str, issuer: str, key: ec.EllipticCurvePrivateKey, signer: ec.EllipticCurvePrivateKey
    ) -> bytes:
        made = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=name == issuer, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
            .sign(signer, hashes.SHA256())
        )
        return made.public_bytes(serialization.Encoding.PEM)

    authority, server = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    (folder / "ca.crt").write_bytes(
        certificate("edgekit test authority", "edgekit test authority", authority, authority)
    )
    (folder / "server.crt").write_bytes(certificate("127.0.0.1", "edgekit test authority", server, authority))
    secret = server.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "server.key").write_bytes(secret)
    ssl.create_default_context(cafile=str(folder / "ca.crt"))


@dataclass
class PostgreSQL:
    """A server on a Unix socket and a loopback port, with durable commits as installed."""

    programs: Path
    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def create(self) -> None:
        self._run("initdb", "-D", str(self.data), "-U", "edgekit", "-A", "trust", "--no-sync", "-E", "UTF8")

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://edgekit@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        options = [
            "-D", str(self.data), "-p", str(self.port), "-c", "listen_addresses=127.0.0.1",
            "-k", str(self.folder), "-c", "max_connections=40", "-c", "logging_collector=off",
        ]  # fmt: skip
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(self.programs / "postgres"), *options], stdout=log, stderr=log, **_unprivileged()
            )
        until = time.monotonic() + 30
        while time.monotonic() < until:
            if self._ready():
                return
            assert self.process.poll() is None, (self.folder / "log").read_text()
            time.sleep(0.05)
        raise AssertionError("PostgreSQL did not come up")

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT is a fast stop; SIGQUIT an immediate one, after which it recovers from its log."""
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(30)
            self.process = None

    def fresh(self, name: str) -> str:
        """The URL of a new, empty database."""
        import psycopg

        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')  # type: ignore[call-overload]
            connection.execute(f'CREATE DATABASE "{name}"')  # type: ignore[call-overload]
        return self.url(name)

    def _ready(self) -> bool:
        import psycopg

        try:
            psycopg.connect(self.url(), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self.programs / program), *arguments], capture_output=True, text=True, **_unprivileged()
        )
        assert done.returncode == 0, done.stdout + done.stderr


def _unprivileged() -> dict[str, int]:
    # PostgreSQL refuses to run as root.
    return {"user": pwd.getpwnam("nobody").pw_uid, "group": pwd.getpwnam("nobody").pw_gid} if os.geteuid() == 0 else {}


@contextmanager
def postgresql() -> Iterator[PostgreSQL]:
    """A running server with an empty cluster."""
    programs = find_postgresql()
    assert programs is not None
    with tempfile.TemporaryDirectory(prefix="edgekit-postgresql-") as folder:
        place = Path(folder)
        if os.geteuid() == 0:
            shutil.chown(place, "nobody", pwd.getpwnam("nobody").pw_gid)
        server = PostgreSQL(programs, place)
        server.create()
        server.start()
        try:
            yield server
        finally:
            server.stop()

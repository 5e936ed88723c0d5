"""mosquitto as a child with a configuration that refuses by default: TLS, MQTT 5, no anonymous access.

Debian's defaults lose messages and let one client throw another off by its client id; each line of the configuration
says what it is for.
"""

from __future__ import annotations

import os
import pwd
import resource
import shutil
import socket
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.artefacts import write_atomically
from edgekit.errors import EmbeddedBrokerError, MissingPackageError, PortTakenError
from edgekit.trust.dynamic_security import accounts_file
from edgekit.trust.rules import RETAINED

if TYPE_CHECKING:
    from edgekit.trust.fleet_folder import Fleet

APT = "sudo apt install mosquitto gcc"
GATE_SOURCE = Path(__file__).with_name("mosquitto_gate.c")
ACCOUNTS, CONFIG, GATE, LOG = "accounts.json", "mosquitto.conf", "mosquitto_gate.so", "mosquitto.log"
MAX_PACKET_BYTES = 256 << 10
_PLUGIN = "mosquitto_dynamic_security.so"
_PLACES = ("/usr/lib", "/usr/local/lib", "/lib")
_START_S, _STOP_S = 60.0, 10.0


def find_mosquitto() -> str | None:
    """Debian puts it where a user's PATH does not look."""
    return shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def find_plugin() -> Path | None:
    """The dynamic-security plugin of the distribution's package."""
    found = [path for place in _PLACES for path in (*Path(place).glob(f"*/{_PLUGIN}"), Path(place) / _PLUGIN)]
    return next((path for path in found if path.is_file()), None)


def configuration(fleet: Fleet, folder: Path, plugin: str) -> str:
    """mosquitto.conf, whole.

    Args:
        fleet: Whose settings and certificates.
        folder: Where accounts, the gate plugin and the broker's memory lie.
        plugin: Path of the dynamic-security plugin.
    """
    settings = fleet.settings
    state = "".join(f"plugin_opt_state {name}\n" for name in RETAINED)
    client = f"cafile {fleet.authority_file}\nrequire_certificate true\n" if settings.require_certificate else ""
    return f"""# Written by edgekit; changes are lost at its next start.
per_listener_settings false
listener {settings.port}{f" {settings.listen}" if settings.listen else ""}
# Key, certificate and authority lie in one file, so that a power cut cannot part them. SIGHUP reads it again.
certfile {fleet.broker_file}
keyfile {fleet.broker_file}
tls_version tlsv1.2
{client}
# MQTT 5 only: over 3.1.1 a refused message looks accepted. And only state may be retained.
plugin {folder / GATE}
{state}
# Accounts and what each may say and hear; whatever is not allowed there is refused.
plugin {plugin}
plugin_opt_config_file {folder / ACCOUNTS}
allow_anonymous false
# A client id is whoever has the account: nobody throws another off.
use_username_as_clientid true

# Nothing is dropped for a collector that is away; boards keep what no ack covers, so a lost file costs nothing.
# Not 0, which would mean no limit: mosquitto 2.0.11 then closes the connection after each message it refuses.
max_queued_messages 1000000
max_inflight_messages 1000
max_packet_size {MAX_PACKET_BYTES}
max_keepalive 300
persistence true
persistence_location {folder}/
autosave_interval 60
set_tcp_nodelay true
sys_interval 0

user {pwd.getpwuid(os.geteuid()).pw_name}
log_dest stderr
log_type error
log_type warning
log_type notice
connection_messages false
"""


def build_gate(folder: Path) -> Path:
    """Compile the plugin that keeps 3.1.1 out; once for each version of its source.

    Raises:
        MissingPackageError: No compiler.
        EmbeddedBrokerError: It does not compile.
    """
    target = folder / GATE
    if target.exists() and target.stat().st_mtime_ns > GATE_SOURCE.stat().st_mtime_ns:
        return target
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise MissingPackageError("a C compiler", "a broker that refuses MQTT 3.1.1", APT)
    fresh = folder / f".{GATE}.part"
    # Neither headers nor libraries: gcc alone, without libc6-dev, is enough.
    words = ["-O2", "-shared", "-fPIC", "-ffreestanding", "-fno-stack-protector", "-nostdlib"]
    done = subprocess.run([compiler, *words, "-o", str(fresh), str(GATE_SOURCE)], capture_output=True, text=True)
    if done.returncode:
        raise EmbeddedBrokerError("mosquitto", f"its gate does not compile: {done.stderr.strip()[-300:]}")
    fresh.replace(target)
    return target


def write_files(fleet: Fleet, folder: Path) -> Path:
    """Write configuration, accounts and gate; gives the configuration's path.

    Args:
        fleet: Whose.
        folder: Where to; made with mode 0700 if it is missing.

    Raises:
        MissingPackageError: mosquitto's plugin or a compiler is missing.
    """
    plugin = find_plugin()
    if plugin is None:
        raise MissingPackageError("mosquitto", "a broker for boards beyond this machine", APT)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    build_gate(folder)
    write_accounts(fleet, folder)
    path = folder / CONFIG
    write_atomically(path, configuration(fleet, folder, str(plugin)).encode(), mode=0o600)
    return path


def write_accounts(fleet: Fleet, folder: Path) -> int:
    """Write the accounts file from the registry; gives the registry's revision that it shows."""
    members = fleet.registry.members()
    accounts = (member.account for member in members if member.account.enabled)
    write_atomically(folder / ACCOUNTS, accounts_file(accounts), mode=0o600)
    return max((member.revision for member in members), default=0)


class Mosquitto:
    """A mosquitto of this process: inside the context it answers, after it nothing is left.

    Args:
        fleet: Whose broker it is.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._process: subprocess.Popen[bytes] | None = None
        self.folder = fleet.folder / "broker"
        self.revision = 0

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self._process else None

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Write its files and start it; returns once it listens.

        Raises:
            MissingPackageError: mosquitto or a compiler is missing; the message has the apt line.
            PortTakenError: Another program listens there.
            EmbeddedBrokerError: It did not come up.
        """
        program = find_mosquitto()
        if program is None:
            raise MissingPackageError("mosquitto", "a broker for boards beyond this machine", APT)
        settings = self._fleet.settings
        host = settings.listen or "127.0.0.1"
        if _listens(host, settings.port):
            raise PortTakenError(host, settings.port)
        config = write_files(self._fleet, self.folder)
        # Once more, for its revision: what changes from here on is told over the control topic.
        self.revision = write_accounts(self._fleet, self.folder)
        log = self.folder / LOG
        if log.exists():
            log.replace(log.with_suffix(".log.1"))
        with os.fdopen(os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as output:
            self._process = subprocess.Popen(
                [*_tied_to_us(), program, "-c", str(config)],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=self.folder,
            )  # fmt: skip
        hard = resource.prlimit(self._process.pid, resource.RLIMIT_NOFILE)[1]
        resource.prlimit(self._process.pid, resource.RLIMIT_NOFILE, (hard, hard))
        until = time.monotonic() + _START_S
        while time.monotonic() < until:
            if self._process.poll() is not None:
                last = log.read_text("utf-8", "replace").strip().splitlines()[-1:]
                raise EmbeddedBrokerError(f"{host}:{settings.port}", f"mosquitto ended: {' '.join(last)}")
            if _listens(host, settings.port):
                return
            time.sleep(0.02)
        self.stop()
        raise EmbeddedBrokerError(f"{host}:{settings.port}", f"mosquitto did not listen within {_START_S:.0f} s")

    def reload(self) -> None:
        """Read certificate and key again; live connections stay."""
        if self._process is not None:
            self._process.send_signal(1)

    def stop(self) -> None:
        """End it; may be called twice."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def __enter__(self) -> Mosquitto:
        self.start()
        return self

    def __exit__(self, *problem: object) -> None:
        self.stop()


def _tied_to_us() -> Iterable[str]:
    """util-linux ends the child with its parent, however that ends."""
    tool = shutil.which("setpriv")
    return (tool, "--pdeathsig", "TERM", "--") if tool else ()


def _listens(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), 1.0):
            return True
    except OSError:
        return False

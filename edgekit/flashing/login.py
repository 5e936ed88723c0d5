"""Getting in: keys, the agent and ~/.ssh/config are asyncssh's; the pinned host key and the prompts are ours."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgekit.errors import MissingPackageError
from edgekit.flashing.errors import ChangedHostKeyError, LinkLostError, LoginError, UnreachableError
from edgekit.flashing.hostkeys import HostKeys, host_name
from edgekit.flashing.targets import SshTarget

if TYPE_CHECKING:
    import asyncssh

Ask = Callable[[str], str | None]
"""Asks a person for a secret; None where nobody can be asked."""

_ALGORITHMS = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
)
_CONNECT_S, _LOGIN_S = 15.0, 60.0
# A cut cable says nothing. Questions keep something under way, and TCP gives up what nobody acknowledges for so long.
# Answers may be late: a question waits behind up to 2 MB of a file, which takes minutes on a slow link.
_KEEPALIVE_S, _KEEPALIVES = 15.0, 20
_UNACKNOWLEDGED_MS = 45_000
_TRIES = 3


@dataclass
class Secrets:
    """What was typed, for as long as the flash runs.

    Attributes:
        ask: Asks; one question at a time, however many boards there are.
        password: The one that let us in; tried for sudo first.
    """

    ask: Ask
    password: str | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def get(self, question: str) -> str | None:
        """Ask in a thread: the other boards go on meanwhile."""
        async with self.lock:
            return await asyncio.to_thread(self.ask, question)


@dataclass
class Login:
    """One login as it goes on.

    Attributes:
        connection: asyncssh's.
        user: Who is logged in.
        host_key: ``TYPE BASE64`` that the board showed.
        first: Whether this key was pinned just now.
    """

    connection: asyncssh.SSHClientConnection
    user: str
    host_key: str
    first: bool


def load_asyncssh() -> Any:
    """Import asyncssh when it is needed.

    Raises:
        MissingPackageError: It is not installed.
    """
    try:
        import asyncssh
    except ImportError as cause:
        raise MissingPackageError("asyncssh", "flashing over SSH", "pip install 'edgekit[flash]'") from cause
    return asyncssh


async def log_in(target: SshTarget, keys: HostKeys, secrets: Secrets, *, config: str | None = None) -> Login:
    """Connect and log in.

    Args:
        target: Where to.
        keys: The pinned host keys.
        secrets: For a password, should one be asked for.
        config: An ssh_config file in place of ~/.ssh/config.

    Raises:
        UnreachableError: Nothing answers there.
        ChangedHostKeyError: It is another machine than the one that was pinned.
        LoginError: It does not let this user in.
    """
    asyncssh = load_asyncssh()
    given: dict[str, Any] = {"connect_timeout": _CONNECT_S, "login_timeout": _LOGIN_S}
    if config is not None:
        given["config"] = [config]
    if target.port is not None:
        given["port"] = target.port
    if target.user is not None:
        given["username"] = target.user
    try:
        options = asyncssh.SSHClientConnectionOptions(host=target.host, **given)
    except (OSError, ValueError, asyncssh.Error) as cause:
        raise LoginError(target.name, f"~/.ssh is not usable ({cause})", "mend it, then try again") from cause
    gate = _Gate(target, keys, secrets, str(options.username), host_name(str(options.host), int(options.port)))
    first = {line.partition(" ")[0] for line in gate.pinned}
    algorithms = sorted(_ALGORITHMS, key=lambda name: _type_of(name) not in first)
    try:
        connection = await asyncssh.connect(
            target.host,
            client_factory=lambda: gate.client(asyncssh),
            known_hosts=lambda *_: ([], [], []),
            server_host_key_algs=algorithms,
            keepalive_interval=_KEEPALIVE_S,
            keepalive_count_max=_KEEPALIVES,
            **given,
        )
    except (OSError, asyncssh.Error, TimeoutError) as cause:
        raise gate.named(asyncssh, cause) from cause
    link = connection.get_extra_info("socket")
    if link is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_MS)
    if not gate.pinned:
        # Only now: a host that did not let us in is not a board yet.
        keys.pin(gate.where, gate.shown)
    return Login(connection, gate.user, gate.shown, not gate.pinned)


class _Gate:
    """Judges the host's key and answers the host's questions."""

    def __init__(self, target: SshTarget, keys: HostKeys, secrets: Secrets, user: str, where: str) -> None:
        self.target, self.secrets, self.user, self.where = target, secrets, user, where
        self.keys = keys
        self.pinned = keys.pinned(where)
        self.shown = ""
        self.asked = 0
        self.nobody = False

    def judge(self, key: Any) -> bool:
        """Whether this is the board that was pinned, or the first one."""
        self.shown = " ".join(key.export_public_key("openssh").decode().split()[:2])
        return not self.pinned or self.shown in self.pinned

    async def password(self) -> str | None:
        """The next password to try; None ends the tries."""
        if self.asked >= _TRIES:
            return None
        self.asked += 1
        self.secrets.password = await self.secrets.get(f"password of {self.user} on {self.target.name}: ")
        self.nobody = self.secrets.password is None
        return self.secrets.password

    def client(self, asyncssh: Any) -> Any:
        """A client for asyncssh that asks this gate."""
        gate = self

        class Client(asyncssh.SSHClient):  # type: ignore[misc]
            def validate_host_public_key(self, host: str, addr: str, port: int, key: Any) -> bool:
                return gate.judge(key)

            async def password_auth_requested(self) -> str | None:
                return await gate.password()

            def kbdint_auth_requested(self) -> str:
                return ""

            async def kbdint_challenge_received(
                self, name: str, instructions: str, lang: str, prompts: Any
            ) -> list[str] | None:
                if not prompts:
                    return []
                given = await gate.password() if len(prompts) == 1 else None
                return None if given is None else [given]

        return Client()

    def named(self, asyncssh: Any, cause: BaseException) -> Exception:
        """What went wrong, by name."""
        name = self.target.name
        if self.shown and self.pinned and self.shown not in self.pinned:
            return ChangedHostKeyError(
                name,
                f"its host key is not the one pinned for {self.where}: another machine, or somebody in between",
                f"if it was installed anew: ssh-keygen -R '{self.where}' -f {self.keys.path}",
            )
        if isinstance(cause, asyncssh.HostKeyNotVerifiable) and not self.shown:
            # A machine that is only jumped over is no board: who pins it is the user's own ssh.
            problem = f"its ProxyJump leads over a machine whose host key is not known ({cause})"
            return LoginError(name, problem, "ssh THAT_MACHINE   # once; it then stands in ~/.ssh/known_hosts")
        if isinstance(cause, asyncssh.PermissionDenied):
            remedy = f"ssh-copy-id {_words(self.target, self.user)}"
            if self.nobody:
                remedy += "   # or run this on a terminal to be asked for the password"
            return LoginError(name, f"does not let {self.user} in", remedy)
        if isinstance(cause, socket.gaierror):
            return UnreachableError(name, "no machine has this name here", "edgekit devices   # lists those in reach")
        if isinstance(cause, TimeoutError):
            return UnreachableError(name, "does not answer", f"is it on? ping {self.target.host}")
        if isinstance(cause, ConnectionRefusedError):
            return UnreachableError(name, "runs no SSH server", "on the board: sudo systemctl enable --now ssh")
        if isinstance(cause, OSError) and not isinstance(cause, ConnectionError):
            return UnreachableError(name, f"cannot be reached ({cause.strerror or cause})", "look at the network")
        return LinkLostError(name, f"the connection ended while logging in ({cause})", "run the same command again")


def _type_of(algorithm: str) -> str:
    return "ssh-rsa" if algorithm.startswith("rsa-") else algorithm


def _words(target: SshTarget, user: str) -> str:
    return f"{f'-p {target.port} ' if target.port else ''}{user}@{target.host}"

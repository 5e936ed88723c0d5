"""The fleet's service: the broker, enrolment, and what keeps both true to the registry.

Another process may revoke a board at any time: it writes the registry, and this one tells the broker within a second
or two. A broker that ends is started again; its certificate is renewed months before it ends.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from edgekit.trust.control import Control
from edgekit.trust.dynamic_security import Account, commands_for, hash_password
from edgekit.trust.enrolment import Enrolment
from edgekit.trust.enrolment_server import EnrolmentServer
from edgekit.trust.joining import Joining
from edgekit.trust.mosquitto import Mosquitto
from edgekit.trust.rules import ADMINISTRATOR, BOARD
from edgekit_device.contract.errors import EdgeKitError

if TYPE_CHECKING:
    from edgekit.trust.fleet_folder import Fleet
    from edgekit.trust.registry import Member

LOOK_S = 1.0
_CERTIFICATE_S = 3600.0


class Accounts:
    """Brings a running broker to what the registry says.

    Args:
        fleet: Whose.
        revision: What the broker knows already.
    """

    def __init__(self, fleet: Fleet, revision: int = 0) -> None:
        self._fleet, self._revision = fleet, revision
        self._control = Control(fleet)
        self._pending: dict[str, tuple[Account, str, bool]] = {}
        self._lock = threading.Lock()

    def admit(self, account: Account, password: str, replaced: bool) -> None:
        """An account was just written: tell the broker now, or with the next look if it does not answer."""
        with self._lock:
            self._pending[account.name] = (account, password, replaced)
        try:
            self.push()
        except EdgeKitError:
            return

    def push(self) -> int:
        """Tell the broker what changed; gives how many accounts.

        Raises:
            BrokerError: It does not answer or refuses; the next push tells it again.
        """
        with self._lock:
            changed = self._fleet.registry.members(self._revision)
            # A look may have seen an account before its password came: that one is told again.
            pending = dict(self._pending)
            if not changed and not pending:
                return 0
            commands = []
            for member in changed:
                if member.account.name not in pending or not member.account.enabled:
                    commands += commands_for(member.account, self._password(member))
                    pending.pop(member.account.name, None)
            for account, password, replaced in pending.values():
                commands += commands_for(account, password, replaced=replaced)
            self._control.apply(commands)
            self._pending.clear()
            self._revision = max((member.revision for member in changed), default=self._revision)
            return len({member.account.name for member in changed} | set(pending))

    def restarted(self, revision: int) -> None:
        """The broker has just read every account from its file."""
        with self._lock:
            self._revision = revision
            self._pending.clear()
            self._control.close()

    def close(self) -> None:
        """Give the connection back."""
        self._control.close()

    def _password(self, member: Member) -> str | None:
        account = member.account
        if account.role == BOARD:
            return None  # It is nowhere but in the answer that the board has got.
        if account.role == ADMINISTRATOR:
            return None  # It is the one that speaks.
        # A host's account has its password in the fleet folder.
        password = self._fleet.account(account.name.rpartition(".")[0].replace(".", "-", 1)).password
        return password if hash_password(password, account.hashed.salt) == account.hashed else None


class Service:
    """Runs until told to stop.

    Args:
        fleet: Whose.
        own_broker: Start mosquitto; False where an existing one was given this fleet's files.
        say: Told what happens, one line each.
    """

    def __init__(
        self, fleet: Fleet, *, own_broker: bool = True, say: Callable[[str], None] = lambda line: None
    ) -> None:
        self._fleet, self._say = fleet, say
        self.broker = Mosquitto(fleet) if own_broker else None
        self.accounts = Accounts(fleet)
        self.enrolment = Enrolment(fleet, self.accounts.admit)
        self.joining = Joining(fleet, self.enrolment)
        self._server: EnrolmentServer | None = None

    def start(self) -> None:
        """Start broker and enrolment; returns once both answer.

        Raises:
            EdgeKitError: One of them cannot start; the class says why.
        """
        self._fleet.must_exist()
        self._fleet.renew_broker()
        if self.broker is not None:
            self.broker.start()
            self.accounts.restarted(self.broker.revision)
        try:
            self._server = EnrolmentServer(self._fleet, self.enrolment, joining=self.joining)
            self._server.start()
        except BaseException:
            self.stop()
            raise

    def run(self, stop: threading.Event) -> None:
        """Keep everything true until `stop` is set."""
        certificate_s, trouble = time.monotonic() + _CERTIFICATE_S, ""
        while not stop.wait(LOOK_S):
            try:
                if self.broker is not None and not self.broker.alive:
                    self._say("the broker ended; starting it again")
                    self.broker.start()
                    self.accounts.restarted(self.broker.revision)
                if time.monotonic() >= certificate_s:
                    certificate_s = time.monotonic() + _CERTIFICATE_S
                    self.renew()
                count = self.accounts.push()
                if count:
                    self._say(f"{count} account{'s' if count > 1 else ''} changed at the broker")
                trouble = ""
            except EdgeKitError as error:
                if str(error) != trouble:
                    trouble = str(error)
                    self._say(trouble)

    def renew(self) -> None:
        """Renew the broker's certificate, and the host's own, if they are due; live connections stay."""
        if self._fleet.settings.require_certificate:
            self._fleet.host_certificate()
        if self._fleet.renew_broker():
            self._say("the broker's certificate was renewed")
            if self.broker is not None:
                self.broker.reload()
            if self._server is not None:
                self._server.reload()

    def stop(self) -> None:
        """End both; may be called twice."""
        server, self._server = self._server, None
        if server is not None:
            server.stop()
        self.accounts.close()
        if self.broker is not None:
            self.broker.stop()

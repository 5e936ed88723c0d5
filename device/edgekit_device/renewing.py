"""Membership without a hand: the certificate and the password are renewed while a third of their life is left.

Also at once when the broker refuses them: an account that was rotated on the host comes back by itself.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509

from edgekit_device.contract.errors import EdgeKitError
from edgekit_device.enrolling import renew
from edgekit_device.identity import BoardAccess, IdentityStore, access_for

if TYPE_CHECKING:
    from edgekit_device.publish.broker_url import BrokerAddress

LOOK_S = 3600.0
# A fleet that was switched on at one moment does not ask at one moment.
_RETRY_S = (30.0, 3600.0)
_SHARE_LEFT = 1 / 3


class Renewer:
    """A thread that renews.

    Args:
        store: Whose identity.
        say: Told what happens, one line each.
        look_s: Seconds between two looks at the certificate.
        retry_s: Shortest and longest wait after a renewal that failed, or before one after a refusal.
    """

    def __init__(
        self,
        store: IdentityStore,
        say: Callable[[str], None] = lambda line: None,
        look_s: float = LOOK_S,
        retry_s: tuple[float, float] = _RETRY_S,
    ) -> None:
        self._store, self._say, self._look_s, self._retry_s = store, say, look_s, retry_s
        self._wake, self._stop = threading.Event(), threading.Event()
        self._refused = False
        self._last_s = -1e9
        self._thread = threading.Thread(target=self._run, name="renewer", daemon=True)

    def start(self) -> None:
        """Begin; the first look is at once."""
        self._thread.start()

    def refused(self) -> None:
        """The broker does not accept this board; a renewal may mend it. Safe for any thread."""
        self._refused = True
        self._wake.set()

    def stop(self) -> None:
        """End."""
        self._stop.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(1.0)

    def due(self) -> bool:
        """Whether less than a third of the certificate's life is left, by what is known of the time."""
        moment = self._store.times.now()
        if moment.right:
            self._store.times.saw(moment.wall_s)
        data = self._store.read_pair()
        try:
            held = x509.load_pem_x509_certificate(data)
        except ValueError:
            return True
        begins, ends = held.not_valid_before_utc.timestamp(), held.not_valid_after_utc.timestamp()
        return ends - moment.judged_s < _SHARE_LEFT * (ends - begins)

    def _run(self) -> None:
        failures, trouble = 0, ""
        while not self._stop.is_set():
            wait_s = self._look_s
            self._wake.clear()
            try:
                # The broker cuts a connection whose password has changed, and may do so before the new one is here:
                # a refusal just after a renewal says nothing. One that lasts comes again.
                if self._refused and time.monotonic() - self._last_s < self._retry_s[0]:
                    self._refused = False
                elif self._refused or self.due():
                    self._last_s = time.monotonic()
                    renew(self._store)
                    self._refused = False
                    self._say("certificate and password were renewed")
                    failures = 0
            except EdgeKitError as error:
                failures += 1
                low, high = self._retry_s
                wait_s = random.uniform(low / 2, min(high, low * 2**failures))  # noqa: S311
                if str(error) != trouble:
                    trouble = str(error)
                    self._say(f"renewal failed: {error}")
            # A refusal wakes it from a long sleep, not from the pause after a failure.
            (self._stop if failures else self._wake).wait(wait_s)


def member_access(
    root: Path, site: str, device: str, broker: BrokerAddress, say: Callable[[str], None]
) -> BoardAccess | None:
    """The access of an enrolled board at its own broker, renewed in the background; None at any other broker.

    Raises:
        CredentialsError: The identity cannot be used, or is another board's.
    """
    store = access_for(root, site, device, broker)
    if store is None:
        return None
    renewer = Renewer(store, say)
    renewer.start()
    return BoardAccess(store, renewer.refused)

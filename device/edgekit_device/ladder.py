"""Which rung serves: the fastest that was proved, and never a quiet fallback. Pure decisions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from edgekit_device.contract.errors import DelegateError, UsageError

AUTO, EDGETPU = "auto", "edgetpu"
CPU_RUNGS = ("xnnpack", "builtin")
CHOICES = (AUTO, EDGETPU, *CPU_RUNGS, "reference")
# A lost rung is tried again after this long, twice as long after each failure.
RETRY_FIRST_S, RETRY_CAP_S = 15.0, 600.0


@dataclass
class Ladder:
    """The rungs still open to one run, best first.

    Attributes:
        asked: What --delegate said.
        rungs: The rungs that may serve, best first.
        failures: Why each failed rung was left.
        tries: How often each failed.
    """

    asked: str
    rungs: tuple[str, ...]
    failures: dict[str, str] = field(default_factory=dict)

    tries: dict[str, int] = field(default_factory=dict)

    @classmethod
    def for_choice(cls, asked: str, roles: Iterable[str] = ("cpu",)) -> Ladder:
        """The rungs that a --delegate choice allows; an explicit one stands alone.

        Args:
            asked: What --delegate says.
            roles: Model roles in the bundle; without a compiled twin there is no Edge TPU rung.

        Raises:
            UsageError: No such delegate.
            DelegateError: The Edge TPU was asked for, and the bundle has no model for it.
        """
        if asked not in CHOICES:
            raise UsageError(f"unknown delegate {asked!r}; choose one of {', '.join(CHOICES)}")
        if asked == EDGETPU and EDGETPU not in roles:
            raise DelegateError(
                EDGETPU, "this bundle has no compiled twin; make one with: edgekit bundle --edgetpu FILE"
            )
        if asked != AUTO:
            return cls(asked, (asked,))
        return cls(asked, ((EDGETPU,) if EDGETPU in roles else ()) + CPU_RUNGS)

    @property
    def explicit(self) -> bool:
        """Whether one rung was asked for by name: it never falls back."""
        return self.asked != AUTO

    @property
    def current(self) -> str | None:
        """The best rung that has not failed; None when all have."""
        return next((rung for rung in self.rungs if rung not in self.failures), None)

    @property
    def reason(self) -> str | None:
        """Why a better rung does not serve; None on the best one."""
        return "; ".join(f"{rung}: {why}" for rung, why in self.failures.items()) or None

    def fail(self, rung: str, why: str) -> str | None:
        """Leave a rung.

        Returns:
            The next one, or None.
        """
        self.failures[rung] = why
        self.tries[rung] = self.tries.get(rung, 0) + 1
        return self.current

    def lost(self) -> str | None:
        """The best rung above the current one that failed and may be tried again; None on the best."""
        current = self.current
        above = self.rungs[: self.rungs.index(current)] if current else ()
        return next((rung for rung in above if rung in self.failures), None)

    def retry_after_s(self, rung: str) -> float:
        """How long to leave a lost rung alone."""
        return float(min(RETRY_CAP_S, RETRY_FIRST_S * 2 ** min(self.tries.get(rung, 1) - 1, 10)))

    def regain(self, rung: str) -> None:
        """A lost rung was proved again."""
        self.failures.pop(rung, None)

    def retry(self) -> None:
        """Open every rung again."""
        self.failures.clear()

"""Which rung serves: the fastest that was proved, and never a quiet fallback. Pure decisions."""

from __future__ import annotations

from dataclasses import dataclass, field

from edgekit_device.contract.errors import UsageError

AUTO = "auto"
CPU_RUNGS = ("xnnpack", "builtin")
CHOICES = (AUTO, "edgetpu", *CPU_RUNGS, "reference")


@dataclass
class Ladder:
    """The rungs still open to one run, best first.

    Attributes:
        asked: What --delegate said.
        rungs: The rungs that may serve, best first.
        failures: Why each failed rung was left.
    """

    asked: str
    rungs: tuple[str, ...]
    failures: dict[str, str] = field(default_factory=dict)

    @classmethod
    def for_choice(cls, asked: str) -> Ladder:
        """The rungs that a --delegate choice allows; an explicit one stands alone.

        Raises:
            UsageError: No such delegate.
        """
        if asked not in CHOICES:
            raise UsageError(f"unknown delegate {asked!r}; choose one of {', '.join(CHOICES)}")
        return cls(asked, CPU_RUNGS if asked == AUTO else (asked,))

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
        return self.current

    def retry(self) -> None:
        """Open every rung again."""
        self.failures.clear()

"""Named errors of rollouts."""

from __future__ import annotations

from edgekit.errors import EdgeKitError, UsageError


class RolloutError(EdgeKitError):
    """A rollout cannot be begun, or cannot do what was asked of it."""


class LeaseLostError(RolloutError):
    """Another engine holds the lease, or somebody wrote since this one read: what it decided is void."""

    def __init__(self, number: int) -> None:
        super().__init__(f"rollout {number} moved on meanwhile; ask again")
        self.number = number


class RolloutStateError(RolloutError):
    """The rollout is in no state to do this."""

    def __init__(self, number: int, state: str, asked: str, remedy: str) -> None:
        super().__init__(f"rollout {number} is {state} and cannot be {asked}; {remedy}")
        self.number, self.state, self.asked = number, state, asked


class RolloutOverlapError(RolloutError):
    """Boards of this rollout are in the hands of another one."""

    def __init__(self, number: int, boards: int) -> None:
        super().__init__(
            f"{boards} of these boards belong to rollout {number}, which is not over; "
            f"wait for it, or end it: edgekit fleet rollout abort {number}"
        )
        self.number, self.boards = number, boards


class WhereError(UsageError):
    """An expression that chooses boards cannot be read."""

    def __init__(self, text: str, problem: str) -> None:
        super().__init__(f"--where {text[:120]!r}: {problem}; write it like 'kind=pi5 and site=berlin'")
        self.text, self.problem = text, problem

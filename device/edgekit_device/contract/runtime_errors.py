"""Named errors about runtime releases: another edgekit-device for a board."""

from __future__ import annotations

from edgekit_device.contract.errors import BundleError, GateError, SlotError


class RuntimeFormatError(BundleError, ValueError):
    """A file is not a runtime release, or not laid out as the contract says."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}; make it again with: edgekit wheels release")
        self.path, self.problem = path, problem


class RuntimeUnfitError(SlotError):
    """A runtime release is signed and whole, and not for this board."""

    def __init__(self, release: str, problem: str) -> None:
        super().__init__(f"{release} is not for this board: {problem}")
        self.release, self.problem = release, problem


class RuntimeBuildError(SlotError):
    """The environment of a runtime release could not be made; what ran before still does."""

    def __init__(self, release: str, problem: str) -> None:
        super().__init__(f"{release} could not be built, so nothing was changed: {problem}")
        self.release, self.problem = release, problem


class RuntimeProofError(GateError):
    """A runtime release was built and does not even start; what ran before still does."""

    def __init__(self, release: str, problem: str) -> None:
        super().__init__(f"{release} does not start here, so nothing was changed: {problem}")
        self.release, self.problem = release, problem


class RejectedRuntimeError(SlotError, GateError):
    """This board tried the runtime release before and went back; it is not tried again by itself."""

    def __init__(self, release: str, reason: str | None) -> None:
        super().__init__(
            f"{release} was tried on this board and rejected ({reason or 'no reason was kept'}); nothing was changed. "
            "To try it again: edgekit-device install --force FILE"
        )
        self.release, self.reason = release, reason

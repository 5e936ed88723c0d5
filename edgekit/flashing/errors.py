"""Named errors of flashing: each names the board, what is wrong there, and the command that mends it."""

from __future__ import annotations

from edgekit.errors import EdgeKitError


class BoardError(EdgeKitError):
    """A board could not be flashed; what served there before still serves.

    Args:
        board: The target, as it was named.
        problem: What is wrong.
        remedy: What to type next.
    """

    def __init__(self, board: str, problem: str, remedy: str) -> None:
        super().__init__(f"{board}: {problem}; {remedy}")
        self.board, self.problem, self.remedy = board, problem, remedy


class BoardBusyError(BoardError):
    """Another flash works on this board."""


class BoardDiskError(BoardError):
    """The board's disk is too full, or refuses to be written."""


class BoardStartError(BoardError):
    """The service did not come up with what was flashed; the board went back."""


class BrokenPythonError(BoardError):
    """The board has no Python that can run the device runtime."""


class ChangedHostKeyError(BoardError):
    """The board shows another host key than the one that was pinned: another machine, or somebody in between."""


class ClockError(BoardError):
    """The board's clock is so wrong that nothing it writes down could be trusted."""


class CommandError(BoardError):
    """A command on the board failed."""


class LibraryError(BoardError):
    """The libedgetpu package cannot be used."""


class LinkLostError(BoardError):
    """The connection ended before the work did."""


class LoginError(BoardError):
    """The board does not let this user in."""


class NoRightsError(BoardError):
    """The user on the board may not change the system."""


class RefusedByBoardError(BoardError):
    """The board's own installer refused the bundle; what was current there still is.

    Attributes:
        kind: Class of the board's error.
    """

    def __init__(self, board: str, bundle: str, kind: str, message: str) -> None:
        super().__init__(board, f"refuses {bundle}: {message}", "flash another version")
        self.kind = kind


class RuntimeVersionError(BoardError):
    """Host and board are too far apart."""


class UnreachableError(BoardError):
    """Nothing answers as an SSH server where the board should be."""


class UnsupportedBoardError(BoardError):
    """An operating system or a processor that EdgeKit does not run on."""


class WheelsError(BoardError):
    """The wheels that the board needs are not there, or are not what they were."""

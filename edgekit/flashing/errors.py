"""Named errors of flashing: each names the board, what is wrong there, and the command that mends it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgekit.errors import EdgeKitError

if TYPE_CHECKING:
    from edgekit.flashing.flashed import Flashed


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


class FlashFailedError(EdgeKitError):
    """Some of several boards could not be flashed; the others were.

    Attributes:
        results: One `Flashed` a target.
    """

    def __init__(self, results: Sequence[Flashed]) -> None:
        failed = [one for one in results if one.error is not None]
        names = ", ".join(one.target.name for one in failed[:5])
        more = f" and {len(failed) - 5} more" if len(failed) > 5 else ""
        super().__init__(f"{len(failed)} of {len(results)} boards failed: {names}{more}; run the same command again")
        self.results = tuple(results)
        self.exit_code = max((one.error.exit_code for one in failed if one.error is not None), default=1)


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


class UnexpectedError(BoardError):
    """A fault of EdgeKit's own on one board; the others went on."""

    def __init__(self, board: str, problem: str) -> None:
        super().__init__(board, problem, "please report it, with the traceback that EDGEKIT_DEBUG=1 gives")


class UnreachableError(BoardError):
    """Nothing answers as an SSH server where the board should be."""


class UnsupportedBoardError(BoardError):
    """An operating system or a processor that EdgeKit does not run on."""


class WheelsError(BoardError):
    """The wheels that the board needs are not there, or are not what they were."""

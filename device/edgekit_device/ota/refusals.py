"""What a refusal of python-tuf is called here: a pure function of what it said and of what was shown."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from tuf.api import exceptions as tuf_errors

from edgekit_device.ota.errors import (
    ClockError,
    DamagedMetadataError,
    EndlessDataError,
    FastForwardError,
    ForgedMetadataError,
    FreezeError,
    MissingFileError,
    MixAndMatchError,
    OverTheAirError,
    RollbackError,
)

if TYPE_CHECKING:
    from edgekit_device.trusted_time import Moment

# A repository that is signed again each minute of a year gets half as far.
MAX_LEAP = 1_000_000


class Shown(NamedTuple):
    """The metadata that came last, not believed.

    Attributes:
        role: Whose.
        asked: The version in its name; None where the name has none.
        held: The version that is trusted here already; None for none.
        got: The version that it says it has.
        expires: What it says.
        genuine: Whether the keys of its role signed it; None where that cannot be told.
    """

    role: str
    asked: int | None = None
    held: int | None = None
    got: int | None = None
    expires: str | None = None
    genuine: bool | None = None


def refusal(error: Exception, shown: Shown, moment: Moment, *, synced: bool = False) -> OverTheAirError:
    """Name what python-tuf refused.

    Args:
        error: What it raised.
        shown: What came last.
        moment: By which time was judged.
        synced: Whether the wall clock is known to be set by the network.
    """
    file = f"{shown.role}.json"
    if isinstance(error, tuf_errors.ExpiredMetadataError):
        return _expired(file, shown, moment, synced)
    if isinstance(error, tuf_errors.UnsignedMetadataError):
        return ForgedMetadataError(file, f"is not signed by the keys of its role ({_words(error)})")
    if isinstance(error, tuf_errors.BadVersionNumberError):
        return _version(file, shown, error)
    if isinstance(error, tuf_errors.LengthOrHashMismatchError):
        if shown.genuine is None:
            return DamagedMetadataError(file, f"cannot be read, and is not the one that was named ({_words(error)})")
        if not shown.genuine:
            return ForgedMetadataError(file, "is not signed by the keys of its role, and not the one that was named")
        if shown.held is not None and shown.got is not None and shown.got < shown.held:
            return RollbackError(file, f"version {shown.got} is shown where {shown.held} is known already")
        return MixAndMatchError(
            file, "is not the one that the rest of the metadata names: two moments are shown together"
        )
    if isinstance(error, tuf_errors.DownloadHTTPError):
        return MissingFileError(file, f"the server answers with code {error.status_code}", error.status_code)
    if isinstance(error, tuf_errors.DownloadLengthMismatchError):
        return EndlessDataError(file, _words(error))
    if "missing info" in str(error):
        return RollbackError(file, f"names less than was known already ({_words(error)})")
    return DamagedMetadataError(file, _words(error))


def _version(file: str, shown: Shown, error: Exception) -> OverTheAirError:
    known = shown.asked if shown.role == "root" else shown.held
    if shown.got is not None and known is not None and shown.got < known:
        return RollbackError(file, f"version {shown.got} is shown where {known} is known already")
    if shown.role in ("snapshot", "timestamp") and shown.asked in (None, shown.got):
        # The file is newer, what it lists is older.
        return RollbackError(file, f"lists something older than is known already ({_words(error)})")
    if shown.role == "root":
        return FastForwardError(file, f"version {shown.got} is shown where {shown.asked} comes next")
    asked = f"where {shown.asked} was named" if shown.asked is not None else ""
    return MixAndMatchError(file, f"version {shown.got} is shown {asked}({_words(error)})")


def _expired(file: str, shown: Shown, moment: Moment, synced: bool) -> OverTheAirError:
    ends = _seconds(shown.expires)
    clock = f"this board's clock says {_day(moment.wall_s)}"
    if not moment.right:
        clock += f" and is not right; it is {_day(moment.floor_s)} at least"
    until = f"expired on {_day(ends)}" if ends is not None else "has expired"
    if ends is not None and ends > moment.floor_s and not synced:
        # By what has certainly passed it would still hold: only the clock speaks against it.
        return ClockError(file, f"{until}: {clock}. If that is wrong, set the clock; else sign the repository again")
    return FreezeError(file, f"{until} ({clock}); sign the repository again: edgekit fleet up, or fleet publish")


def _seconds(text: str | None) -> float | None:
    try:
        return datetime.fromisoformat(text or "").timestamp()
    except (ValueError, OverflowError):
        return None


def _day(seconds: float) -> str:
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}"
    except (ValueError, OverflowError, OSError):
        return "a day beyond the calendar"


def _words(error: Exception) -> str:
    return "".join(c if c.isprintable() else " " for c in str(error))[:200] or type(error).__name__

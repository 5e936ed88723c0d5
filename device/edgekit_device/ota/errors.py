"""Why an update over the air was not taken. What served before serves on after each of them.

Each class is one attack or one trouble, and its name travels in `reported`: whoever looks at the fleet reads there what
happened to a board. `passing` ones are tried again by themselves, the others when something has changed.
"""

from __future__ import annotations

from edgekit_device.contract.errors import EdgeKitError


class OverTheAirError(EdgeKitError):
    """An update was not taken.

    Attributes:
        passing: Whether time alone may mend it: the network, the host, the clock.
        file: What it is about.
    """

    passing = False

    def __init__(self, file: str, problem: str) -> None:
        super().__init__(f"{file}: {problem}")
        self.file, self.problem = file, problem


# trouble on the way


class RepositoryUnreachableError(OverTheAirError):
    """Nothing answers at the repository's address, or it answers that it cannot."""

    passing = True


class RequestDroppedError(OverTheAirError):
    """Somebody takes requests and lets them fall, in the middle of one or before it is answered."""

    passing = True


class MissingFileError(OverTheAirError):
    """The repository answers and does not have the file, or sends elsewhere for it.

    Attributes:
        code: Of HTTP.
    """

    passing = True

    def __init__(self, file: str, problem: str, code: int = 404) -> None:
        super().__init__(file, problem)
        self.code = code


class PartialFileError(OverTheAirError):
    """A file ends before its length."""

    passing = True


class SlowRetrievalError(OverTheAirError):
    """Bytes drip: slower than the least rate, or past the deadline."""

    passing = True


class EndlessDataError(OverTheAirError):
    """A file is longer than it may be; not a byte more than its length was kept."""


class WrongRangeError(OverTheAirError):
    """Asked to go on at one byte, the server goes on at another."""


class FloodError(OverTheAirError):
    """The repository makes a board ask for more and more."""


# what was fetched is not what it should be


class ForgedMetadataError(OverTheAirError):
    """Metadata is not signed by the keys of its role: forged, or signed with a key that counts no more or elsewhere."""


class DamagedMetadataError(OverTheAirError):
    """Metadata cannot be read at all."""


class ForgedFileError(OverTheAirError):
    """A file is not the one that the signed metadata names."""


class RollbackError(OverTheAirError):
    """The repository shows something older than this board has seen."""


class FastForwardError(OverTheAirError):
    """A version leaps so far that no repository ever gets there; taking it would shut out every later one."""


class MixAndMatchError(OverTheAirError):
    """Metadata of two moments is shown together."""


class FreezeError(OverTheAirError):
    """The newest that the repository shows has expired: it is kept from showing something newer."""

    passing = True


class ClockError(OverTheAirError):
    """By this board's clock everything has expired, and the clock may be what is wrong."""

    passing = True


class WrongSoftwareError(OverTheAirError):
    """What is well signed under one name is another thing inside."""


class ExtraneousFileError(OverTheAirError):
    """The metadata names something that no update of this project has: more would be fetched than was asked for."""


class UnknownReleaseError(OverTheAirError):
    """The repository does not offer what `desired` asks for."""

    passing = True


class NotPreparedError(OverTheAirError):
    """This board cannot update over the air as it is set up."""

    passing = True

"""The camera that is there: CSI first, then USB."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgekit_device.contract.errors import SourceUnavailableError
from edgekit_device.sources.frame import Source, SourceOptions

Opener = Callable[[str, SourceOptions], Source]


def first_camera(openers: Sequence[tuple[str, Opener]], options: SourceOptions) -> Source:
    """Open the first that answers.

    A camera that was open before is the only one wanted again: a device id that another kind does not know is
    simply not found there.

    Raises:
        SourceUnavailableError: None does; says of each why.
    """
    reasons = []
    for name, opener in openers:
        try:
            return opener("", options)
        except SourceUnavailableError as error:
            reasons.append(f"{name}: {error.problem}")
    raise SourceUnavailableError(
        "auto",
        f"no camera is there ({'; '.join(reasons)}); plug one in, or play the bundle's own photos with --source sample",
    )


def open_auto(argument: str, options: SourceOptions) -> Source:
    """``auto``.

    Raises:
        SourceUnavailableError: Neither a CSI nor a USB camera can be opened.
    """
    from edgekit_device.sources.camera import open_camera
    from edgekit_device.sources.picamera import open_picamera

    chosen: list[tuple[str, Opener]] = [("CSI", open_picamera), ("USB", open_camera)]
    return first_camera(chosen, options)

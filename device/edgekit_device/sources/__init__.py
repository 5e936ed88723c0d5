"""Where frames come from: one table of names, each imported when it is chosen."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from edgekit_device.contract.errors import UsageError

if TYPE_CHECKING:
    from edgekit_device.sources.frame import Source, SourceOptions

SOURCES = {
    "synthetic": "edgekit_device.sources.synthetic:open_synthetic",
    "images": "edgekit_device.sources.images:open_images",
    "video": "edgekit_device.sources.video:open_video",
    "sample": "edgekit_device.sources.sample:open_sample",
}


def split_source(text: str) -> tuple[str, str]:
    """Take ``kind:argument`` apart.

    Raises:
        UsageError: No source has that name.
    """
    kind, _, argument = text.partition(":")
    if kind not in SOURCES:
        raise UsageError(f"unknown source {text!r}; choose one of {', '.join(SOURCES)}")
    return kind, argument


def open_source(text: str, options: SourceOptions) -> Source:
    """Open a source by its name.

    Args:
        text: ``kind`` or ``kind:argument``, e.g. ``video:clip.avi``.
        options: Pace, looping, wanted size.

    Raises:
        UsageError: No source has that name.
        SourceUnavailableError: It cannot be opened.
    """
    kind, argument = split_source(text)
    module, _, name = SOURCES[kind].partition(":")
    source: Source = getattr(import_module(module), name)(argument, options)
    if options.faults:
        from edgekit_device.sources.faults import FaultySource

        source = FaultySource(source, options.faults)
    return source

"""Where frames come from: one table of names, each imported when it is chosen."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from edgekit_device.contract.errors import UsageError

if TYPE_CHECKING:
    from edgekit_device.sources.frame import Source, SourceOptions

SOURCES = {
    "auto": "edgekit_device.sources.auto:open_auto",
    "camera": "edgekit_device.sources.camera:open_camera",
    "picamera": "edgekit_device.sources.picamera:open_picamera",
    "rtsp": "edgekit_device.sources.rtsp:open_rtsp",
    "video": "edgekit_device.sources.video:open_video",
    "images": "edgekit_device.sources.images:open_images",
    "sample": "edgekit_device.sources.sample:open_sample",
    "synthetic": "edgekit_device.sources.synthetic:open_synthetic",
}
# Sources that are a device: when one is missing or goes away, a run waits for it instead of ending.
DEVICES = frozenset({"auto", "camera", "picamera", "rtsp", "sample", "synthetic"})
# Devices whose pictures are judged: frozen, black, torn and so on. Photos that play by turns differ in size.
JUDGED = DEVICES - {"sample"}


def split_source(text: str) -> tuple[str, str]:
    """Take ``kind:argument`` apart.

    Raises:
        UsageError: No source has that name.
    """
    kind, _, argument = text.partition(":")
    if kind not in SOURCES:
        raise UsageError(f"unknown source {text!r}; choose one of {', '.join(SOURCES)}")
    return kind, argument


def is_device(text: str) -> bool:
    """Whether a source is a device, which is waited for, and not a file, which ends."""
    return split_source(text)[0] in DEVICES


def check_source(text: str, options: SourceOptions) -> None:
    """Refuse what can be refused without opening anything, so that a typing error ends a run at once.

    Raises:
        UsageError: No such source, fault or region.
    """
    kind, argument = split_source(text)
    if kind == "rtsp":
        from edgekit_device.sources.rtsp import stream_url

        stream_url(argument)
    if kind == "synthetic":
        from edgekit_device.sources.frame import synthetic_options

        synthetic_options(argument, options)
    if options.roi:
        from edgekit_device.sources.region import parse_region

        parse_region(options.roi)
    if options.faults:
        from edgekit_device.sources.faults import parse_fault

        for fault in options.faults:
            parse_fault(fault)


def open_source(text: str, options: SourceOptions) -> Source:
    """Open a source by its name.

    Args:
        text: ``kind`` or ``kind:argument``, e.g. ``video:clip.avi``.
        options: Pace, looping, wanted size, region, faults.

    Raises:
        UsageError: No source has that name, or its argument is not of its form.
        SourceUnavailableError: It cannot be opened.
    """
    kind, argument = split_source(text)
    if options.faults:
        from edgekit_device.sources.faults import refuse_while_gone

        refuse_while_gone(options)
    module, _, name = SOURCES[kind].partition(":")
    source: Source = getattr(import_module(module), name)(argument, options)
    if options.faults:
        from edgekit_device.sources.faults import FaultySource

        source = FaultySource(source, options)
    if options.roi:
        from edgekit_device.sources.region import RegionSource

        source = RegionSource(source, options.roi)
    return source

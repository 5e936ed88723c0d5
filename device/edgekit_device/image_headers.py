"""What a picture's header says it will cost, read before anything is decoded.

A decompression bomb states its size in its header; decoders believe it and reserve memory. Only the formats that
are understood here are ever given to a decoder. Standard library only.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgekit_device.contract.errors import ShapeError

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".ppm", ".pgm", ".pbm"}
    | {".pnm", ".jp2", ".avif", ".gif", ".heic", ".heif"}
)
"""File names that promise a picture; those that no decoder is given are named, not passed over."""

MAX_FILE_BYTES = 64 << 20
# One picture with its file must be decoded within 256 MB; what is left is for the decoder's own small tables.
MAX_DECODE_BYTES = 240_000_000
# Each scan of a progressive JPEG visits every block again: cameras write about ten, a bomb thousands.
MAX_JPEG_SCANS = 64
MAX_SCANNED_PIXELS = 1_000_000_000
# Segments or chunks before the picture itself: cameras write a few dozen.
_MAX_CHUNKS = 10_000

_FOREIGN = (
    (4, b"ftypavi", "AVIF"), (4, b"ftyphei", "HEIC"), (4, b"ftypmif", "HEIF"), (4, b"ftyp", "MP4"),
    (0, b"\0\0\0\x0cjP  ", "JPEG 2000"), (0, b"\xff\x4f\xff\x51", "JPEG 2000"), (0, b"v/1\x01", "OpenEXR"),
    (0, b"#?R", "Radiance HDR"), (0, b"\x59\xa6\x6a\x95", "Sun raster"), (0, b"P7", "PAM"), (0, b"PF", "PFM"),
    (0, b"Pf", "PFM"), (0, b"<svg", "SVG"), (0, b"<?xml", "SVG"), (0, b"%PDF", "PDF"), (0, b"8BPS", "PSD"),
    (0, b"II+\0", "BigTIFF"), (0, b"MM\0+", "BigTIFF"), (0, b"\0\0\x01\0", "ICO"), (0, b"\x1f\x8b", "gzip"),
    (0, b"PK\x03\x04", "zip"),
)  # fmt: skip
# Bytes a pixel that OpenCV 5 takes at its peak whatever the format: the decoded picture and its copy in RGB, or turned
# as Exif says. Every factor in this module was measured at 12 megapixels and rounded up.
_LEAST = 6.3
_TIFF_SIZES = {1: 1, 3: 2, 4: 4}


@dataclass(frozen=True)
class ImageHeader:
    """What a header declares.

    Attributes:
        kind: ``JPEG``, ``PNG``, ``WebP``, ``TIFF``, ``BMP``, ``GIF`` or ``PNM``.
        height: In pixels, as stored.
        width: In pixels, as stored.
        decode_bytes: Memory that decoding to RGB takes at its peak, by OpenCV 4 and 5.
        problem: Why it must not be decoded, whatever its size; empty if nothing speaks against it.
    """

    kind: str
    height: int
    width: int
    decode_bytes: int
    problem: str = ""


def read_image_file(path: Path, *, max_bytes: int = MAX_FILE_BYTES) -> bytes:
    """The bytes of a picture file, never more than `max_bytes`, and never of something that only looks like a file.

    Raises:
        ShapeError: A pipe, a device or a folder, or larger than max_bytes.
        OSError: It cannot be opened: missing, no permission, links in a circle.
    """
    # Opening a pipe without O_NONBLOCK waits for its writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise ShapeError("not a regular file")
        if found.st_size > max_bytes:
            raise ShapeError(f"file of {found.st_size} bytes is over the limit of {max_bytes} bytes")
        return file.read(found.st_size)


def check_image(data: bytes, max_pixels: int) -> ImageHeader:
    """Decide from the header whether a picture may be decoded.

    Args:
        data: The file's bytes.
        max_pixels: Refuse anything larger.

    Raises:
        ShapeError: Not a picture in a format that is read here, or decoding it would take too much.
    """
    header = read_header(data)
    if header is None:
        raise ShapeError(_foreign(data) or "not a readable image")
    if not header.height or not header.width:
        raise ShapeError("not a readable image (it declares no pixels)")
    size = f"image of {header.width} x {header.height} pixels"
    if header.height * header.width > max_pixels:
        raise ShapeError(f"{size} is over the limit of {max_pixels} pixels")
    if header.problem:
        raise ShapeError(header.problem)
    needed = header.decode_bytes + len(data)
    if needed > MAX_DECODE_BYTES:
        limit = MAX_DECODE_BYTES // 1_000_000
        raise ShapeError(f"{size} takes {needed // 1_000_000} MB to decode, over the limit of {limit} MB")
    return header


def read_header(data: bytes) -> ImageHeader | None:
    """Read the header of a picture; None for a format that is not read here or a header cut short."""
    readers = (
        (b"\xff\xd8\xff", _jpeg), (b"\x89PNG\r\n\x1a\n", _png), (b"RIFF", _webp), (b"II*\0", _tiff),
        (b"MM\0*", _tiff), (b"BM", _bmp), (b"GIF8", _gif), (b"P", _pnm),
    )  # fmt: skip
    try:
        return next((read(data) for magic, read in readers if data.startswith(magic)), None)
    except (struct.error, IndexError, ValueError):
        return None


def _foreign(data: bytes) -> str:
    start = data[:64].lstrip(b"\xef\xbb\xbf \t\r\n")
    for at, magic, name in _FOREIGN:
        if (start if at == 0 and magic[:1] == b"<" else data)[at : at + len(magic)] == magic:
            return f"not a readable image ({name} is not read; convert it to JPEG or PNG)"
    return ""


def _jpeg(data: bytes) -> ImageHeader | None:
    at, frame = 2, 0
    for _ in range(_MAX_CHUNKS):
        # Any number of fill bytes may stand before a marker.
        at = _end_of_run(data, at, 0xFF)
        marker = data[at]
        if data[at - 1] != 0xFF:
            return None
        if 0xD0 <= marker <= 0xD8 or marker == 0x01:
            at += 1
            continue
        # SOF0..SOF15 without DHT (C4), JPG (C8) and DAC (CC) hold the frame size (ITU-T T.81, B.2.2).
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            frame = frame or at
        if marker == 0xDA:
            return _jpeg_frame(data, frame, at) if frame else None
        at += 1 + struct.unpack_from(">H", data, at + 1)[0]
    return None


def _end_of_run(data: bytes, at: int, value: int) -> int:
    """Where the run of one byte value ends that begins at `at`."""
    step = 1
    while data[at : at + step] == bytes([value]) * step:
        at, step = at + step, min(2 * step, 1 << 16)
    while at < len(data) and data[at] == value:
        at += 1
    return at


def _jpeg_frame(data: bytes, frame: int, scan: int) -> ImageHeader:
    """What decoding takes.

    Args:
        data: The file's bytes.
        frame: Where the marker of the frame header stands.
        scan: Where the marker of the first scan stands.
    """
    height, width, count = struct.unpack_from(">HHB", data, frame + 4)
    sampling = [data[frame + 10 + 3 * i] for i in range(min(count, 4))]
    blocks = [max(1, s >> 4) * max(1, s & 15) for s in sampling]
    largest = max((s >> 4 for s in sampling), default=1) * max((s & 15 for s in sampling), default=1)
    each = _LEAST
    # A baseline scan of all components is the only one.
    single = data[frame] in (0xC0, 0xC1) and data[scan + 3] == count
    scans = 1 if single else data.count(b"\xff\xda", scan - 1)
    if not single:
        # All coefficients, two bytes each, wait for the last scan.
        each = max(each, 3.3 + 2.0 * sum(blocks) / max(1, largest))
    problem = ""
    if scans > MAX_JPEG_SCANS or scans * height * width > MAX_SCANNED_PIXELS:
        problem = f"JPEG of {width} x {height} pixels in {scans} scans takes too long to decode"
    return ImageHeader("JPEG", height, width, int(height * width * each), problem)


def _png(data: bytes) -> ImageHeader | None:
    if data[12:16] != b"IHDR" or len(data) < 33:
        return None
    width, height = struct.unpack_from(">II", data, 16)
    # Frames of an animation are laid on a canvas of four channels.
    each = 12.5 if b"acTL" in data[:4096] else _LEAST
    return ImageHeader("PNG", height, width, int(height * width * each))


def _webp(data: bytes) -> ImageHeader | None:
    if data[8:12] != b"WEBP":
        return None
    height = width = 0
    each = 9
    for name, at, length in _riff_chunks(data):
        if name == b"VP8X":
            wide = int.from_bytes(data[at + 4 : at + 7], "little") + 1
            tall = int.from_bytes(data[at + 7 : at + 10], "little") + 1
        elif name == b"VP8 " and data[at + 3 : at + 6] == b"\x9d\x01\x2a":
            wide, tall = (n & 0x3FFF for n in struct.unpack_from("<HH", data, at + 6))
        elif name == b"VP8L" and data[at : at + 1] == b"\x2f":
            bits = struct.unpack_from("<I", data, at + 1)[0]
            wide, tall = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        elif name == b"ANMF" and length >= 16:
            wide = int.from_bytes(data[at + 6 : at + 9], "little") + 1
            tall, each = int.from_bytes(data[at + 9 : at + 12], "little") + 1, 13
        else:
            continue
        height, width = max(height, tall), max(width, wide)
    return ImageHeader("WebP", height, width, height * width * each) if height else None


def _riff_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    at = 12
    for _ in range(_MAX_CHUNKS):
        if at + 8 > len(data):
            return
        length = struct.unpack_from("<I", data, at + 4)[0]
        yield data[at : at + 4], at + 8, length
        at += 8 + length + (length & 1)


def _tiff(data: bytes) -> ImageHeader | None:
    order = "<" if data[:2] == b"II" else ">"
    start = struct.unpack_from(order + "I", data, 4)[0]
    count = struct.unpack_from(order + "H", data, start)[0]
    tags: dict[int, int] = {}
    for at in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, values = struct.unpack_from(order + "HHI", data, at)
        if kind in _TIFF_SIZES and values:
            # Of several values (bits of each sample) the first stands for all.
            size = _TIFF_SIZES[kind]
            place = at + 8 if size * values <= 4 else struct.unpack_from(order + "I", data, at + 8)[0]
            tags[tag] = struct.unpack_from(order + {1: "B", 2: "H", 4: "I"}[size], data, place)[0]
    if 256 not in tags or 257 not in tags:
        return None
    width, height = tags[256], tags[257]
    sample_bytes = max(1, (tags.get(258, 1) + 7) // 8) * max(1, tags.get(277, 1))
    tile = tags.get(322, width) * tags.get(323, min(tags.get(278, height), height))
    # The result, a turned copy, and one strip or tile as stored and as four channels.
    return ImageHeader("TIFF", height, width, int(height * width * _LEAST) + tile * (sample_bytes + 4))


def _bmp(data: bytes) -> ImageHeader | None:
    size = struct.unpack_from("<I", data, 14)[0]
    form = "<HH" if size == 12 else "<ii"
    width, height = (abs(n) for n in struct.unpack_from(form, data, 18))
    return ImageHeader("BMP", height, width, height * width * 7)


def _gif(data: bytes) -> ImageHeader | None:
    width, height = struct.unpack_from("<HH", data, 6)
    return ImageHeader("GIF", height, width, height * width * 9)


def _pnm(data: bytes) -> ImageHeader | None:
    if data[1:2] not in b"123456" or not data[2:3].isspace():
        return None
    words: list[int] = []
    for line in data[2:4096].split(b"\n"):
        words += [int(word) for word in line.split(b"#")[0].split()]
        if len(words) >= 2:
            break
    width, height = words[:2]
    return ImageHeader("PNM", height, width, height * width * 8) if width >= 0 and height >= 0 else None

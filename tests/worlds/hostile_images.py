"""Image files that attack a decoder, or are merely broken or unusual: the table of gate D5.

Each entry makes one file; `USABLE` names those that are real pictures and must decode, all others must be refused.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

Maker = Callable[[Path], None]


def _picture(side: int = 48, seed: int = 1) -> np.ndarray:
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return cv2.resize(small, (side, side), interpolation=cv2.INTER_CUBIC)


def encoded(suffix: str, image: np.ndarray | None = None, *options: int) -> bytes:
    return cv2.imencode(suffix, _picture() if image is None else image, list(options))[1].tobytes()


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(width: int, height: int, *more: bytes, depth: int = 8, color: int = 2, interlace: int = 0) -> bytes:
    head = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlace))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(more) + _chunk(b"IEND", b"")


@lru_cache
def _zeros(count: int) -> bytes:
    """So many zero bytes, deflated a thousandfold."""
    packer = zlib.compressobj(1)
    parts = [packer.compress(bytes(1 << 20)) for _ in range(count >> 20)]
    return b"".join([*parts, packer.compress(bytes(count & 0xFFFFF)), packer.flush()])


def png_zip_bomb(side: int) -> bytes:
    return png(side, side, _chunk(b"IDAT", _zeros(side * (3 * side + 1))))


def patched_jpeg(width: int, height: int, *, progressive: bool = False) -> bytes:
    data = bytearray(encoded(".jpg", None, cv2.IMWRITE_JPEG_PROGRESSIVE, int(progressive)))
    at = data.index(b"\xff\xc2" if progressive else b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def jpeg_scan_bomb(scans: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again: each visits every block."""
    flat = np.full((3000, 3000, 3), 90, np.uint8)
    data = bytearray(encoded(".jpg", flat, cv2.IMWRITE_JPEG_PROGRESSIVE, 1))
    last = data.rindex(b"\xff\xda")
    return bytes(data[:-2] + data[last:-2] * scans + b"\xff\xd9")


def jpeg_with(segment: bytes, marker: int = 0xE1) -> bytes:
    data = encoded(".jpg")
    return data[:2] + bytes([0xFF, marker]) + struct.pack(">H", len(segment) + 2) + segment + data[2:]


def exif(entries: bytes, count: int) -> bytes:
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", count) + entries + b"\x08\0\0\0"


def tiff(tags: dict[int, tuple[int, int, int]], *, next_ifd: int = 0, tail: bytes = b"") -> bytes:
    body = b"".join(struct.pack("<HHII", tag, *values) for tag, values in sorted(tags.items()))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + body + struct.pack("<I", next_ifd) + tail


def tiff_of(width: int, height: int, **extra: Any) -> bytes:
    tags = {256: (4, 1, width), 257: (4, 1, height), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1), 273: (4, 1, 200)}
    tags |= {277: (3, 1, 1), 278: (4, 1, height), 279: (4, 1, 16)} | extra.pop("tags", {})
    return tiff(tags, tail=bytes(64), **extra)


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"".join(name + struct.pack("<I", len(c)) + c + b"\0" * (len(c) & 1) for name, c in chunks)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def vp8x(width: int, height: int, flags: int = 0) -> tuple[bytes, bytes]:
    return b"VP8X", bytes([flags, 0, 0, 0]) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")


def bmp(width: int, height: int, bits: int = 24, compression: int = 0, tail: bytes = bytes(64)) -> bytes:
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + len(tail), 0, 0, 54) + head + tail


def gif(width: int, height: int, *frames: tuple[int, int], tail: bytes = b";") -> bytes:
    data = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6)
    for wide, tall in frames:
        data += b"," + struct.pack("<HHHHB", 0, 0, wide, tall, 0) + b"\x02\x02\x4c\x01\x00"
    return data + tail


def _pil(**options: Any) -> bytes:
    from PIL import Image

    mode = options.pop("mode", "RGB")
    kind = options.pop("format")
    image = Image.fromarray(_picture()[..., ::-1].copy()).convert(mode)
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def _frames(count: int) -> list[Any]:
    from PIL import Image

    return [Image.fromarray(_picture(seed=i)) for i in range(count)]


def _bytes(make: Callable[[], bytes]) -> Maker:
    def write(path: Path) -> None:
        path.write_bytes(make())

    return write


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.write(encoded(".jpg"))
        file.truncate(3 << 30)


def _avif(brand: bytes) -> bytes:
    return b"\0\0\0\x1cftyp" + brand + bytes(8) + brand + b"mif1" + bytes(64)


_MAKERS: dict[str, Callable[[], bytes]] = {
    "png-50k.png": lambda: png(50_000, 50_000, _chunk(b"IDAT", zlib.compress(bytes(100)))),
    "png-one-row.png": lambda: png(2**31 - 1, 1, _chunk(b"IDAT", zlib.compress(bytes(100)))),
    "png-interlaced-50k.png": lambda: png(50_000, 50_000, _chunk(b"IDAT", zlib.compress(bytes(9))), interlace=1),
    "png-zip-bomb.png": lambda: png(12_000, 12_000, _chunk(b"IDAT", _zeros(40 << 20))),
    "png-no-pixels.png": lambda: png(0, 0),
    "png-no-data.png": lambda: png(40, 40),
    "png-truncated.png": lambda: encoded(".png")[:60],
    "png-bad-crc.png": lambda: encoded(".png").replace(b"IHDR", b"IHDX"),
    "png-text-bomb.png": lambda: png(40, 40, _chunk(b"zTXt", b"Comment\0\0" + _zeros(40 << 20))),
    "png-profile-bomb.png": lambda: png(40, 40, _chunk(b"iCCP", b"icc\0\0" + _zeros(40 << 20))),
    "png-chunk-length.png": lambda: encoded(".png")[:33] + b"\x7f\xff\xff\xffIDAT" + bytes(50),
    "png-many-chunks.png": lambda: png(40, 40, _chunk(b"tEXt", b"a\0b") * 200_000),
    "png-animation-canvas.png": lambda: png(
        9_000, 9_000, _chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0)), _chunk(b"IDAT", zlib.compress(bytes(9)))
    ),
    "png-16-bit-large.png": lambda: png(50_000, 1_001, _chunk(b"IDAT", zlib.compress(bytes(9))), depth=16),
    "jpeg-65k.jpg": lambda: patched_jpeg(65_500, 65_500),
    "jpeg-65k-progressive.jpg": lambda: patched_jpeg(65_500, 65_500, progressive=True),
    "jpeg-40mp-progressive.jpg": lambda: patched_jpeg(7_000, 6_000, progressive=True),
    "jpeg-scan-bomb.jpg": lambda: jpeg_scan_bomb(3_000),
    "jpeg-start-only.jpg": lambda: b"\xff\xd8\xff",
    "jpeg-no-height.jpg": lambda: patched_jpeg(48, 0),
    "jpeg-cut-before-frame.jpg": lambda: encoded(".jpg")[:100],
    "jpeg-12-bit.jpg": lambda: encoded(".jpg").replace(b"\xff\xc0\0\x11\x08", b"\xff\xc1\0\x11\x0c"),
    "jpeg-only-fill-bytes.jpg": lambda: b"\xff\xd8" + b"\xff" * (32 << 20),
    "jpeg-many-comments.jpg": lambda: encoded(".jpg")[:2] + b"\xff\xfe\0\x02" * (8 << 20) + encoded(".jpg")[2:],
    "webp-many-chunks.webp": lambda: riff(*[(b"JUNK", b"")] * 300_000, (b"VP8 ", bytes(40))),
    "gif-65k.gif": lambda: gif(65_535, 65_535, (65_535, 65_535)),
    "gif-frame-past-screen.gif": lambda: gif(4, 4, (65_535, 65_535)),
    "gif-truncated.gif": lambda: gif(40, 40, (40, 40), tail=b"")[:-3],
    "gif-100k-frames.gif": lambda: gif(2_000, 2_000, *[(2_000, 2_000)] * 100_000),
    "tiff-50k.tif": lambda: tiff_of(50_000, 50_000),
    "tiff-2g.tif": lambda: tiff_of(2**31 - 1, 2**31 - 1),
    "tiff-tile.tif": lambda: tiff_of(64, 64, tags={322: (4, 1, 1 << 30), 323: (4, 1, 1 << 30)}),
    "tiff-samples.tif": lambda: tiff_of(6_000, 6_000, tags={277: (3, 1, 65_535)}),
    "tiff-circle.tif": lambda: tiff_of(40, 40, next_ifd=8)[:150],
    "tiff-strips.tif": lambda: tiff_of(40, 40, tags={273: (4, 2**30, 8), 278: (4, 1, 1)}),
    "tiff-no-sizes.tif": lambda: tiff({259: (3, 1, 1)}),
    "tiff-far-directory.tif": lambda: b"II*\0\xff\xff\xff\xff",
    "tiff-big.tif": lambda: b"II+\0\x08\0\0\0" + bytes(32),
    "webp-16m.webp": lambda: riff(vp8x(1 << 24, 1 << 24), (b"VP8 ", bytes(40))),
    "webp-lossless-16k.webp": lambda: riff((b"VP8L", b"\x2f" + struct.pack("<I", (16_383 << 14) | 16_383) + bytes(9))),
    "webp-animation.webp": lambda: riff(vp8x(16_000, 16_000, 2), (b"ANIM", bytes(6)), (b"ANMF", bytes(16))),
    "webp-truncated.webp": lambda: encoded(".webp")[:40],
    "webp-lying-size.webp": lambda: riff((b"VP8 ", bytes(3) + b"\x9d\x01\x2a\xff\x3f\xff\x3f"))[:28],
    "bmp-50k.bmp": lambda: bmp(50_000, 50_000),
    "bmp-least-height.bmp": lambda: bmp(40, -(2**31)),
    "bmp-rle-bomb.bmp": lambda: bmp(32_000, 32_000, 8, 1, bytes(1024) + b"\xff\0" * 64),
    "bmp-one-bit.bmp": lambda: bmp(60_000, 60_000, 1),
    "bmp-no-pixels.bmp": lambda: bmp(0, 40),
    "pnm-50k.ppm": lambda: b"P6\n50000 50000\n255\n" + bytes(99),
    "pnm-overflow.ppm": lambda: b"P6\n" + b"9" * 30 + b" 1\n255\n",
    "pnm-bits-50k.pbm": lambda: b"P4\n50000 50000\n" + bytes(99),
    "pnm-comment.pgm": lambda: b"P5\n#" + b"x" * (8 << 20) + b"\n40 40\n255\n",
    "avif.avif": lambda: _avif(b"avif"),
    "heic-named.jpg": lambda: _avif(b"heic"),
    "jpeg2000.jp2": lambda: b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(40),
    "radiance.jpg": lambda: b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 99999 +X 99999\n" + bytes(40),
    "pam.jpg": lambda: b"P7\nWIDTH 99999\nHEIGHT 99999\nDEPTH 4\nMAXVAL 65535\nENDHDR\n",
    "sun-raster.jpg": lambda: b"\x59\xa6\x6a\x95" + struct.pack(">7I", 60_000, 60_000, 24, 0, 1, 0, 0),
    "svg-named.jpg": lambda: (
        b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><image href="/etc/x"/></svg>'
    ),
    "html-named.jpg": lambda: b"<!doctype html><title>404</title>",
    "zip-named.jpg": lambda: b"PK\x03\x04" + bytes(60),
    "random.jpg": lambda: np.random.default_rng(0).bytes(5_000),
    "wrong-magic.png": lambda: b"\x88" + encoded(".png")[1:],
    "empty.jpg": lambda: b"",
}
_USABLE: dict[str, Callable[[], bytes]] = {
    "jpeg-plain.jpg": lambda: encoded(".jpg"),
    "jpeg-no-tables.jpg": lambda: encoded(".jpg").replace(b"\xff\xc4", b"\xff\xfe"),
    "jpeg-fill-bytes.jpg": lambda: encoded(".jpg")[:2] + b"\xff" * (8 << 20) + encoded(".jpg")[2:],
    "jpeg-cmyk.jpg": lambda: _pil(format="JPEG", mode="CMYK"),
    "jpeg-grey.jpg": lambda: _pil(format="JPEG", mode="L"),
    "jpeg-progressive.jpg": lambda: _pil(format="JPEG", progressive=True),
    "jpeg-exif-circle.jpg": lambda: jpeg_with(exif(struct.pack("<HHII", 0x8769, 4, 1, 8) * 2, 2)),
    "jpeg-exif-counts.jpg": lambda: jpeg_with(exif(struct.pack("<HHII", 0x0112, 3, 2**32 - 1, 2**32 - 9), 65_535)),
    "png-named.jpg": lambda: encoded(".png"),
    "png-palette.png": lambda: _pil(format="PNG", mode="P"),
    "png-alpha.png": lambda: _pil(format="PNG", mode="RGBA"),
    "png-16-bit.png": lambda: encoded(".png", _picture().astype(np.uint16) * 257),
    "png-1000-to-1.png": lambda: png_zip_bomb(6_000),
    "png-animated.png": lambda: _pil(format="PNG", save_all=True, append_images=_frames(3)),
    "gif-animated.gif": lambda: _pil(format="GIF", save_all=True, append_images=_frames(3)),
    "webp-animated.webp": lambda: _pil(format="WEBP", save_all=True, append_images=_frames(3)),
    "tiff-pages.tif": lambda: _pil(format="TIFF", save_all=True, append_images=_frames(3)),
    "tiff-cmyk.tif": lambda: _pil(format="TIFF", mode="CMYK"),
    "bmp-palette.bmp": lambda: _pil(format="BMP", mode="P"),
}
_STRANGE: dict[str, Maker] = {
    "pipe.jpg": lambda path: os.mkfifo(path),
    "circle.jpg": lambda path: path.symlink_to(path.name),
    "dangling.jpg": lambda path: path.symlink_to("nowhere.jpg"),
    "endless.jpg": lambda path: path.symlink_to("/dev/zero"),
    "terabytes.jpg": _sparse,
}
USABLE = frozenset(_USABLE)
HOSTILE: dict[str, Maker] = {name: _bytes(make) for name, make in (_MAKERS | _USABLE).items()} | _STRANGE


def make_all(folder: Path) -> list[Path]:
    """Every file of the table, in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in HOSTILE.items():
        make(folder / name)
    return [folder / name for name in HOSTILE]


PROBE = """
import json, sys, time
from pathlib import Path
import cv2, numpy as np
from edgekit.verification.judging import limit_memory
from edgekit_device import vision
from edgekit_device.contract.errors import ShapeError
from edgekit_device.image_headers import read_image_file

def kilobytes(key):
    return next(int(l.split()[1]) for l in Path("/proc/self/status").read_text().splitlines() if l.startswith(key))

vision.decode_image(cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes())
limit_memory(256_000_000)
for name in sys.argv[1:]:
    print(json.dumps({"begun": name}), flush=True)
    Path("/proc/self/clear_refs").write_text("5")
    before, began, reason = kilobytes("VmRSS"), time.monotonic(), None
    try:
        vision.decode_image(read_image_file(Path(name)))
    except (ShapeError, OSError) as cause:
        reason = str(cause)
    took = time.monotonic() - began
    peak = 1024 * (kilobytes("VmHWM") - before)
    print(json.dumps({"file": name, "reason": reason, "s": took, "bytes": peak}), flush=True)
"""
"""Decodes the files it is given, one after another, under the memory limit; tells what each took."""

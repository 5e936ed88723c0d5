"""The one zip layout a bundle may have: stored, sorted, fixed timestamps, nothing between and nothing after.

Any zip tool opens such a file. This reader accepts exactly what the writer writes, byte for byte, so duplicate
names, hidden gaps, links, bombs and ambiguous headers do not exist for it: they are refused as one class.
Layout: APPNOTE.TXT 6.3.10, sections 4.3.7 (local header), 4.3.12 (central header), 4.3.16 (end record).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

from edgekit_device.contract.errors import BundleFormatError

_LOCAL = struct.Struct("<IHHHHHIIIHH")
_CENTRAL = struct.Struct("<IHHHHHHIIIHHHHHII")
_END = struct.Struct("<IHHHHIIH")
_LOCAL_MARK, _CENTRAL_MARK, _END_MARK = 0x04034B50, 0x02014B50, 0x06054B50
_VERSION = 20
_DOS_TIME, _DOS_DATE = 0, (1 << 5) | 1  # 1980-01-01, the earliest a zip can say
_UNIX = 3 << 8
_MODE = 0o100644 << 16


def _central(name: bytes, data: bytes | memoryview, offset: int, crc: int) -> bytes:
    size = len(data)
    fields = (
        _CENTRAL_MARK, _UNIX | _VERSION, _VERSION, 0, 0, _DOS_TIME, _DOS_DATE, crc, size, size,
        len(name), 0, 0, 0, 0, _MODE, offset,
    )  # fmt: skip
    return _CENTRAL.pack(*fields) + name


def _local(name: bytes, size: int, crc: int) -> bytes:
    fields = (_LOCAL_MARK, _VERSION, 0, 0, _DOS_TIME, _DOS_DATE, crc, size, size, len(name), 0)
    return _LOCAL.pack(*fields) + name


def write_archive(entries: Mapping[str, bytes]) -> bytes:
    """Lay entries out as a bundle: the same bytes from the same inputs.

    Args:
        entries: Content by ASCII name.
    """
    body, directory = bytearray(), bytearray()
    for name in sorted(entries):
        data, raw = entries[name], name.encode("ascii")
        crc = zlib.crc32(data)
        directory += _central(raw, data, len(body), crc)
        body += _local(raw, len(data), crc) + data
    end = _END.pack(_END_MARK, 0, 0, len(entries), len(entries), len(directory), len(body), 0)
    return bytes(body + directory + end)


def read_archive(data: bytes, path: str, *, max_entries: int) -> dict[str, memoryview]:
    """Take a bundle's zip apart without copying.

    Args:
        data: The whole file.
        path: What to call it in errors.
        max_entries: Refuse more.

    Returns:
        Content by name, views into data.

    Raises:
        BundleFormatError: The bytes are not exactly what `write_archive` would write.
    """
    whole = memoryview(data)
    entries: dict[str, memoryview] = {}
    directory = bytearray()
    at, previous = 0, b""
    while data[at : at + 4] == _LOCAL_MARK.to_bytes(4, "little"):
        if len(entries) == max_entries:
            raise BundleFormatError(path, f"holds more than {max_entries} entries")
        if at + _LOCAL.size > len(data):
            raise BundleFormatError(path, "ends inside an entry's header")
        header = _LOCAL.unpack_from(data, at)
        crc, size, name_length = header[6], header[8], header[9]
        start = at + _LOCAL.size + name_length
        name = data[at + _LOCAL.size : start]
        if start + size > len(data):
            raise BundleFormatError(path, "ends inside an entry: the file is cut short")
        content = whole[start : start + size]
        if data[at:start] != _local(name, size, crc) or not name.isascii() or name <= previous:
            raise BundleFormatError(path, f"entry {len(entries)} is not a plain stored entry in sorted order")
        if zlib.crc32(content) != crc:
            raise BundleFormatError(path, f"entry {name.decode('ascii', 'replace')} is damaged (CRC differs)")
        directory += _central(name, content, at, crc)
        entries[name.decode("ascii")] = content
        at, previous = start + size, name
    end = _END.pack(_END_MARK, 0, 0, len(entries), len(entries), len(directory), at, 0)
    if not entries:
        raise BundleFormatError(path, "is not an EdgeKit bundle (no zip entry at the start)")
    if data[at:] != directory + end:
        raise BundleFormatError(path, "has a zip directory that does not match its entries, or bytes after it")
    return entries

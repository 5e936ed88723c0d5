"""Archives built to do harm, to be signed with the right key: only the reader stands between them and the disk."""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from edgekit_device.contract.archive import write_archive
from edgekit_device.contract.documents import dump
from edgekit_device.contract.manifest import LABELS, NAME
from edgekit_device.contract.preprocess import efficientnet_lite

FOLDER, LINK, DEVICE, PIPE, SETUID = 0o040755, 0o120777, 0o060666, 0o010644, 0o104755


@dataclass(frozen=True)
class Entry:
    """One zip entry, each field of which may lie; None follows from the content."""

    name: bytes
    data: bytes
    mode: int = 0o100644
    made_by: int = 3 << 8 | 20
    flags: int = 0
    method: int = 0
    stored: bytes | None = None
    size: int | None = None
    crc: int | None = None
    extra: bytes = b""
    comment: bytes = b""
    central_name: bytes | None = None
    central_size: int | None = None
    central_extra: bytes = b""
    offset: int | None = None
    dos_attribute: int = 0
    date: int = (1 << 5) | 1
    after: bytes = b""
    disk: int = 0


def zip_of(entries: list[Entry], *, prefix: bytes = b"", comment: bytes = b"", count: int | None = None) -> bytes:
    """Lay entries out as they are told, truths and lies alike."""
    body, directory = bytearray(prefix), bytearray()
    for e in entries:
        stored = e.data if e.stored is None else e.stored
        crc = zlib.crc32(e.data) if e.crc is None else e.crc
        size = len(e.data) if e.size is None else e.size
        packed = size if e.stored is None else len(stored)
        at = len(body) if e.offset is None else e.offset
        named = e.name if e.central_name is None else e.central_name
        told = size if e.central_size is None else e.central_size
        head = (0x04034B50, 20, e.flags, e.method, 0, e.date, crc, packed, size, len(e.name), len(e.extra))
        body += struct.pack("<IHHHHHIIIHH", *head) + e.name + e.extra + stored + e.after
        central = (
            0x02014B50, e.made_by, 20, e.flags, e.method, 0, e.date, crc, packed if told == size else told, told,
            len(named), len(e.central_extra), len(e.comment), e.disk, 0, e.mode << 16 | e.dos_attribute, at,
        )  # fmt: skip
        directory += struct.pack("<IHHHHHHIIIHHHHHII", *central) + named + e.central_extra + e.comment
    number = len(entries) if count is None else count
    end = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, number, number, len(directory), len(body), len(comment))
    return bytes(body + directory + end + comment)


def _files() -> dict[str, bytes]:
    return {"model.tflite": b"model" * 200, LABELS: b"cat\ndog\n"}


def manifest_of(files: dict[str, bytes]) -> bytes:
    """A manifest that lists these files truly, whatever they are called."""
    listed = {n: {"bytes": len(d), "sha256": hashlib.sha256(d).hexdigest()} for n, d in files.items() if n != NAME}
    return dump(
        {
            "schema": 1, "name": "evil", "version": "1.0.0", "files": listed, "models": {"cpu": "model.tflite"},
            "preprocess": efficientnet_lite(32).to_json(), "classes": 2, "baseline": {}, "provenance": {},
            "requires": {}, "security_epoch": 0,
        }
    )  # fmt: skip


def entries_with(*more: Entry, **lies: object) -> list[Entry]:
    """A true bundle's entries, sorted, with more beside them; `lies` change the entry of the model."""
    files = {**_files(), **{e.name.decode("utf-8", "replace"): e.data for e in more}}
    good = [Entry(n.encode(), d) for n, d in {**_files(), NAME: manifest_of(files)}.items()]
    good = [replace(e, **lies) if e.name == b"model.tflite" else e for e in good]  # type: ignore[arg-type]
    return sorted([*good, *more], key=lambda e: e.name)


def honest() -> bytes:
    """The same builder without a lie: what the reader takes."""
    return zip_of(entries_with())


def _extra(kind: int, data: bytes) -> bytes:
    return struct.pack("<HH", kind, len(data)) + data


def _deflated(data: bytes) -> bytes:
    press = zlib.compressobj(9, zlib.DEFLATED, -15)
    return press.compress(data) + press.flush()


def _names() -> dict[str, bytes]:
    up = b"../" * 12
    return {
        "parent": b"../evil", "parents to /tmp": up + b"tmp/evil", "absolute": b"/tmp/evil",
        "two slashes": b"//tmp/evil",
        "parent in the middle": b"golden/../../evil", "parent at the end": b"golden/..", "dot": b".", "dots": b"..",
        "current folder": b"./model2.tflite", "backslash parent": b"..\\evil", "drive letter": b"C:\\evil",
        "drive without slash": b"C:evil", "network share": b"\\\\host\\share\\evil", "NUL inside": b"model2\0.png",
        "NUL and a parent": b"golden/x\0/../../evil", "newline": b"model\nx", "escape sequence": b"\x1b[2Jx",
        "hidden file": b".bashrc", "hidden below golden": b"golden/.profile", "another folder": b"etc/passwd",
        "folder entry": b"golden/", "case fold of the model": b"MODEL.tflite", "case fold of labels": b"Labels.txt",
        "long name": b"a" * 300, "very long name": b"a" * 65_000, "deep path": b"golden/" * 200 + b"x",
        "unicode slash": "golden\u2215evil".encode(), "unicode dots": "\u2024\u2024/evil".encode(),
        "full-width": "\uff4dodel.tflite".encode(),
        "right-to-left": "model\u202egnp.tflite".encode(), "not UTF-8": b"model\xff.png",
        "overlong slash": b"..\xc0\xafevil",
        "empty name": b"", "space": b"model .tflite", "trailing dot": b"model.tflite.",
        "alternate stream": b"model.tflite:x",
        "reserved device": b"golden/..%2fevil", "shell words": b"$(reboot)", "option": b"--help",
    }  # fmt: skip


def attacks() -> dict[str, bytes]:
    """The table: what the attack is, and the file."""
    model = _files()["model.tflite"]
    bomb = b"\0" * (50 << 20)
    target = b"/tmp/edgekit-evil"
    evil = Entry(b"x.bin", b"x")
    zip64 = _extra(1, struct.pack("<QQ", len(model), len(model)))
    made: dict[str, bytes] = {
        f"name: {what}": zip_of(entries_with(Entry(name, b"x"))) for what, name in _names().items()
    }
    lies: dict[str, Callable[[], bytes]] = {
        "symbolic link": lambda: zip_of(entries_with(Entry(b"x.bin", target, mode=LINK))),
        "the model is a symbolic link": lambda: zip_of(entries_with(mode=LINK)),
        "link, then a file through it (CVE-2007-4559 with a link)": lambda: zip_of(
            entries_with(Entry(b"golden", b"/tmp", mode=LINK), Entry(b"golden/evil", b"x"))
        ),
        "link chain out of the folder (CVE-2025-4517)": lambda: zip_of(
            entries_with(Entry(b"a", b"d" * 247, mode=LINK), Entry(b"b", b"a/../../..", mode=LINK))
        ),
        "link to a link's target outside (CVE-2025-4330)": lambda: zip_of(
            entries_with(Entry(b"escape", b"golden/../../..", mode=LINK))
        ),
        "mode changed through a link (CVE-2024-12718)": lambda: zip_of(entries_with(Entry(b"x", b"..", mode=FOLDER))),
        "hard link to a file outside (CVE-2025-4138)": lambda: zip_of(
            entries_with(Entry(b"x.bin", b"", central_extra=_extra(0x000D, bytes(12) + target)))
        ),
        "filter bypassed by a bad header (CVE-2025-4435)": lambda: zip_of(
            entries_with(replace(evil, central_name=b"../evil"))
        ),
        "device node": lambda: zip_of(entries_with(Entry(b"x.bin", b"", mode=DEVICE))),
        "named pipe": lambda: zip_of(entries_with(Entry(b"x.bin", b"", mode=PIPE))),
        "set-user-id": lambda: zip_of(entries_with(Entry(b"x.bin", b"x", mode=SETUID))),
        "a folder's mode": lambda: zip_of(entries_with(Entry(b"x.bin", b"x", mode=FOLDER))),
        "a DOS folder": lambda: zip_of(entries_with(replace(evil, dos_attribute=0x10))),
        "made by DOS": lambda: zip_of(entries_with(replace(evil, made_by=20))),
        "duplicate name": lambda: zip_of(
            sorted([*entries_with(), Entry(b"model.tflite", model)], key=lambda e: e.name)
        ),
        "duplicate name, other bytes": lambda: zip_of(
            sorted([*entries_with(), Entry(b"model.tflite", b"evil")], key=lambda e: e.name)
        ),
        "two manifests": lambda: zip_of(
            sorted([*entries_with(), Entry(NAME.encode(), b"{}")], key=lambda e: e.name)
        ),
        "duplicate in the directory only": lambda: _directory_twice(),
        "in the directory, not in the body": lambda: _ghost(),
        "in the body, not in the directory": lambda: _hidden(),
        "unsorted": lambda: zip_of(list(reversed(entries_with()))),
        "bomb 1:1000, deflated": lambda: zip_of(
            entries_with(Entry(b"x.bin", bomb, method=8, stored=_deflated(bomb)))
        ),
        "bomb that says it is stored": lambda: zip_of(entries_with(size=0xFFFFFFFE)),
        "bomb in the directory only": lambda: zip_of(entries_with(central_size=0xFFFFFFFE)),
        "overlapping entries": lambda: zip_of(entries_with(Entry(b"x.bin", model, offset=0))),
        "65,535 empty entries": lambda: zip_of([Entry(b"%05d" % i, b"") for i in range(65_535)]),
        "257 entries": lambda: zip_of(entries_with(*[Entry(b"x%03d" % i, b"") for i in range(257)])),
        "a million entries in the end record": lambda: zip_of(entries_with(), count=0xFFFF),
        "one entry too few in the end record": lambda: zip_of(entries_with(), count=2),
        "zip64 sizes": lambda: zip_of(entries_with(size=0xFFFFFFFF, extra=zip64)),
        "zip64 in the directory": lambda: zip_of(entries_with(central_size=0xFFFFFFFF, central_extra=zip64)),
        "zip64 end record": lambda: _zip64_end(),
        "data descriptor": lambda: zip_of(
            entries_with(flags=8, after=struct.pack("<IIII", 0x08074B50, zlib.crc32(model), len(model), len(model)))
        ),
        "encrypted": lambda: zip_of(entries_with(flags=1)),
        "strongly encrypted": lambda: zip_of(entries_with(flags=0x41)),
        "masked headers": lambda: zip_of(entries_with(flags=0x2000)),
        "UTF-8 flag": lambda: zip_of(entries_with(flags=0x800)),
        "patched data": lambda: zip_of(entries_with(flags=0x20)),
        "local and central names differ": lambda: zip_of(entries_with(central_name=b"../../evil")),
        "local and central sizes differ": lambda: zip_of(entries_with(central_size=3)),
        "wrong checksum": lambda: zip_of(entries_with(crc=0)),
        "offset elsewhere": lambda: zip_of(entries_with(offset=0)),
        "offset past the end": lambda: zip_of(entries_with(offset=0xFFFFFFF0)),
        "on another disk": lambda: zip_of(entries_with(disk=1)),
        "compression LZMA": lambda: zip_of(entries_with(method=14)),
        "unknown compression": lambda: zip_of(entries_with(method=99)),
        "AES extra field": lambda: zip_of(entries_with(central_extra=_extra(0x9901, b"\2\0AE\3\0\0"))),
        "unicode path extra field": lambda: zip_of(
            entries_with(extra=_extra(0x7075, b"\1" + struct.pack("<I", zlib.crc32(b"model.tflite")) + b"../evil"))
        ),
        "another date": lambda: zip_of(entries_with(date=0x5A21)),
        "comment of an entry": lambda: zip_of(entries_with(comment=b"hello")),
        "comment of the archive": lambda: zip_of(entries_with(), comment=b"hello"),
        "a second archive as comment": lambda: zip_of(entries_with(), comment=honest()),
        "bytes before": lambda: b"#!/bin/sh\n" + honest(),
        "bytes before, offsets mended": lambda: zip_of(entries_with(), prefix=b"#!/bin/sh\n"),
        "bytes after": lambda: honest() + b"\0",
        "a second archive after": lambda: honest() + honest(),
        "bytes between entries": lambda: zip_of(entries_with(after=b"gap")),
        "cut inside the directory": lambda: honest()[:-30],
        "cut inside the model": lambda: honest()[:300],
        "end record only": lambda: zip_of([]),
        "empty": lambda: b"",
        "a tar": _tar,
        "a gzip": lambda: b"\x1f\x8b\x08" + honest(),
        "no manifest": lambda: write_archive(_files()),
        "not listed": lambda: write_archive({**_files(), NAME: manifest_of(_files()), "x.bin": b"x"}),
        "listed and missing": lambda: write_archive({NAME: manifest_of(_files()), LABELS: _files()[LABELS]}),
        "the manifest lists itself": lambda: write_archive(
            {**_files(), NAME: json.dumps({**json.loads(manifest_of(_files())), "files": {NAME: {}}}).encode()}
        ),
        "release name with a parent": lambda: _named("../../evil", "1.0.0"),
        "release name with a slash": lambda: _named("a/b", "1.0.0"),
        "release version with a parent": lambda: _named("evil", "../1"),
        "release name of a temporary": lambda: _named(".new-x", "1.0.0"),
    }  # fmt: skip
    return made | {what: make() for what, make in lies.items()}


def _named(name: str, version: str) -> bytes:
    document = {**json.loads(manifest_of(_files())), "name": name, "version": version}
    return write_archive({**_files(), NAME: json.dumps(document).encode()})


def _parts() -> tuple[bytes, bytes, int]:
    whole = honest()
    start, count = whole.index(b"PK\x01\x02"), len(entries_with())
    return whole[:start], whole[start : whole.rindex(b"PK\x05\x06")], count


def _end(directory: bytes, at: int, count: int) -> bytes:
    return struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, count, count, len(directory), at, 0)


def _directory_twice() -> bytes:
    body, directory, count = _parts()
    return body + directory * 2 + _end(directory * 2, len(body), count * 2)


def _ghost() -> bytes:
    body, directory, count = _parts()
    ghost = directory[: directory.index(b"PK\x01\x02", 4)].replace(b"labels.txt", b"../bel.txt")
    return body + directory + ghost + _end(directory + ghost, len(body), count + 1)


def _hidden() -> bytes:
    body, directory, count = _parts()
    rest = directory[directory.index(b"PK\x01\x02", 4) :]
    return body + rest + _end(rest, len(body), count - 1)


def _zip64_end() -> bytes:
    body, directory, count = _parts()
    at = len(body) + len(directory)
    end = struct.pack("<IQHHIIQQQQ", 0x06064B50, 44, 45, 45, 0, 0, count, count, len(directory), len(body))
    return body + directory + end + struct.pack("<IIQI", 0x07064B50, 0, at, 1) + _end(directory, 0xFFFFFFFF, count)


def _tar() -> bytes:
    import io
    import tarfile

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo("../../evil")
        info.size = 1
        tar.addfile(info, io.BytesIO(b"x"))
    return buffer.getvalue()


def everything_below(folder: Path) -> dict[str, bytes | None]:
    """Each name below a folder with its content; None for what is no plain file."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() and not path.is_symlink() else None
        for path in sorted(folder.rglob("*"))
    }

"""The one zip layout: any tool opens it, and the reader takes nothing else."""

from __future__ import annotations

import io
import struct
import subprocess
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit_device.contract.archive import read_archive, write_archive
from edgekit_device.contract.errors import BundleFormatError

NAMES = st.from_regex(r"[A-Za-z0-9_.][A-Za-z0-9_./-]{0,30}", fullmatch=True)
ENTRIES = st.dictionaries(NAMES, st.binary(max_size=200), min_size=1, max_size=6)
SAMPLE = {"b.txt": b"two", "a.txt": b"one", "golden/00.png": bytes(range(256))}


def read(data: bytes) -> dict[str, bytes]:
    return {name: bytes(view) for name, view in read_archive(data, "x.edgekit", max_entries=8).items()}


def standard_zip(entries: list[tuple[zipfile.ZipInfo, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for info, data in entries:
            archive.writestr(info, data)
    return buffer.getvalue()


@given(ENTRIES)
def test_what_is_written_is_read_and_pythons_zipfile_agrees(entries: dict[str, bytes]) -> None:
    data = write_archive(entries)
    assert read(data) == entries
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == entries


@given(ENTRIES)
def test_the_bytes_do_not_depend_on_the_order_of_entries(entries: dict[str, bytes]) -> None:
    assert write_archive(entries) == write_archive(dict(reversed(list(entries.items()))))


def test_unzip_finds_no_fault(tmp_path, require_tool) -> None:
    unzip = require_tool("unzip", "apt install unzip")
    (tmp_path / "x.zip").write_bytes(write_archive(SAMPLE))
    tested = subprocess.run([unzip, "-t", tmp_path / "x.zip"], capture_output=True, text=True)
    assert tested.returncode == 0 and "No errors detected" in tested.stdout


@settings(max_examples=300)
@given(st.data())
def test_only_canonical_bytes_are_accepted(data) -> None:
    """Any edit of an archive is refused by name, or it is the canonical form of what it then holds."""
    whole = bytearray(write_archive(data.draw(ENTRIES)))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(whole) - 1))
        edit = data.draw(st.sampled_from(["flip", "insert", "delete"]))
        if edit == "flip":
            whole[at] ^= data.draw(st.integers(1, 255))
        elif edit == "insert":
            whole.insert(at, data.draw(st.integers(0, 255)))
        elif len(whole) > 1:
            del whole[at]
    try:
        found = read(bytes(whole))
    except BundleFormatError:
        return
    assert write_archive(found) == bytes(whole)


@given(st.binary(max_size=300))
def test_random_bytes_are_refused_by_name(data: bytes) -> None:
    with pytest.raises(BundleFormatError):
        read(data)


def test_every_single_byte_flip_is_refused() -> None:
    whole = write_archive({"a.txt": b"one", "b.txt": b"two"})
    for at in range(len(whole)):
        changed = bytearray(whole)
        changed[at] ^= 0x01
        with pytest.raises(BundleFormatError):
            read(bytes(changed))


def test_every_truncation_and_an_appended_byte_are_refused() -> None:
    whole = write_archive({"a.txt": b"one", "b.txt": b"two"})
    for length in range(len(whole)):
        with pytest.raises(BundleFormatError):
            read(whole[:length])
    for tail in (b"\0", whole, b"PK\x05\x06" + bytes(18)):
        with pytest.raises(BundleFormatError):
            read(whole + tail)


def test_a_duplicate_entry_is_refused() -> None:
    one = write_archive({"a.txt": b"one"})
    local = one[: one.index(b"PK\x01\x02")]
    central = one[len(local) : one.index(b"PK\x05\x06")]
    second = central[:42] + struct.pack("<I", len(local)) + central[46:]
    end = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 2, 2, 2 * len(central), 2 * len(local), 0)
    twice = local + local + central + second + end
    with zipfile.ZipFile(io.BytesIO(twice)) as archive:
        assert archive.namelist() == ["a.txt", "a.txt"]
    with pytest.raises(BundleFormatError, match="sorted order"):
        read(twice)


def test_a_link_is_refused() -> None:
    link = zipfile.ZipInfo("a.txt", (1980, 1, 1, 0, 0, 0))
    link.create_system, link.external_attr = 3, 0o120777 << 16
    with pytest.raises(BundleFormatError):
        read(standard_zip([(link, b"/etc/passwd")]))


@pytest.mark.parametrize("attribute", [0o040755 << 16, 0o100755 << 16, 0x10], ids=["folder", "executable", "dos"])
def test_another_mode_is_refused(attribute: int) -> None:
    entry = zipfile.ZipInfo("a.txt", (1980, 1, 1, 0, 0, 0))
    entry.create_system, entry.external_attr = 3, attribute
    with pytest.raises(BundleFormatError, match="directory"):
        read(standard_zip([(entry, b"one")]))


def test_a_plain_entry_by_pythons_zipfile_is_the_same_bytes() -> None:
    """So the refusals above are for what they name, not for some other oddity of zipfile's."""
    entry = zipfile.ZipInfo("a.txt", (1980, 1, 1, 0, 0, 0))
    entry.create_system, entry.external_attr = 3, 0o100644 << 16
    assert standard_zip([(entry, b"one")]) == write_archive({"a.txt": b"one"})


def test_a_compressed_entry_is_refused() -> None:
    entry = zipfile.ZipInfo("a.txt", (1980, 1, 1, 0, 0, 0))
    entry.compress_type = zipfile.ZIP_DEFLATED
    with pytest.raises(BundleFormatError):
        read(standard_zip([(entry, b"\0" * 10_000)]))


def test_unsorted_entries_and_too_many_entries_are_refused() -> None:
    infos = [zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)) for name in ("b", "a")]
    for info in infos:
        info.create_system, info.external_attr = 3, 0o100644 << 16
    with pytest.raises(BundleFormatError, match="sorted order"):
        read(standard_zip([(info, b"") for info in infos]))
    with pytest.raises(BundleFormatError, match="more than 8"):
        read(write_archive({f"{i}": b"" for i in range(9)}))


def test_a_declared_size_past_the_end_is_refused() -> None:
    whole = bytearray(write_archive({"a.txt": b"one"}))
    struct.pack_into("<II", whole, 18, 0xFFFFFFFF, 0xFFFFFFFF)
    with pytest.raises(BundleFormatError, match="cut short"):
        read(bytes(whole))

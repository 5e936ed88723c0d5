"""A bundle is what was signed, by a key that counts here, byte for byte; anything else has a name."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import minisign
import pytest

from edgekit_device.bundle import key_label, open_bundle, trusted_keys, user_public_key
from edgekit_device.contract import file_table
from edgekit_device.contract.archive import write_archive
from edgekit_device.contract.documents import dump
from edgekit_device.contract.errors import (
    BadSignatureError,
    BundleError,
    BundleFormatError,
    ContractError,
    DigestMismatchError,
    FieldError,
    NoTrustedKeyError,
    SchemaError,
    UnsignedBundleError,
    UntrustedKeyError,
    UsageError,
)
from edgekit_device.contract.manifest import LABELS, NAME


@pytest.fixture
def bundle(workshop, tmp_path) -> Path:
    return workshop.write(tmp_path / "toy-1.0.0.edgekit")


def edited(workshop, **fields: object) -> bytes:
    """An archive whose manifest has other fields; everything else is true."""
    entries = workshop.entries()
    return write_archive({**entries, NAME: dump({**json.loads(entries[NAME]), **fields})})


def test_a_good_bundle_opens_with_everything_it_lists(workshop, bundle) -> None:
    opened, raw = open_bundle(bundle, [workshop.public])
    assert raw == bundle.read_bytes()
    assert dict(opened.files) == dict(workshop.files)
    assert opened.labels == ("circle", "square", "triangle", "cross")
    assert opened.manifest.bundle_id == "toy-1.0.0"
    assert opened.key_id == key_label(workshop.pair.public_key)


def test_a_signature_by_debians_minisign_counts(workshop, bundle, tmp_path, require_tool) -> None:
    tool = require_tool("minisign", "apt install minisign")
    public, secret = tmp_path / "their.pub", tmp_path / "their.key"
    subprocess.run([tool, "-G", "-W", "-p", public, "-s", secret], check=True, capture_output=True)
    subprocess.run([tool, "-S", "-s", secret, "-m", bundle], check=True, capture_output=True)
    assert open_bundle(bundle, [public])[0].manifest.name == "toy"
    with pytest.raises(UntrustedKeyError):
        open_bundle(bundle, [workshop.public])
    # -l: minisign's old kind, which is not prehashed.
    subprocess.run([tool, "-S", "-l", "-s", secret, "-m", bundle], check=True, capture_output=True)
    with pytest.raises(BadSignatureError, match="not prehashed"):
        open_bundle(bundle, [public])


def test_a_flip_anywhere_in_the_file_is_refused_by_name(workshop, bundle) -> None:
    good = bundle.read_bytes()
    for at in [*range(200), *range(200, len(good), 997), *range(len(good) - 200, len(good))]:
        changed = bytearray(good)
        changed[at] ^= 0x10
        bundle.write_bytes(changed)
        with pytest.raises(BadSignatureError):
            open_bundle(bundle, [workshop.public])


def test_a_flip_in_the_signature_file_is_refused_or_changes_nothing(workshop, bundle) -> None:
    beside = bundle.with_name(bundle.name + ".minisig")
    good, accepted = beside.read_bytes(), 0
    untrusted_line = good.index(b"\n")
    for at in range(len(good)):
        changed = bytearray(good)
        changed[at] ^= 0x02
        beside.write_bytes(changed)
        try:
            opened, _ = open_bundle(bundle, [workshop.public])
        except BundleError:
            continue
        accepted += 1
        assert opened.files == workshop.files
        # minisign signs neither its first line's comment nor how the last newline is written, and base64 leaves
        # unused bits at the end of a line.
        assert at < untrusted_line or good[at : at + 1] == b"\n" or good[at + 1 : at + 2] in (b"=", b"\n")
    assert accepted < 80


def test_a_truncated_or_appended_file_is_refused(workshop, bundle) -> None:
    good = bundle.read_bytes()
    for data in (b"", good[:1], good[: len(good) // 2], good[:-1], good + b"\0", good + good):
        bundle.write_bytes(data)
        with pytest.raises(BadSignatureError):
            open_bundle(bundle, [workshop.public])


def test_structure_is_checked_even_when_the_signature_holds(workshop, tmp_path) -> None:
    good = write_archive(workshop.entries())
    for number, data in enumerate((b"", b"PK", good[:-1], good + b"\0", b"not a zip at all")):
        path = workshop.write(tmp_path / f"{number}.edgekit", data)
        with pytest.raises(BundleFormatError):
            open_bundle(path, [workshop.public])


def test_an_unsigned_bundle_is_refused(workshop, bundle) -> None:
    bundle.with_name(bundle.name + ".minisig").unlink()
    with pytest.raises(UnsignedBundleError):
        open_bundle(bundle, [workshop.public])


def test_a_foreign_key_is_named(workshop, tmp_path) -> None:
    other = minisign.KeyPair.generate()
    data = write_archive(workshop.entries())
    path = workshop.write(tmp_path / "x.edgekit", data, workshop.sign(data, other))
    with pytest.raises(UntrustedKeyError, match=key_label(other.public_key)):
        open_bundle(path, [workshop.public])


def test_a_forger_with_the_trusted_key_id_is_refused(workshop, tmp_path) -> None:
    """A key id is no secret: only the signature counts."""
    other = minisign.KeyPair.generate()
    other.secret_key._keynum_sk.key_id[:] = workshop.pair.secret_key._keynum_sk.key_id
    data = write_archive(workshop.entries())
    path = workshop.write(tmp_path / "x.edgekit", data, workshop.sign(data, other))
    with pytest.raises(BadSignatureError):
        open_bundle(path, [workshop.public])


def test_a_signature_of_the_old_kind_is_refused(workshop, tmp_path) -> None:
    data = write_archive(workshop.entries())
    path = workshop.write(tmp_path / "x.edgekit", data, workshop.sign(data, prehash=False))
    with pytest.raises(BadSignatureError, match="not prehashed"):
        open_bundle(path, [workshop.public])


def test_the_signature_of_another_bundle_is_refused(workshop, bundle, tmp_path) -> None:
    other = write_archive(workshop.entries(version="1.0.1"))
    path = workshop.write(tmp_path / "x.edgekit", other, workshop.sign(bundle.read_bytes()))
    with pytest.raises(BadSignatureError, match="does not match"):
        open_bundle(path, [workshop.public])


@pytest.mark.parametrize("rubbish", [b"", b"\n\n\n\n", b"untrusted comment: x\n", b"\xff" * 300, b"x" * 5000])
def test_a_rubbish_signature_file_is_refused_by_name(workshop, tmp_path, rubbish: bytes) -> None:
    path = workshop.write(tmp_path / "x.edgekit", signature=rubbish)
    with pytest.raises(BundleError):
        open_bundle(path, [workshop.public])


def test_swapped_entries_are_refused(workshop, tmp_path) -> None:
    entries = workshop.entries()
    entries["golden/00.png"], entries["golden/01.png"] = entries["golden/01.png"], entries["golden/00.png"]
    path = workshop.write(tmp_path / "x.edgekit", write_archive(entries))
    with pytest.raises(DigestMismatchError, match="golden/0"):
        open_bundle(path, [workshop.public])


def test_one_changed_byte_at_the_same_size_is_refused_even_when_the_whole_is_signed(workshop, tmp_path) -> None:
    entries = workshop.entries()
    entries["model.tflite"] = entries["model.tflite"][:-1] + b"\x7f"
    path = workshop.write(tmp_path / "x.edgekit", write_archive(entries))
    with pytest.raises(DigestMismatchError, match=r"model\.tflite"):
        open_bundle(path, [workshop.public])


@pytest.mark.parametrize("difference", [-1, 1, 10**6])
def test_a_wrong_size_is_refused(workshop, tmp_path, difference: int) -> None:
    files = json.loads(workshop.entries()[NAME])["files"]
    files["model.tflite"]["bytes"] += difference
    path = workshop.write(tmp_path / "x.edgekit", edited(workshop, files=files))
    with pytest.raises(DigestMismatchError):
        open_bundle(path, [workshop.public])


def test_an_entry_that_is_not_listed_or_missing_is_refused(workshop, tmp_path) -> None:
    entries = workshop.entries()
    more = workshop.write(tmp_path / "more.edgekit", write_archive({**entries, "extra.bin": b"x"}))
    del entries["golden/00.png"]
    less = workshop.write(tmp_path / "less.edgekit", write_archive(entries))
    for path in (more, less):
        with pytest.raises(BundleFormatError, match="not the ones"):
            open_bundle(path, [workshop.public])


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "/etc/passwd",
        "golden/../../evil",
        "a/b",
        "golden//x",
        ".hidden",
        "golden/.x",
        "C:evil",
        "a\\b",
        "x y",
    ],
)
def test_a_path_trick_is_refused(workshop, tmp_path, name: str) -> None:
    path = workshop.write(tmp_path / "x.edgekit", write_archive(workshop.entries({**workshop.files, name: b"x"})))
    with pytest.raises(ContractError, match=r"not an allowed entry name|sorted order"):
        open_bundle(path, [workshop.public])


def test_names_that_differ_in_case_only_are_refused(workshop, tmp_path) -> None:
    path = workshop.write(
        tmp_path / "x.edgekit", write_archive(workshop.entries({**workshop.files, "MODEL.tflite": b"x"}))
    )
    with pytest.raises(FieldError, match="allowed entry name"):
        open_bundle(path, [workshop.public])


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"schema": 2}, SchemaError),
        ({"name": "Toy"}, FieldError),
        ({"version": "1.0"}, FieldError),
        ({"models": {"edgetpu": "model.tflite"}}, FieldError),
        ({"models": {"cpu": "nowhere.tflite"}}, FieldError),
        ({"classes": 0}, FieldError),
        ({"classes": 3}, BundleFormatError),
        ({"security_epoch": -1}, FieldError),
        ({"preprocess": {}}, FieldError),
        ({"files": []}, FieldError),
    ],
)
def test_a_signed_manifest_that_breaks_the_contract_is_refused(workshop, tmp_path, fields, error) -> None:
    path = workshop.write(tmp_path / "x.edgekit", edited(workshop, **fields))
    with pytest.raises(error):
        open_bundle(path, [workshop.public])


def test_labels_that_do_not_fit_the_classes_are_refused(workshop, tmp_path) -> None:
    for labels, problem in ((b"one\ntwo\n", "2 lines for 4"), (b"\xff\n", "not UTF-8")):
        files = {**workshop.files, LABELS: labels}
        path = workshop.write(tmp_path / "x.edgekit", write_archive(workshop.entries(files)))
        with pytest.raises(BundleFormatError, match=problem):
            open_bundle(path, [workshop.public])


def test_a_bundle_over_the_limit_is_refused_before_it_is_read(workshop, bundle, monkeypatch) -> None:
    monkeypatch.setattr("edgekit_device.bundle.MAX_BUNDLE_BYTES", 1000)
    with pytest.raises(BundleFormatError, match="over the limit"):
        open_bundle(bundle, [workshop.public])
    assert file_table.MAX_BUNDLE_BYTES == 256 << 20


def test_a_pipe_a_folder_and_nothing_are_refused_without_waiting(workshop, tmp_path) -> None:
    pipe = tmp_path / "pipe.edgekit"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path, tmp_path / "nothing"):
        with pytest.raises(BundleError):
            open_bundle(path, [workshop.public])


def test_which_keys_count(workshop, tmp_path, monkeypatch) -> None:
    board, home = tmp_path / "board", tmp_path / "home"
    monkeypatch.setenv("EDGEKIT_CONFIG_HOME", str(home))
    with pytest.raises(NoTrustedKeyError):
        trusted_keys(board_keys=board)
    own = user_public_key()
    assert own == home / "keys" / "edgekit.pub"
    own.parent.mkdir(parents=True)
    own.write_bytes(workshop.public.read_bytes())
    assert trusted_keys(board_keys=board) == (own,)
    board.mkdir()
    for name in ("a.pub", "b.pub", "c.pub"):
        (board / name).write_bytes(workshop.public.read_bytes())
    assert trusted_keys(board_keys=board) == (board / "a.pub", board / "b.pub")
    assert trusted_keys(workshop.public, board_keys=board) == (workshop.public,)
    with pytest.raises(NoTrustedKeyError):
        trusted_keys(tmp_path / "missing.pub", board_keys=board)


def test_a_broken_public_key_is_a_usage_error(bundle, tmp_path) -> None:
    (tmp_path / "bad.pub").write_text("hello")
    with pytest.raises(UsageError, match=r"bad\.pub"):
        open_bundle(bundle, [tmp_path / "bad.pub"])

"""A fleet in one file and back: the same fleet, or an error and nothing changed."""

from __future__ import annotations

import io
import shutil
import stat
import tarfile
from pathlib import Path

import pytest

from edgekit.errors import FleetBackupError
from edgekit.trust import keys
from edgekit.trust.backup import backup, restore
from edgekit.trust.fleet_folder import Fleet
from tests.worlds.trusted_fleet import hash_password

PHRASE = "correct horse battery staple"


def contents(folder: Path) -> dict[str, bytes]:
    names = [p for p in folder.rglob("*") if p.is_file() and p.suffix != ".db"]
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in names}


def lose(fleet: Fleet) -> None:
    shutil.rmtree(fleet.folder)
    shutil.rmtree(keys.keys_folder())


@pytest.mark.parametrize("phrase", [None, PHRASE])
def test_a_lost_fleet_comes_back_byte_for_byte(fleet: Fleet, tmp_path: Path, phrase: str | None) -> None:
    before, members, pair = contents(fleet.folder), fleet.registry.members(), contents(keys.keys_folder())
    file = tmp_path / "fleet.backup"
    backup(fleet, file, phrase)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert (b"PRIVATE KEY" in file.read_bytes()) == (phrase is None)
    lose(fleet)
    found = restore(file, None, phrase)
    assert contents(found.folder) == before
    assert found.registry.members() == members
    assert contents(keys.keys_folder()) == pair
    assert stat.S_IMODE(found.folder.stat().st_mode) == 0o700
    assert {p.name for p in found.folder.rglob("*") if p.is_file() and p.stat().st_mode & 0o077} == {
        "fleet.toml", "authority.pem", "root.pub", "targets.pub",
    }  # fmt: skip
    password = found.account("administrator").password
    held = found.registry.find("administrator")
    assert held is not None
    assert hash_password(password, held.account.hashed.salt) == held.account.hashed


def test_a_fleet_that_is_there_is_not_touched(fleet: Fleet, tmp_path: Path) -> None:
    file = tmp_path / "fleet.backup"
    backup(fleet, file)
    before = contents(fleet.folder)
    with pytest.raises(FleetBackupError, match="lies there already"):
        restore(file)
    assert contents(fleet.folder) == before


def test_another_signing_key_is_not_replaced(fleet: Fleet, tmp_path: Path) -> None:
    file = tmp_path / "fleet.backup"
    backup(fleet, file)
    lose(fleet)
    keys.new_keys(keys.keys_folder())
    with pytest.raises(FleetBackupError, match="another signing key"):
        restore(file)
    assert not fleet.folder.exists()


def test_a_wrong_passphrase_and_a_changed_byte_are_refused(fleet: Fleet, tmp_path: Path) -> None:
    file = tmp_path / "fleet.backup"
    backup(fleet, file, PHRASE)
    lose(fleet)
    for phrase in (None, "wrong"):
        with pytest.raises(FleetBackupError):
            restore(file, None, phrase)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(FleetBackupError, match="damaged"):
        restore(file, None, PHRASE)
    assert not fleet.folder.exists()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_a_copy_that_was_cut_short_is_refused_whole(fleet: Fleet, tmp_path: Path, share: float) -> None:
    file = tmp_path / "fleet.backup"
    backup(fleet, file)
    lose(fleet)
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(FleetBackupError):
        restore(file)
    assert not fleet.folder.exists()


@pytest.mark.parametrize("name", ["../escape", "/etc/passwd", "accounts/../../x", "updates/.hidden", "keys/other", "x"])
def test_a_name_that_no_backup_has_is_refused(fleet: Fleet, tmp_path: Path, name: str) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        entry = tarfile.TarInfo(name)
        archive.addfile(entry)
    file = tmp_path / "x.backup"
    file.write_bytes(out.getvalue())
    lose(fleet)
    with pytest.raises(FleetBackupError, match="which no backup has"):
        restore(file)
    assert not (tmp_path / "escape").exists()


def test_links_in_a_backup_are_refused(fleet: Fleet, tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        entry = tarfile.TarInfo("fleet.toml")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/shadow"
        archive.addfile(entry)
    file = tmp_path / "x.backup"
    file.write_bytes(out.getvalue())
    lose(fleet)
    with pytest.raises(FleetBackupError, match="which no backup has"):
        restore(file)

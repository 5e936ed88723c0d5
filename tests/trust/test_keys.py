"""Signing keys are made whole or not at all, stay private, and are minisign's own."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import minisign
import pytest

from edgekit.errors import InsecureKeyError, KeyExistsError, KeyFormatError, LockedKeyError, LostKeyError
from edgekit.trust.keys import PASSPHRASE_ENV, keys_folder, load_key, load_or_create, new_keys
from edgekit_device.bundle import key_label, user_public_key

MAKE = (
    "import sys; from pathlib import Path; from edgekit.trust.keys import load_or_create; "
    "print(load_or_create(Path(sys.argv[1])).key_id)"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "config" / "keys"


def start(code: str, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen([sys.executable, "-c", code, *arguments], env=environment, stdout=-1, stderr=-1, text=True)


def verify(key_file: Path, data: bytes, signature: bytes) -> None:
    minisign.PublicKey.from_file(key_file).verify(data, minisign.Signature.from_bytes(signature))


def test_first_use_makes_a_private_pair_and_later_uses_find_it(folder: Path) -> None:
    key = load_or_create(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "edgekit.key").stat().st_mode) == 0o600
    assert sorted(path.name for path in folder.iterdir()) == ["edgekit.key", "edgekit.pub"]
    before = (folder / "edgekit.key").read_bytes()
    assert load_or_create(folder).key_id == key.key_id
    assert (folder / "edgekit.key").read_bytes() == before
    verify(folder / "edgekit.pub", b"data", key.sign(b"data", "x"))


def test_the_device_looks_for_the_public_half_where_it_is_made(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("EDGEKIT_CONFIG_HOME", str(tmp_path / "elsewhere"))
    key = load_or_create()
    assert key.path == keys_folder() / "edgekit.key" == tmp_path / "elsewhere" / "keys" / "edgekit.key"
    assert user_public_key().read_bytes() == key.public_bytes


def test_debians_minisign_verifies_ours_and_signs_with_our_key(folder: Path, tmp_path: Path, require_tool) -> None:
    tool = require_tool("minisign", "apt install minisign")
    key = load_or_create(folder)
    data = tmp_path / "data"
    data.write_bytes(b"some bytes")
    (tmp_path / "data.minisig").write_bytes(key.sign(b"some bytes", "edgekit toy-1.0.0 sha256:00"))
    verified = subprocess.run(
        [tool, "-V", "-H", "-m", data, "-p", folder / "edgekit.pub"], capture_output=True, text=True
    )
    assert verified.returncode == 0 and "edgekit toy-1.0.0 sha256:00" in verified.stdout, verified
    # Exit code 1 for other bytes: so the 0 above means something.
    data.write_bytes(b"other bytes")
    assert subprocess.run([tool, "-V", "-m", data, "-p", folder / "edgekit.pub"], capture_output=True).returncode == 1
    subprocess.run([tool, "-S", "-s", folder / "edgekit.key", "-m", data], check=True, capture_output=True)
    verify(folder / "edgekit.pub", b"other bytes", (tmp_path / "data.minisig").read_bytes())


def test_a_key_made_by_debians_minisign_signs_here(tmp_path: Path, require_tool) -> None:
    tool = require_tool("minisign", "apt install minisign")
    public, secret = tmp_path / "their.pub", tmp_path / "their.key"
    subprocess.run([tool, "-G", "-W", "-p", public, "-s", secret], check=True, capture_output=True)
    secret.chmod(0o600)
    verify(public, b"data", load_key(secret).sign(b"data", "x"))


def test_signing_is_reproducible_and_prehashed(folder: Path) -> None:
    key = load_or_create(folder)
    first = key.sign(b"data", "edgekit toy-1.0.0")
    time.sleep(1.1)  # A time stamp in the comment would show.
    assert load_or_create(folder).sign(b"data", "edgekit toy-1.0.0") == first
    assert minisign.Signature.from_bytes(first).is_prehashed()


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_secret_key_that_others_can_read_is_refused_with_the_command(folder: Path, mode: int) -> None:
    load_or_create(folder)
    (folder / "edgekit.key").chmod(mode)
    with pytest.raises(InsecureKeyError, match=rf"chmod 600 {folder}/edgekit\.key"):
        load_or_create(folder)


def test_nothing_shows_the_secret(folder: Path) -> None:
    key = new_keys(folder, passphrase="horse")
    lines = (folder / "edgekit.key").read_text().splitlines()
    seed = bytes(key._secret._keynum_sk.secret_key)
    for shown in (repr(key), str(key), f"{key}", repr(vars(key)["_secret"])):
        assert lines[1] not in shown and seed.hex() not in shown and repr(seed) not in shown
    with pytest.raises(LockedKeyError) as caught:
        load_key(folder / "edgekit.key", passphrase="donkey")
    assert "donkey" not in str(caught.value) and lines[1] not in str(caught.value)


def test_a_passphrase_protects_and_opens(folder: Path, tmp_path: Path, monkeypatch) -> None:
    made = new_keys(folder, passphrase="horse")
    secret = folder / "edgekit.key"
    with pytest.raises(LockedKeyError, match=PASSPHRASE_ENV):
        load_key(secret)
    with pytest.raises(LockedKeyError, match="not this key's"):
        load_key(secret, passphrase="donkey")
    monkeypatch.setenv(PASSPHRASE_ENV, "horse")
    assert load_or_create(folder).sign(b"x", "c") == made.sign(b"x", "c")
    monkeypatch.delenv(PASSPHRASE_ENV)
    (tmp_path / "words").write_text("horse\n")
    monkeypatch.setenv(f"{PASSPHRASE_ENV}_FILE", str(tmp_path / "words"))
    verify(folder / "edgekit.pub", b"x", load_key(secret).sign(b"x", "c"))
    monkeypatch.setenv(f"{PASSPHRASE_ENV}_FILE", str(tmp_path / "nothing"))
    with pytest.raises(LockedKeyError, match="cannot be read"):
        load_key(secret)


def test_new_keys_never_overwrite(folder: Path) -> None:
    new_keys(folder)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(KeyExistsError):
        new_keys(folder)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_eight_processes_at_once_agree_on_one_pair(folder: Path) -> None:
    processes = [start(MAKE, str(folder)) for _ in range(8)]
    answers = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0] * 8, answers
    assert len({out for out, _ in answers}) == 1
    assert sorted(path.name for path in folder.iterdir()) == ["edgekit.key", "edgekit.pub"]
    assert load_or_create(folder).key_id == answers[0][0].strip()


@pytest.mark.parametrize("write", [1, 2])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_kill_while_the_pair_is_made_leaves_no_half_of_it(folder: Path, write: int, moment: str) -> None:
    """The process dies at each rename; the next use ends with one whole pair."""
    code = f"""
import os, signal, sys, pathlib
count, real = 0, pathlib.Path.replace
def replace(self, target):
    global count
    count += 1
    if count == {write} and "{moment}" == "before": os.kill(os.getpid(), signal.SIGKILL)
    real(self, target)
    if count == {write}: os.kill(os.getpid(), signal.SIGKILL)
pathlib.Path.replace = replace
{MAKE}"""
    killed = start(code, str(folder))
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    existed = (folder / "edgekit.key").read_bytes() if (folder / "edgekit.key").exists() else None
    key = load_or_create(folder)
    assert existed in (None, (folder / "edgekit.key").read_bytes())
    verify(folder / "edgekit.pub", b"x", key.sign(b"x", "c"))


def test_a_public_key_alone_is_not_replaced(folder: Path) -> None:
    """Boards may trust it; a new pair would lock them out without a word."""
    load_or_create(folder)
    (folder / "edgekit.key").unlink()
    before = (folder / "edgekit.pub").read_bytes()
    with pytest.raises(LostKeyError):
        load_or_create(folder)
    assert (folder / "edgekit.pub").read_bytes() == before


def test_halves_of_two_pairs_are_refused(folder: Path, tmp_path: Path) -> None:
    load_or_create(folder)
    other = load_or_create(tmp_path / "other")
    (folder / "edgekit.pub").write_bytes(other.public_bytes)
    with pytest.raises(KeyFormatError, match=other.key_id):
        load_or_create(folder)


@pytest.mark.parametrize("content", [b"", b"hello", b"untrusted comment: x\nAAAA\n", b"\xff" * 200])
def test_a_file_that_is_no_key_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "edgekit.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(KeyFormatError, match=r"edgekit\.key"):
        load_key(path)
    with pytest.raises(KeyFormatError, match="cannot be read"):
        load_key(tmp_path / "missing.key")


def test_the_label_is_the_one_that_minisign_prints(folder: Path) -> None:
    key = load_or_create(folder)
    assert key.key_id in (folder / "edgekit.pub").read_text()
    assert key_label(minisign.PublicKey.from_file(folder / "edgekit.pub")) == key.key_id

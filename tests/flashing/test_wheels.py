"""`edgekit wheels fetch`: whole wheels with the right hash, or none; with the real pip on an index in a folder."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekit.errors import UsageError
from edgekit.flashing.wheel_cache import WheelFetchError, cache_folder, fetch
from edgekit.flashing.wheel_lock import WheelLock, WheelLockError, read_lock
from edgekit.flashing.wheelhouse import read_wheel, wheel_folder

PURE, ARM = "red-1.0-py3-none-any.whl", "green-2.0-cp313-cp313-manylinux_2_28_aarch64.manylinux2014_aarch64.whl"


def wheel(folder: Path, name: str, text: str = "") -> Path:
    """A wheel with nothing in it but its metadata."""
    package, version = name.split("-")[:2]
    info = f"{package}-{version}.dist-info"
    path = folder / name
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n\n{text}")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """All that pip finds."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name in ("PIP_CONSTRAINT", "PIP_EXTRA_INDEX_URL", "PIP_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    yield folder


def locked(*paths: Path) -> WheelLock:
    held = {p.name: (hashlib.sha256(p.read_bytes()).hexdigest(), p.stat().st_size) for p in paths}
    return WheelLock({("3.13", "aarch64"): tuple(held)}, held)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.name != ".lock"}


def test_a_fetch_brings_what_the_lock_names_and_this_versions_device_wheel(index: Path, tmp_path: Path) -> None:
    lock, out = locked(wheel(index, PURE), wheel(index, ARM)), tmp_path / "out"
    done = fetch(out, lock=lock)
    assert set(done.fetched) == {PURE, ARM}
    assert names(out) == {PURE, ARM, done.device}
    assert read_wheel(out / done.device).name == "edgekit-device"
    assert (out / PURE).read_bytes() == (index / PURE).read_bytes()


def test_a_fetch_that_was_cut_goes_on_where_it_stopped(index: Path, tmp_path: Path) -> None:
    lock, out = locked(wheel(index, PURE), wheel(index, ARM)), tmp_path / "out"
    hidden = (index / ARM).rename(index / "hidden")
    with pytest.raises(WheelFetchError, match="green"):
        fetch(out, lock=lock)
    assert names(out) == {PURE}
    # A kill in the middle of a write leaves such a file; flash must not take it for a wheel.
    (out / f".part-{ARM}.part").write_bytes(b"half")
    assert [path.name for path in out.rglob("*.whl")] == [PURE]
    hidden.rename(index / ARM)
    (index / PURE).unlink()
    done = fetch(out, lock=lock)
    assert (done.fetched, done.kept) == ((ARM,), (PURE,))
    assert names(out) == {PURE, ARM, done.device}


def test_another_file_under_the_same_name_is_refused(index: Path, tmp_path: Path) -> None:
    lock, out = locked(wheel(index, PURE)), tmp_path / "out"
    wheel(index, PURE, "not what was locked")
    with pytest.raises(WheelFetchError, match="another file"):
        fetch(out, lock=lock)
    assert names(out) == set()


def test_a_damaged_wheel_in_the_folder_is_fetched_again(index: Path, tmp_path: Path) -> None:
    lock, out = locked(wheel(index, PURE)), tmp_path / "out"
    out.mkdir()
    good = (index / PURE).read_bytes()
    (out / PURE).write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert fetch(out, lock=lock).fetched == (PURE,)
    assert (out / PURE).read_bytes() == good


def test_two_fetches_do_not_write_one_folder(index: Path, tmp_path: Path) -> None:
    from edgekit.flashing.wheel_cache import _locked

    lock, out = locked(wheel(index, PURE)), tmp_path / "out"
    with _locked(out), pytest.raises(WheelFetchError, match="another fetch"):
        fetch(out, lock=lock)


def test_flash_looks_where_fetch_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGEKIT_WHEELS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache_folder().mkdir(parents=True)
    assert wheel_folder() is None
    wheel(cache_folder(), PURE)
    assert wheel_folder() == cache_folder()


@pytest.mark.parametrize("python", ["3.11", "3.13"])
@pytest.mark.parametrize("machine", ["aarch64", "x86_64"])
def test_the_lock_that_ships_names_each_kind_of_board(python: str, machine: str) -> None:
    found = {wheel.requirement.split("==")[0] for wheel in read_lock().select([python], [machine])}
    assert {"ai-edge-litert", "numpy", "opencv-python-headless", "cryptography", "paho-mqtt", "tuf", "pip"} <= found


def test_a_32_bit_board_is_asked_for_by_name(tmp_path: Path) -> None:
    assert not [w for w in read_lock().select() if any("armv7l" in tag for tag in w.platforms)]
    assert "tflite-runtime" in {w.requirement.split("==")[0] for w in read_lock().select([], ["armv7l"])}


def test_the_lock_names_no_address() -> None:
    import edgekit.flashing.wheel_lock as module

    text = (Path(module.__file__).parent / "wheels.lock.json").read_text()
    assert "://" not in text and set(json.loads(text)) == {"schema", "targets", "wheels"}


@pytest.mark.parametrize("words", [(["3.12"], []), ([], ["riscv64"]), (["3.13"], ["armv7l"])])
def test_a_board_that_has_no_wheels_is_named(words: tuple[list[str], list[str]]) -> None:
    with pytest.raises(UsageError, match=r"3\.11 on aarch64"):
        read_lock().select(*words)


@pytest.mark.parametrize(
    "text", ["", "[]", '{"schema":1}', '{"schema":1,"targets":{"3.11 arm":["../x.whl"]},"wheels":{}}']
)
def test_a_damaged_lock_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "lock.json"
    path.write_text(text)
    with pytest.raises(WheelLockError):
        read_lock(path)

"""`edgekit-device capture`: diverse pictures, whole ones, within the budget, and nothing unless asked."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgekit_device import collecting
from edgekit_device.album import MANIFEST, Album
from edgekit_device.cli import main
from edgekit_device.contract.errors import AlbumError
from edgekit_device.diversity import DIFFERENT, FIRST, LOW_MARGIN, TIME, Chooser, Rule, thumb


def scene(seed: int, noise: int = 0) -> np.ndarray:
    """A picture of a few large blocks, with sensor noise of +-noise levels; RGB uint8 (120, 160, 3)."""
    blocks = np.random.default_rng(seed).integers(40, 216, (6, 8, 3)).repeat(20, axis=0).repeat(20, axis=1)
    moved = blocks + np.random.default_rng(seed + 1000).integers(-noise, noise + 1, blocks.shape)
    return np.clip(moved, 0, 255).astype(np.uint8)


def folder_of(path: Path, pictures: list[np.ndarray]) -> Path:
    path.mkdir()
    for number, picture in enumerate(pictures):
        cv2.imwrite(str(path / f"{number:03d}.png"), picture[..., ::-1])
    return path


def run(*words: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["capture", "--json", *words]) == 0
    return json.loads(capsys.readouterr().out)  # type: ignore[no-any-return]


# -- which -----------------------------------------------------------------------------------------------


def test_the_same_scene_is_kept_once_whatever_the_noise() -> None:
    chooser = Chooser(Rule(every_s=0.0))
    assert chooser.reason(thumb(scene(0)), 0.0, 0.0) == FIRST
    chooser.keep(thumb(scene(0)), 0.0)
    assert chooser.reason(thumb(scene(0, noise=12)), 0.0, 9.0) is None
    assert chooser.reason(thumb(scene(1)), None, 9.0) == DIFFERENT


def test_a_slightly_other_scene_is_kept_for_doubt_or_for_time_only() -> None:
    near = scene(0).copy()
    near[:40, :40] = 255 - near[:40, :40]
    chooser = Chooser(Rule(every_s=10.0))
    chooser.keep(thumb(scene(0)), 0.0)
    assert 0.02 < chooser.distance(thumb(near)) < 0.08
    assert chooser.reason(thumb(near), 0.9, 1.0) is None
    assert chooser.reason(thumb(near), 0.1, 1.0) == LOW_MARGIN
    assert chooser.reason(thumb(near), 0.9, 11.0) == TIME


def test_grey_frames_are_compared_as_well() -> None:
    assert thumb(scene(0)[..., :1]).shape == (12, 16, 3)


# -- where -----------------------------------------------------------------------------------------------


def test_every_picture_has_its_line_and_its_digest(tmp_path: Path) -> None:
    album = Album(tmp_path / "a", 100_000)
    path = album.add(b"jpeg", {"reason": FIRST})
    assert path is not None
    (entry,) = album.entries()
    assert entry == {"file": path.name, "bytes": 4, "sha256": hashlib.sha256(b"jpeg").hexdigest(), "reason": FIRST}
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_the_budget_is_never_exceeded_and_counts_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "other.bin").write_bytes(b"x" * 3000)
    album = Album(tmp_path, 10_000)
    kept = 0
    while album.add(bytes(1000), {}) is not None:
        kept += 1
        assert sum(f.stat().st_size for f in tmp_path.iterdir()) <= 10_000
    assert 4 <= kept <= 6
    assert album.used_bytes == sum(f.stat().st_size for f in tmp_path.iterdir())
    assert Album(tmp_path, 10_000).add(bytes(1000), {}) is None


def test_a_power_cut_leaves_neither_half_a_picture_nor_half_a_line(tmp_path: Path) -> None:
    album = Album(tmp_path, 100_000)
    album.add(b"one", {})
    (tmp_path / ".new-frame-000001.jpg").write_bytes(b"half a pic")
    with (tmp_path / MANIFEST).open("a") as file:
        file.write('{"file": "frame-0000')
    again = Album(tmp_path, 100_000)
    path = again.add(b"two", {})
    assert path is not None
    assert path.name == "frame-000001.jpg"
    assert [e["file"] for e in again.entries()] == ["frame-000000.jpg", "frame-000001.jpg"]
    assert not list(tmp_path.glob(".new-*"))
    assert again.used_bytes == sum(f.stat().st_size for f in tmp_path.iterdir())


def test_a_folder_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AlbumError, match="-o DIR"):
        Album(tmp_path / "file", 1000)


# -- the verb --------------------------------------------------------------------------------------------


def test_of_many_pictures_of_three_scenes_three_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = folder_of(tmp_path / "in", [scene(n % 3, noise=n) for n in range(12)])
    done = run("--source", f"images:{source}", "-o", str(tmp_path / "out"), capsys=capsys)
    assert (done["kept"], done["seen"], done["stopped"]) == (3, 12, "end")
    again = run("--source", f"images:{source}", "-o", str(tmp_path / "out"), capsys=capsys)
    assert again["kept"] == 0, "an earlier run's pictures count as kept"


def test_it_stops_at_the_count_and_at_the_budget(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = f"images:{folder_of(tmp_path / 'in', [scene(n) for n in range(12)])}"
    assert run("--source", source, "-o", str(tmp_path / "a"), "--count", "5", capsys=capsys)["stopped"] == "count"
    assert len(list((tmp_path / "a").glob("*.jpg"))) == 5
    done = run("--source", source, "-o", str(tmp_path / "b"), "--budget-mb", "0.03", capsys=capsys)
    assert done["stopped"] == "budget"
    assert done["bytes"] <= 30_000
    assert done["kept"] >= 1


def test_pictures_are_in_the_right_colours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    red = np.full((60, 80, 3), (220, 20, 20), np.uint8)
    red[:30] = 90
    run("--source", f"images:{folder_of(tmp_path / 'in', [red])}", "-o", str(tmp_path / "out"), capsys=capsys)
    kept = cv2.imread(str(tmp_path / "out/frame-000000.jpg"))
    assert np.abs(kept[50, 40].astype(int) - (20, 20, 220)).max() < 12


def test_what_the_model_is_unsure_of_is_kept_with_its_margin(
    tmp_path: Path, workshop: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = workshop.write(tmp_path / "toy-1.0.0.edgekit")
    words = ("--bundle", str(bundle), "--pubkey", str(workshop.public), "--count", "3", "--seconds", "20")
    done = run("--source", "synthetic", "-o", str(tmp_path / "out"), *words, capsys=capsys)
    assert done["kept"] == 3
    for line in (tmp_path / "out" / MANIFEST).read_text().splitlines():
        entry = json.loads(line)
        assert 0 <= entry["margin"] <= 1
        assert entry["bundle"] == "toy-1.0.0"
        assert entry["reason"] in (FIRST, DIFFERENT, LOW_MARGIN)


def test_a_black_frame_is_no_picture_of_this_camera(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--fault", "black@1", "--seconds", "3", "--every", "0.1")
    done = run("--source", "synthetic", "-o", str(tmp_path / "out"), *words, capsys=capsys)
    pictures = [cv2.imread(str(path)) for path in (tmp_path / "out").glob("*.jpg")]
    assert len(pictures) == done["kept"] >= 1
    assert min(picture.mean() for picture in pictures) > 20


def test_a_camera_that_is_not_there_ends_it_with_the_remedy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["capture", "--source", "camera:7", "-o", str(tmp_path / "out")]) == 1
    assert "no such camera" in capsys.readouterr().err


def test_a_run_keeps_no_pictures(tmp_path: Path, workshop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Capturing is off unless asked for by its own verb."""
    bundle = workshop.write(tmp_path / "toy-1.0.0.edgekit")
    before = set(tmp_path.rglob("*"))
    words = ["--bundle", str(bundle), "--pubkey", str(workshop.public), "--source", "synthetic", "--seconds", "2"]
    monkeypatch.chdir(tmp_path)
    assert main(["run", *words, "--json"]) == 0
    assert not [f for f in set(tmp_path.rglob("*")) - before if f.suffix in (".jpg", ".png")]


def test_a_read_that_never_returns_ends_with_the_pictures_that_were_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collecting, "_SILENCE_S", 1.5)
    out = tmp_path / "album"
    words = ["capture", "--json", "--source", "camera:fake", "--fault", "block@1s", "--count", "1000", "-o", str(out)]
    assert main(words) == 1
    kept = len(list(out.glob("*.jpg")))
    assert kept >= 1
    assert f"{kept} pictures are kept in {out}" in json.loads(capsys.readouterr().out)["message"]

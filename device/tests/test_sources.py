"""One suite of promises for every source, and what each promises beside it."""

from __future__ import annotations

import base64
import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgekit_device.capture import Capture
from edgekit_device.contract.errors import SourceBrokenError, SourceError, SourceUnavailableError, UsageError
from edgekit_device.meter import Meter
from edgekit_device.progress import Progress
from edgekit_device.sources import SOURCES, check_source, open_source
from edgekit_device.sources.auto import first_camera
from edgekit_device.sources.camera import CameraSource, open_camera
from edgekit_device.sources.fake_picamera2 import Picamera2
from edgekit_device.sources.fake_video_devices import FakeVideoDevices
from edgekit_device.sources.frame import Source, SourceOptions
from edgekit_device.sources.opencv import ClosableCapture
from edgekit_device.sources.picamera import open_picamera
from edgekit_device.sources.region import parse_region
from edgekit_device.sources.synthetic import SyntheticSource
from edgekit_device.sources.video_devices import choose_device, list_devices

sys.path.insert(0, str(Path(__file__).parent))
from rtsp_server import RtspServer

RED = (220, 20, 20)
JPEG_ERROR = 12  # Levels that JPEG and video coding may move a plain colour.


def red_card(height: int, width: int, number: int) -> np.ndarray:
    """A red card with a grey dot that moves: RGB, uint8, (height, width, 3)."""
    card = np.full((height, width, 3), RED, np.uint8)
    cv2.circle(card, (20 + number * 5 % (width - 40), height - 40), 15, (200, 200, 200), -1)
    return card


@dataclass
class Case:
    """One source, pointed at a red card."""

    text: str
    options: SourceOptions
    live: bool
    ends: bool = False


@contextlib.contextmanager
def red_synthetic() -> Iterator[None]:
    """The moving blocks painted red: what synthetic and the fake camera see."""
    made = SyntheticSource.__init__

    def paint(self: SyntheticSource, options: SourceOptions) -> None:
        made(self, options)
        self._scene[:] = RED
        self._random = np.random.default_rng(0)

    SyntheticSource.__init__ = paint  # type: ignore[method-assign]
    try:
        yield
    finally:
        SyntheticSource.__init__ = made  # type: ignore[method-assign]


@pytest.fixture(
    params=["synthetic", "sample", "images", "video", "video-realtime", "camera", "picamera", "auto", "rtsp"]
)
def case(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Case]:
    small = SourceOptions(width=320, height=240, fps=25.0)
    kind = request.param
    with contextlib.ExitStack() as stack:
        if kind in ("synthetic", "camera"):
            stack.enter_context(red_synthetic())
            yield Case("synthetic" if kind == "synthetic" else "camera:fake", small, live=True)
        elif kind in ("picamera", "auto"):
            monkeypatch.setattr(Picamera2, "scene", staticmethod(red_card))
            monkeypatch.setitem(sys.modules, "picamera2", sys.modules[Picamera2.__module__])
            yield Case("picamera:fake" if kind == "picamera" else "auto", small, live=True)
        elif kind == "sample":
            yield Case("sample", SourceOptions(fps=25.0, photos=(red_card(240, 320, 0),)), live=True)
        elif kind == "images":
            for number in range(8):
                cv2.imwrite(str(tmp_path / f"{number}.jpg"), red_card(240, 320, number)[..., ::-1])
            yield Case(f"images:{tmp_path}", small, live=False, ends=True)
        elif kind.startswith("video"):
            writer = cv2.VideoWriter(str(tmp_path / "red.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (320, 240))
            for number in range(50):
                writer.write(red_card(240, 320, number)[..., ::-1].copy())
            writer.release()
            realtime = kind == "video-realtime"
            options = SourceOptions(realtime=realtime)
            yield Case(f"video:{tmp_path / 'red.avi'}", options, live=realtime, ends=True)
        else:
            server = stack.enter_context(RtspServer(RED))
            yield Case(f"rtsp:rtsp://127.0.0.1:{server.port}/cam", small, live=True)


@pytest.fixture
def source(case: Case) -> Iterator[Source]:
    opened = open_source(case.text, case.options)
    yield opened
    opened.close()


def test_every_name_has_a_case() -> None:
    """A source that is added must be added here."""
    assert set(SOURCES) == {"synthetic", "sample", "images", "video", "camera", "picamera", "auto", "rtsp"}


def test_a_red_card_is_red(source: Source) -> None:
    frame = source.read()
    assert frame is not None
    assert frame.raw.dtype == np.uint8
    corner = frame.pixels[20:40, 20:40].reshape(-1, 3).mean(axis=0)
    assert np.abs(corner - RED).max() <= JPEG_ERROR, f"RGB of a red card is {corner.round()}"


def test_frames_are_numbered_and_time_runs_forward(source: Source, case: Case) -> None:
    frames = [frame for _ in range(6) if (frame := source.read())]
    assert [f.sequence for f in frames] == list(range(6))
    times = [f.captured_s for f in frames]
    assert times == sorted(times)
    assert abs(time.monotonic() - times[-1]) < 1.0
    assert source.live is case.live
    assert 0 < source.pace_s <= 1


def test_two_frames_of_a_moving_scene_differ(source: Source) -> None:
    one, other = source.read(), source.read()
    assert one is not None
    assert other is not None
    assert not np.array_equal(one.raw, other.raw), "a source that repeats itself would be taken for a frozen camera"
    assert not np.shares_memory(one.raw, other.raw), "the frame before must stay as it was"


def test_closing_twice_is_harmless_and_ends_reading(source: Source) -> None:
    source.read()
    source.close()
    source.close()
    with contextlib.suppress(SourceError):
        assert source.read() is None


def test_closing_ends_a_read_in_another_thread(source: Source) -> None:
    """A picture may still come out of a read that was under way; then nothing more."""
    reader = threading.Thread(target=lambda: [None for _ in range(10_000) if source.read() is not None], daemon=True)
    source.read()
    reader.start()
    time.sleep(0.1)
    source.close()
    reader.join(5)
    assert not reader.is_alive()


def test_of_a_live_source_the_latest_frame_wins_and_of_a_file_every_frame_counts(case: Case) -> None:
    progress = Progress.create()
    source = open_source(case.text, case.options)
    meter = Meter()
    capture = Capture(source, meter, progress)
    capture.start()
    try:
        first = capture.take(5.0)
        time.sleep(0.5)
        second = capture.take(5.0)
        assert first is not None
        assert second is not None
        if case.live:
            assert second.sequence - first.sequence > 3
            assert meter.take()["frames_dropped"] > 3
        else:
            assert second.sequence == first.sequence + 1
            assert meter.take()["frames_dropped"] == 0
    finally:
        capture.stop()
        source.close()
        capture.join(5)
        progress.close()


def test_a_region_is_a_view_of_the_right_place(case: Case) -> None:
    source = open_source(case.text, replace(case.options, roi="0.25,0.5,0.5,0.5"))
    try:
        frame = source.read()
        assert frame is not None
        whole = open_height(case)
        assert frame.raw.shape[0] == pytest.approx(whole * 0.5, abs=1)
        assert frame.raw.base is not None, "the region was copied"
    finally:
        source.close()


def open_height(case: Case) -> int:
    # The sample source shows nine tenths of its photo.
    return 216 if case.text == "sample" else 240


MISSING = {
    "images:nowhere": "no such folder",
    "video:nowhere.avi": "no such file",
    "camera:7": "no such camera",
    "camera:/dev/v4l/by-id/usb-nobody": "plug it in",
    "picamera": "apt install python3-picamera2",
    "rtsp:rtsp://127.0.0.1:1/cam": "does not answer",
    "sample": "no golden photos",
    "auto": "--source sample",
}


@pytest.mark.parametrize("text", MISSING)
def test_what_is_missing_is_named_with_its_remedy(text: str) -> None:
    if text in ("picamera", "auto") and "picamera2" in sys.modules:
        pytest.fail("this machine has picamera2; run the suite where it is missing")
    with pytest.raises(SourceUnavailableError) as caught:
        open_source(text, SourceOptions())
    assert MISSING[text] in str(caught.value)


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("telepathy", SourceOptions()),
        ("synthetic:huge", SourceOptions()),
        ("synthetic:1x1", SourceOptions()),
        ("synthetic", SourceOptions(roi="1,2,3")),
        ("synthetic", SourceOptions(roi="0,0,0,5")),
        ("synthetic", SourceOptions(roi="nan,0,1,1")),
        ("synthetic", SourceOptions(faults=("tickle@3",))),
        ("rtsp:http://127.0.0.1/", SourceOptions()),
        ("rtsp:", SourceOptions()),
        ("rtsp://user:secret@cam/", SourceOptions()),
    ],
)
def test_a_typing_error_is_refused_before_anything_is_opened(text: str, options: SourceOptions) -> None:
    with pytest.raises(UsageError) as caught:
        check_source(text, options)
    assert "secret" not in str(caught.value)


# -- pictures ------------------------------------------------------------------------------------------------


def exif_jpeg(pixels: np.ndarray, orientation: int) -> bytes:
    """A JPEG whose EXIF says how it is to be turned."""
    plain = cv2.imencode(".jpg", pixels[..., ::-1])[1].tobytes()
    tiff = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0" + bytes([orientation, 0, 0, 0]) + b"\0\0\0\0"
    app1 = b"Exif\0\0" + tiff
    return plain[:2] + b"\xff\xe1" + (len(app1) + 2).to_bytes(2, "big") + app1 + plain[2:]


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, 1), (8, 3)])
def test_a_photo_that_was_held_sideways_comes_upright(tmp_path: Path, orientation: int, turns: int) -> None:
    upright = np.zeros((60, 100, 3), np.uint8)
    upright[:20, :30] = RED  # Upper left.
    stored = np.ascontiguousarray(np.rot90(upright, turns))
    (tmp_path / "a.jpg").write_bytes(exif_jpeg(stored, orientation))
    source = open_source(f"images:{tmp_path}", SourceOptions())
    frame = source.read()
    assert frame is not None
    assert frame.pixels.shape == (60, 100, 3)
    assert np.abs(frame.pixels[5:15, 5:25].mean(axis=(0, 1)) - RED).max() <= JPEG_ERROR


def test_a_pipe_with_a_picture_s_name_blocks_nothing(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    cv2.imwrite(str(tmp_path / "b.png"), np.zeros((8, 8, 3), np.uint8))
    source = open_source(f"images:{tmp_path}", SourceOptions())
    frames: list[object] = []
    reader = threading.Thread(target=lambda: frames.append(source.read()), daemon=True)
    reader.start()
    reader.join(10)
    assert frames
    assert frames[0] is not None


# -- regions -------------------------------------------------------------------------------------------------


def test_regions_in_pixels_and_in_shares() -> None:
    assert parse_region("160,0,320,480").box(480, 640) == (0, 160, 480, 480)
    assert parse_region("0.25,0,0.5,1").box(480, 640) == (0, 160, 480, 480)
    assert parse_region("600,400,100,100").box(480, 640) == (400, 600, 480, 640)
    assert parse_region("700,0,10,10").box(480, 640) is None


def test_a_region_outside_of_the_picture_is_named() -> None:
    source = open_source("synthetic:64x48@100", SourceOptions(roi="100,0,10,10"))
    with pytest.raises(SourceBrokenError, match="outside of the 64x48 picture; mend --roi"):
        source.read()


# -- V4L2 ----------------------------------------------------------------------------------------------------


class Board:
    """/dev and /sys of a board, with cameras plugged in and out."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "dev/v4l/by-id").mkdir(parents=True)
        (root / "sys/class/video4linux").mkdir(parents=True)

    def plug(self, number: int, name: str, link: str | None = None, index: int = 0) -> None:
        (self.root / f"dev/video{number}").touch()
        node = self.root / f"sys/class/video4linux/video{number}"
        node.mkdir()
        (node / "name").write_text(name + "\n")
        (node / "index").write_text(f"{index}\n")
        if link:
            (self.root / "dev/v4l/by-id" / link).symlink_to(f"../../video{number}")

    def unplug(self, number: int) -> None:
        (self.root / f"dev/video{number}").unlink()
        node = self.root / f"sys/class/video4linux/video{number}"
        for file in node.iterdir():
            file.unlink()
        node.rmdir()
        for link in (self.root / "dev/v4l/by-id").iterdir():
            if os.path.realpath(link).endswith(f"video{number}"):
                link.unlink()


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path)


def test_a_camera_is_found_by_number_link_and_name(board: Board) -> None:
    board.plug(0, "HD Webcam: HD Webcam", "usb-Acme_HD_1234-video-index0")
    board.plug(1, "HD Webcam: HD Webcam", "usb-Acme_HD_1234-video-index1", index=1)
    board.plug(2, "Microscope")
    devices = list_devices(board.root)
    assert [d.path for d in devices] == ["/dev/video0", "/dev/video2"], "a metadata node delivers no pictures"
    assert choose_device(devices, "", None).path == "/dev/video0"
    assert choose_device(devices, "2", None).path == "/dev/video2"
    assert choose_device(devices, "/dev/video2", None).device_id == "name:Microscope"
    assert choose_device(devices, "name:Microscope", None).path == "/dev/video2"
    assert choose_device(devices, "/dev/v4l/by-id/usb-Acme_HD_1234-video-index0", None).path == "/dev/video0"
    with pytest.raises(SourceUnavailableError, match="Microscope"):
        choose_device(devices, "1", None)


@pytest.mark.parametrize("link", ["usb-Acme_HD_1234-video-index0", None])
def test_a_camera_is_found_again_under_another_number_and_no_other_is_taken_for_it(
    board: Board, link: str | None
) -> None:
    board.plug(0, "HD Webcam", link)
    first = choose_device(list_devices(board.root), "0", None)
    board.unplug(0)
    board.plug(0, "Doorbell", "usb-Door-video-index0")
    with pytest.raises(SourceUnavailableError, match="is gone"):
        choose_device(list_devices(board.root), "0", first.device_id)
    board.plug(3, "HD Webcam", link)
    again = choose_device(list_devices(board.root), "0", first.device_id)
    assert (again.path, again.device_id) == ("/dev/video3", first.device_id)


def test_two_cameras_of_one_name_are_told_apart_by_number(board: Board) -> None:
    board.plug(0, "Cam")
    board.plug(2, "Cam")
    devices = list_devices(board.root)
    assert choose_device(devices, "2", "name:Cam").path == "/dev/video2"


def test_an_unplugged_camera_is_gone_and_moves_to_the_next_number() -> None:
    options = SourceOptions(faults=("vanish@0.3+0.3",), epoch_s=time.monotonic(), fps=50.0)
    source = open_camera("fake", options)
    assert source.place == "/dev/video0"
    with pytest.raises(SourceBrokenError, match="/dev/video0 is gone; plug the camera in again"):
        for _ in range(1000):
            source.read()
    source.close()
    known = replace(options, device_id=source.device_id)
    with pytest.raises(SourceUnavailableError, match="is gone"):
        open_camera("fake", known)
    time.sleep(0.4)
    again = open_camera("fake", known)
    assert (again.place, again.device_id) == ("/dev/video1", source.device_id)
    assert again.read() is not None
    again.close()


class Deaf(FakeVideoDevices):
    """A camera that is there, opens, and brings no picture; or does not open."""

    def __init__(self, opens: bool) -> None:
        super().__init__(SourceOptions())
        self._opens = opens

    def open(self, path: str, options: SourceOptions) -> object:  # type: ignore[override]
        capture = super().open(path, options)
        capture.read = lambda: (False, None)  # type: ignore[method-assign]
        capture.isOpened = lambda: self._opens  # type: ignore[method-assign]
        return capture


def test_a_frame_that_does_not_decode_is_an_empty_one_and_many_are_a_broken_camera() -> None:
    source = CameraSource("0", SourceOptions(), Deaf(opens=True))  # type: ignore[arg-type]
    frame = source.read()
    assert frame is not None
    assert frame.raw.size == 0
    with pytest.raises(SourceBrokenError, match="brought no picture"):
        for _ in range(100):
            source.read()


def test_a_camera_that_refuses_is_named_with_the_command_that_tells_why() -> None:
    with pytest.raises(SourceUnavailableError, match=r"usermod|fuser"):
        CameraSource("0", SourceOptions(), Deaf(opens=False))  # type: ignore[arg-type]


class Slow:
    """A capture whose read takes a moment; notes when it is released."""

    def __init__(self) -> None:
        self.inside = False
        self.releases: list[bool] = []

    def read(self) -> tuple[bool, None]:
        self.inside = True
        time.sleep(0.3)
        self.inside = False
        return False, None

    def release(self) -> None:
        self.releases.append(self.inside)


def test_a_capture_is_released_once_and_never_inside_a_read() -> None:
    """OpenCV crashes when a capture is released under its reader; closing must not wait for a hung driver either."""
    slow = Slow()
    capture = ClosableCapture(slow)  # type: ignore[arg-type]
    reader = threading.Thread(target=capture.read)
    reader.start()
    time.sleep(0.1)
    began = time.monotonic()
    capture.close()
    capture.close()
    assert time.monotonic() - began < 0.1
    reader.join()
    capture.close()
    assert slow.releases == [False]


# -- CSI -----------------------------------------------------------------------------------------------------


def test_the_fake_picamera2_names_formats_as_the_real_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its "RGB888" is B, G, R: a source that asked for it would show a blue card."""
    monkeypatch.setattr(Picamera2, "scene", staticmethod(red_card))
    camera = Picamera2(0)
    config = camera.create_video_configuration(
        main={"size": (64, 48), "format": "RGB888"}, controls={"FrameRate": 50}, buffer_count=2
    )
    camera.configure(config)
    camera.start()
    array = camera.capture_request().make_array("main")
    camera.close()
    assert tuple(array[0, 0]) == RED[::-1]


def test_the_fake_picamera2_refuses_what_the_real_one_refuses() -> None:
    camera = Picamera2(0)
    with pytest.raises(RuntimeError):
        Picamera2(0)
    with pytest.raises(RuntimeError):
        camera.start()
    with pytest.raises(RuntimeError):
        camera.configure({"main": {"size": (63, 48), "format": "RGB888"}})
    camera.close()
    Picamera2(0).close()


def test_a_csi_camera_gives_its_buffers_back() -> None:
    """Three buffers, fifty frames: a request that was kept would stop the camera."""
    source = open_picamera("fake", SourceOptions(width=64, height=48, fps=200.0))
    assert all(source.read() is not None for _ in range(50))
    source.close()
    open_picamera("fake", SourceOptions()).close()


def test_auto_takes_csi_first_then_usb() -> None:
    def absent(argument: str, options: SourceOptions) -> Source:
        raise SourceUnavailableError("x", "is not there")

    def synthetic(argument: str, options: SourceOptions) -> Source:
        return open_source("synthetic:64x48@7", options)

    def other(argument: str, options: SourceOptions) -> Source:
        return open_source("synthetic:64x48@9", options)

    pick: Callable[..., Source] = first_camera
    assert pick([("CSI", synthetic), ("USB", other)], SourceOptions()).pace_s == pytest.approx(1 / 7)
    assert pick([("CSI", absent), ("USB", other)], SourceOptions()).pace_s == pytest.approx(1 / 9)
    with pytest.raises(SourceUnavailableError, match="CSI: is not there; USB: is not there"):
        pick([("CSI", absent), ("USB", absent)], SourceOptions())


# -- RTSP ----------------------------------------------------------------------------------------------------


def test_a_stream_that_falls_silent_and_one_that_hangs_up_are_named() -> None:
    with RtspServer(RED) as server:
        source = open_source(f"rtsp:rtsp://127.0.0.1:{server.port}/cam", SourceOptions())
        assert source.read() is not None
        server.silent.set()
        began = time.monotonic()
        with pytest.raises(SourceBrokenError, match="fell silent"):
            for _ in range(100):
                source.read()
        assert time.monotonic() - began < 6.0, "later than the watchdog, which would end the worker"
        source.close()
        server.silent.clear()
        source = open_source(f"rtsp:rtsp://127.0.0.1:{server.port}/cam", SourceOptions())
        assert source.read() is not None
        server.hang_up.set()
        with pytest.raises(SourceBrokenError, match="the stream ended"):
            for _ in range(100):
                source.read()
        source.close()


def test_a_password_comes_from_the_environment_and_shows_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    header = "Basic " + base64.b64encode(b"eye:canary").decode()
    with RtspServer(RED, authorization=header) as server:
        text = f"rtsp:rtsp://eye:${{CAM_PASSWORD}}@127.0.0.1:{server.port}/cam"
        with pytest.raises(SourceUnavailableError, match="the variable CAM_PASSWORD is not set"):
            open_source(text, SourceOptions())
        monkeypatch.setenv("CAM_PASSWORD", "canary")
        source = open_source(text, SourceOptions())
        assert source.read() is not None
        assert "canary" not in str(source.place)
        source.close()
        monkeypatch.setenv("CAM_PASSWORD", "wrong-canary")
        with pytest.raises(SourceUnavailableError) as caught:
            open_source(text, SourceOptions())
        assert "canary" not in str(caught.value)

"""A USB camera without USB, behind ``camera:fake``: unplugged, it loses its number to another one and gets the next.

It obeys what V4L2 obeys: frames are B, G, R; a node that is gone gives no frame and cannot be opened; only
``vanish`` faults unplug it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from edgekit_device.sources.faults import active_fault, parse_fault
from edgekit_device.sources.frame import SourceOptions
from edgekit_device.sources.synthetic import SyntheticSource
from edgekit_device.sources.video_devices import VideoDevice

if TYPE_CHECKING:
    from edgekit_device.vision import Pixels

DEVICE_ID = "/dev/v4l/by-id/usb-EdgeKit_Fake_Camera-video-index0"
OTHER_ID = "/dev/v4l/by-id/usb-EdgeKit_Fake_Doorbell-video-index0"
_FPS, _WIDTH, _HEIGHT = 5, 3, 4  # cv2.CAP_PROP_*


class FakeVideoDevices:
    """One camera that the ``vanish`` faults of a run unplug and plug in."""

    def __init__(self, options: SourceOptions) -> None:
        self._epoch_s = time.monotonic() if options.epoch_s is None else options.epoch_s
        self._vanishes = [f for f in (parse_fault(text) for text in options.faults) if f.kind == "vanish"]

    def devices(self) -> list[VideoDevice]:
        """The camera under its present number, and from its first unplugging on another one under its first."""
        age_s = time.monotonic() - self._epoch_s
        others = [VideoDevice("/dev/video0", OTHER_ID)] if any(f.start_s <= age_s for f in self._vanishes) else []
        if active_fault(self._vanishes, age_s):
            return others
        number = sum(fault.end_s <= age_s for fault in self._vanishes)
        return [*others, VideoDevice(f"/dev/video{number}", DEVICE_ID)]

    def open(self, path: str, options: SourceOptions) -> FakeVideoCapture:
        """Open the node, if it is there."""
        return FakeVideoCapture(self, path, options)


class FakeVideoCapture:
    """What cv2.VideoCapture is for the fake camera."""

    def __init__(self, world: FakeVideoDevices, path: str, options: SourceOptions) -> None:
        self._world, self._options = world, options
        self._inner = SyntheticSource(options)
        self._opened = next((device for device in world.devices() if device.path == path), None)
        self._released = self._opened is None

    def _plugged_in(self) -> bool:
        # An open node belongs to its device: whoever has the path now is somebody else.
        return self._opened in self._world.devices()

    def isOpened(self) -> bool:  # noqa: N802
        """Whether frames can be asked for."""
        return not self._released

    def read(self) -> tuple[bool, Pixels | None]:
        """(whether a frame came, BGR uint8 (H, W, 3))."""
        if self._released or not self._plugged_in():
            return False, None
        frame = self._inner.read()
        return (False, None) if frame is None else (True, frame.raw[..., ::-1].copy())

    def get(self, prop: int) -> float:
        """Size and rate as they were asked for; 0 for all else."""
        options = self._options
        return float({_FPS: options.fps, _WIDTH: options.width, _HEIGHT: options.height}.get(prop, 0))

    def set(self, prop: int, value: float) -> bool:
        """Nothing can be set any more."""
        return False

    def release(self) -> None:
        """Give the device back."""
        self._released = True
        self._inner.close()

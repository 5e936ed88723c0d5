"""What the supervisor knows of the camera, from worker to worker. Standard library only."""

from __future__ import annotations

from typing import Any, NamedTuple

STALLED, SLOW, OK, OPENED = "camera_stalled", "camera_slow", "ok", "opened"


_LONGEST = 600  # A status holds other reasons beside this one.


def _speakable(text: str) -> str:
    """A reason that every reader takes: names of devices come from their makers."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "")[:_LONGEST]


class CameraEvent(NamedTuple):
    """What is worth an event."""

    kind: str
    reason: str
    detail: dict[str, Any]


class CameraState:
    """One camera's trouble and name, across the workers that hold it.

    Attributes:
        kind: The trouble, e.g. ``camera_frozen``; None while all is well.
        reason: Why, in words.
        device_id: What it is called whatever its number, for the worker that comes next.
        place: Where it was when it was last opened.
    """

    def __init__(self) -> None:
        self.kind: str | None = None
        self.reason = ""
        self.device_id: str | None = None
        self.place: str | None = None
        self._since_s = 0.0

    @property
    def trouble(self) -> str | None:
        """For the status."""
        return f"{self.kind}: {self.reason}" if self.kind else None

    def hear(self, message: dict[str, Any], now_s: float) -> CameraEvent | None:
        """Take in what a worker, or the watchdog, says.

        Args:
            message: `state`, and where known `reason`, `frames` (seen by that worker), `device_id`, `place`.
            now_s: Monotonic now.
        """
        state = message["state"]
        if state == OPENED:
            self.device_id = message.get("device_id") or self.device_id
            self.place = message.get("place")
            return None
        if state == OK:
            return self._recovered(now_s)
        # A worker that has not seen one frame yet cannot tell a slow camera from the stalled one it was started for.
        if state == self.kind or (state == SLOW and self.kind == STALLED and not message.get("frames")):
            return None
        if self.kind is None:
            self._since_s = now_s
        self.kind, self.reason = state, _speakable(message.get("reason") or "")
        return CameraEvent(state, self.reason, {"place": self.place} if self.place else {})

    def _recovered(self, now_s: float) -> CameraEvent | None:
        if self.kind is None:
            return None
        was, self.kind = self.kind, None
        seconds = round(now_s - self._since_s, 1)
        where = f" at {self.place}" if self.place else ""
        return CameraEvent(
            "camera_recovered",
            f"new pictures again{where} after {seconds} s of {was}",
            {"was": was, "seconds": seconds, **({"place": self.place} if self.place else {})},
        )

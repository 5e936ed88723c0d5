"""What is wrong with a camera, and when it is well again. Pure: numbers of frames in, words out.

A camera that runs is not yet a camera that sees. Each frame is judged by itself; a judgement becomes the camera's
state only when no good frame has come for as long as `HOLD_S` says, and it is over after a second of good ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

OK = "ok"
EMPTY, TORN, RESIZED, BLACK = "camera_empty", "camera_torn", "camera_resized", "camera_black"
FROZEN, TIME_BACK, SLOW = "camera_frozen", "camera_time_back", "camera_slow"
LOST, MISSING = "camera_lost", "camera_missing"

# Seconds without a good frame before a trouble is named: C2 allows ten. A dark moment or a still scene is none yet.
HOLD_S = {EMPTY: 1.0, TORN: 1.0, RESIZED: 1.0, TIME_BACK: 1.0, SLOW: 2.0, BLACK: 3.0, FROZEN: 4.0}
# What is no new picture gets no inference.
WITHHELD = frozenset({EMPTY, TORN, FROZEN})
# What opening the device again may cure.
CURABLE = frozenset({EMPTY, TORN, FROZEN, RESIZED})

SILENT_S = 3.0
RECOVER_S, RECOVER_FRAMES = 1.0, 3
SLOW_TIMES_PACE = 5.0
ACCEPT_SIZE_S = 60.0
REOPEN_FIRST_S, REOPEN_CAP_S = 15.0, 300.0
# A covered lens still has sensor noise; a real night scene is brighter or rougher than this.
BLACK_MEAN, BLACK_DEVIATION = 6.0, 4.0
TORN_SHARE = 1 / 8
_PAST_S, _FUTURE_S = 5.0, 1.0


class Look(NamedTuple):
    """What was measured of one frame.

    Attributes:
        at_s: Monotonic time of arrival, seconds.
        captured_s: Monotonic time of capture as the source states it, seconds.
        shape: Of the array.
        new: Whether its pixels differ from the frame before.
        mean: Of the sampled pixels, 0..255.
        deviation: Standard deviation of the sampled pixels.
        band_share: Share of the height, from below, that is one single colour.
        band: That colour, as the channels come; empty without a band.
    """

    at_s: float
    captured_s: float
    shape: tuple[int, ...]
    new: bool
    mean: float = 128.0
    deviation: float = 64.0
    band_share: float = 0.0
    band: tuple[int, ...] = ()


class State(NamedTuple):
    """A change of the camera's state."""

    word: str
    reason: str


def decoder_fill(band: tuple[int, ...]) -> str | None:
    """What left a band of one colour: a cut JPEG leaves mid grey, cut YUV green, cut RGB black; else None."""
    if band and all(126 <= level <= 130 for level in band):
        return "grey"
    if len(band) == 3 and band[0] <= 10 and band[2] <= 10 and 100 <= band[1] <= 170:
        return "green"
    return "black" if band and max(band) <= 2 else None


@dataclass
class _Seen:
    """What earlier frames were like."""

    shape: tuple[int, ...] | None = None
    captured_s: float = float("-inf")
    frame_s: float | None = None
    good_s: float = 0.0
    least_band: float = 1.0


class CameraHealth:
    """The state of one camera, from one worker's first frame on.

    Attributes:
        word: `OK`, a trouble, or None before there is anything to say.
        frames: Frames seen since the worker started.
    """

    def __init__(self, pace_s: float) -> None:
        self.pace_s = pace_s
        self.word: str | None = None
        self.frames = 0
        self._seen = _Seen()
        self._open = False
        self._streak: tuple[float, int] | None = None
        self._troubled_s = 0.0
        self._reopen_after_s = REOPEN_FIRST_S

    def opened(self, at_s: float, pace_s: float) -> None:
        """The device was opened; its frames are due from now on."""
        self.pace_s, self._open = pace_s, True
        self._seen.frame_s, self._streak = None, None
        self._seen.good_s = self._opened_s = at_s

    def gone(self, reason: str, at_s: float) -> State | None:
        """The device ended, broke, or could not be opened.

        Returns:
            The new state, if it is one.
        """
        self._open, self._streak = False, None
        return self._change(LOST if self.frames else MISSING, reason, at_s)

    def judge(self, look: Look) -> str | None:
        """The word for one frame by itself; None for a good one. The gravest wins."""
        seen = self._seen
        if len(look.shape) < 2 or 0 in look.shape:
            return EMPTY
        if seen.shape is not None and look.shape != seen.shape:
            return RESIZED
        if self._is_torn(look):
            return TORN
        if look.mean < BLACK_MEAN and look.deviation < BLACK_DEVIATION:
            return BLACK
        if not look.new:
            return FROZEN
        if look.captured_s < seen.captured_s or not -_FUTURE_S <= look.at_s - look.captured_s <= _PAST_S:
            return TIME_BACK
        if seen.frame_s is not None and look.at_s - seen.frame_s > max(1.0, SLOW_TIMES_PACE * self.pace_s):
            return SLOW
        return None

    def _is_torn(self, look: Look) -> bool:
        fill = decoder_fill(look.band)
        if fill is None or look.band_share < TORN_SHARE or (fill == "black" and look.band_share > 0.99):
            return False
        # The black bar of a letter box is there from the start and stays; a tear appears.
        return fill != "black" or look.band_share >= self._seen.least_band + TORN_SHARE

    def add(self, look: Look) -> tuple[str | None, State | None]:
        """Take one frame in.

        Returns:
            (the word for this frame, the camera's new state if it changed).
        """
        word = self.judge(look)
        seen, at_s = self._seen, look.at_s
        self.frames += 1
        # A still picture may repeat for a while, or a source deliver each frame twice; that mends nothing and
        # breaks nothing until it has lasted.
        if word is None:
            began, count = self._streak or (at_s, 0)
            self._streak = (began, count + 1)
            seen.good_s = at_s
        elif word != FROZEN or at_s - seen.good_s > RECOVER_S:
            self._streak = None
        change = self._after(word, look)
        seen.frame_s = at_s
        if word != EMPTY:
            seen.captured_s = look.captured_s
            seen.shape = seen.shape or look.shape
            seen.least_band = min(seen.least_band, look.band_share)
        return word, change

    def _after(self, word: str | None, look: Look) -> State | None:
        at_s, seen = look.at_s, self._seen
        if word is None:
            if self.word != OK and self._streak is not None and self._is_well(at_s, *self._streak):
                return self._change(OK, "new pictures at the expected rate", at_s)
            return None
        if word == RESIZED and self.word == RESIZED and at_s - self._troubled_s > ACCEPT_SIZE_S:
            seen.shape, seen.least_band = look.shape, 1.0
            return None
        if at_s - seen.good_s < HOLD_S[word] or word == self.word:
            return None
        return self._change(word, self._reason(word, look), at_s)

    def _is_well(self, at_s: float, began_s: float, count: int) -> bool:
        return count >= RECOVER_FRAMES and at_s - began_s >= RECOVER_S

    def _reason(self, word: str, look: Look) -> str:
        seen, since = self._seen, look.at_s - self._seen.good_s
        if word == RESIZED and seen.shape is not None:
            return f"pictures of {look.shape[1]}x{look.shape[0]} instead of {seen.shape[1]}x{seen.shape[0]}"
        if word == SLOW and seen.frame_s is not None:
            return f"one frame in {look.at_s - seen.frame_s:.1f} s; one is due every {self.pace_s:.3g} s"
        return {
            EMPTY: f"frames without a picture for {since:.1f} s; check cable and power",
            TORN: f"the lower {look.band_share:.0%} is {decoder_fill(look.band)}: cut frames; check cable and power",
            BLACK: f"a black picture for {since:.1f} s (mean {look.mean:.1f} of 255); check lens cover and light",
            FROZEN: f"the same picture for {since:.1f} s",
            TIME_BACK: f"capture times run backwards or are {look.at_s - look.captured_s:.0f} s off",
        }[word]

    def silence(self, now_s: float) -> State | None:
        """Nothing has come for a while: how it looks from outside while a read is waiting.

        Returns:
            The new state, if it is one.
        """
        if not self._open:
            return None
        since = now_s - (self._opened_s if self._seen.frame_s is None else self._seen.frame_s)
        if since < max(SILENT_S, SLOW_TIMES_PACE * self.pace_s) or self.word == SLOW:
            return None
        self._streak = None
        return self._change(SLOW, f"no frame for {since:.1f} s; one is due every {self.pace_s:.3g} s", now_s)

    def _change(self, word: str, reason: str, at_s: float) -> State | None:
        if word == self.word:
            return None
        if word == OK:
            self._reopen_after_s = REOPEN_FIRST_S
        if self.word in (None, OK):
            self._troubled_s = at_s
        self.word = word
        return State(word, reason)

    def wants_reopening(self, now_s: float) -> bool:
        """Whether it is time to try what cures most frozen cameras; each try doubles the wait for the next."""
        if not self._open or self.word not in CURABLE or now_s - self._opened_s < self._reopen_after_s:
            return False
        if now_s - self._troubled_s < REOPEN_FIRST_S:
            return False
        self._reopen_after_s = min(REOPEN_CAP_S, self._reopen_after_s * 2)
        return True

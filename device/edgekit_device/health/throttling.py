"""What holds a Raspberry Pi back, as its firmware tells it: bits for now, and the same bits since boot."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

# Bit n speaks of now, bit n + 16 of some moment since boot (Raspberry Pi documentation, vcgencmd get_throttled).
CAUSES = ("undervoltage", "frequency_capped", "throttled", "soft_temp_limit")
_SINCE_BOOT = 16
# The node's name holds an address on some boards: soc:firmware, soc@107c000000:firmware.
_PLACES = ("devices/platform/soc*/soc*:firmware/get_throttled", "devices/platform/*firmware*/get_throttled")


class Throttling(NamedTuple):
    """Names out of CAUSES.

    Attributes:
        now: What holds the board back at this moment.
        since_boot: What did so at some moment since boot.
    """

    now: tuple[str, ...]
    since_boot: tuple[str, ...]


def decode(bits: int) -> Throttling:
    """Name the bits of get_throttled; bits without a published meaning are left out."""
    return Throttling(
        tuple(name for bit, name in enumerate(CAUSES) if bits >> bit & 1),
        tuple(name for bit, name in enumerate(CAUSES) if bits >> (bit + _SINCE_BOOT) & 1),
    )


def parse_bits(said: str) -> int | None:
    """The bits out of ``throttled=0x50005`` (the tool) or ``50005`` (the kernel's file, hexadecimal too)."""
    found = re.fullmatch(r"\s*(?:throttled=0x|0x)?([0-9a-f]{1,8})\s*", said, re.ASCII | re.IGNORECASE)
    return int(found[1], 16) if found else None


def kernel_bits(sys_root: Path = Path("/sys")) -> int | None:
    """The bits as the kernel's firmware driver shows them; None where there is no such file.

    Args:
        sys_root: Where sysfs is.
    """
    for pattern in _PLACES:
        for path in sorted(sys_root.glob(pattern)):
            try:
                return parse_bits(path.read_text("ascii"))
            except (OSError, ValueError):
                continue
    return None


def joined(seen: int, found: int) -> int:
    """The newest bits, with everything that was ever seen kept as "since boot".

    The kernel's raspberrypi-hwmon driver asks the firmware to clear those bits each time it polls, so they cannot
    be relied on to stay: what a run has seen itself it must remember.

    Args:
        seen: What this function returned before; 0 at first.
        found: Bits just read.
    """
    lasting = (seen | found | found << _SINCE_BOOT) & 0xF << _SINCE_BOOT
    return found & 0xFFFF | lasting

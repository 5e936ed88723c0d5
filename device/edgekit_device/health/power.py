"""Power of the processor, where the board can tell."""

from __future__ import annotations

import re
from pathlib import Path

_RAIL = re.compile(r"\s*(\w+)_([AV])\b[^=\n]*=\s*(\d{1,4}(?:\.\d+)?)\s*[AV]?\s*", re.ASCII)
# A Pi 5 has some twelve rails and takes at most 25 W; ten times that is garbage, not a measurement.
_SANE_W = 250.0


def rails_w(said: str) -> float | None:
    """Power from what a Pi 5's ``vcgencmd pmic_read_adc`` printed: the sum of V * A over rails that tell both.

    The converters' losses and what hangs on the 5 V input are not in it, because no current is measured there.

    Args:
        said: Lines like ``VDD_CORE_A current(7)=0.7662A`` and ``VDD_CORE_V volt(15)=0.7205V``.

    Returns:
        Watts; None when no rail tells both.
    """
    found: dict[str, dict[str, float]] = {}
    for line in said.splitlines():
        rail = _RAIL.fullmatch(line)
        if rail:
            found.setdefault(rail[1], {})[rail[2]] = float(rail[3])
    pairs = [values["V"] * values["A"] for values in found.values() if len(values) == 2]
    total = sum(pairs)
    return total if pairs and 0 < total < _SANE_W else None


class EnergyCounters:
    """Intel's and AMD's running energy counters (RAPL), one a processor package, added up.

    Only root may read them on most systems; then there is no figure.
    """

    def __init__(self, sys_root: Path = Path("/sys")) -> None:
        self._folder = sys_root / "class" / "powercap"
        self._before: dict[str, int] = {}
        self._total_uj = 0

    def total_j(self) -> float | None:
        """Joules since the first call, with wraparounds of the counters added; None where no counter can be read.

        It must be called more often than a counter wraps (minutes to an hour).
        """
        now: dict[str, int] = {}
        # By name: parts of a package (core, dram) would be counted twice, and psys is more than the processor.
        for zone in sorted(self._folder.glob("intel-rapl:[0-9]*")):
            try:
                if not (zone / "name").read_text("ascii").startswith("package"):
                    continue
                now[zone.name] = int((zone / "energy_uj").read_text("ascii"))
                if zone.name in self._before:
                    step = now[zone.name] - self._before[zone.name]
                    if step < 0:
                        step += int((zone / "max_energy_range_uj").read_text("ascii"))
                    self._total_uj += max(0, step)
            except (OSError, ValueError):
                now.pop(zone.name, None)
        self._before = now
        return self._total_uj / 1e6 if now else None


def energy_per_inference_mj(power_w: float | None, window_s: float, inferences: int) -> float | None:
    """Millijoules that one inference cost, all that the processor did in the window counted.

    Args:
        power_w: Mean power in the window, W.
        window_s: Length of the window, s.
        inferences: How many there were in it.
    """
    if power_w is None or inferences <= 0 or window_s <= 0:
        return None
    return power_w * window_s / inferences * 1000

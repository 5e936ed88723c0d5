"""Reads the board's health in the background; what a run asks for is answered from the last look.

Two threads, because files of the kernel answer at once and tools may hang: neither the run nor the other thread
waits for one. A value that is too old is None.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgekit_device.health.power import EnergyCounters, energy_per_inference_mj, rails_w
from edgekit_device.health.readings import cpu_temp_c, disk_free_bytes, load_1m, measured_temp_c, rss_bytes
from edgekit_device.health.throttling import decode, joined, kernel_bits, parse_bits
from edgekit_device.health.tools import ToolRunner

_BACKOFF_CAP_S = 300.0
_JOIN_S = 1.0
_STALE_PERIODS = 3
_STALE_SLACK_S = 1.0
EDGETPU = "edgetpu"


@dataclass(frozen=True)
class HealthPlaces:
    """Where the board's health is read from.

    Attributes:
        state_dir: Its disk's free space counts.
        sys_root: Where sysfs is.
        proc: Where procfs is.
        vcgencmd: The Raspberry Pi's own tool: a name on PATH or a path.
        files_s: Seconds between looks at the kernel's files.
        tools_s: Seconds between runs of the tool.
        deadline_s: Longest run of a tool, seconds.
    """

    state_dir: Path
    sys_root: Path = Path("/sys")
    proc: Path = Path("/proc")
    vcgencmd: str = "vcgencmd"
    files_s: float = 2.0
    tools_s: float = 5.0
    deadline_s: float = 1.5


@dataclass
class _Watts:
    """Mean power since the last Reading: joules over seconds where there is a counter, else the mean of samples."""

    samples: list[float] = field(default_factory=list)
    energy: tuple[float, float] | None = None
    energy_taken: tuple[float, float] | None = None
    last_w: float | None = None

    def take(self) -> float | None:
        if self.energy is not None:
            since_s, since_j = self.energy_taken or self.energy
            if self.energy[0] > since_s:
                self.last_w = (self.energy[1] - since_j) / (self.energy[0] - since_s)
                self.energy_taken = self.energy
        elif self.samples:
            self.last_w = sum(self.samples) / len(self.samples)
            self.samples.clear()
        return self.last_w


class HealthSampler:
    """The health part of Readings, gathered beside the run."""

    def __init__(self, places: HealthPlaces) -> None:
        self.places = places
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._values: dict[str, tuple[float, float, Any]] = {}
        self._bits = 0
        self._watts = _Watts()
        self._energy = EnergyCounters(places.sys_root)
        self._tools = ToolRunner(places.deadline_s, self._stop)
        self._threads = [
            threading.Thread(target=self._repeat, args=(look, period), name=f"health-{name}", daemon=True)
            for name, look, period in (
                ("files", self._look_at_files, places.files_s),
                ("tools", self._look_with_tools, places.tools_s),
            )
        ]

    def start(self) -> None:
        """Begin to look."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop; a thread that hangs in the kernel is left to end with the process."""
        self._stop.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(_JOIN_S)

    def snapshot(
        self, *pids: int, delegate: str | None = None, window_s: float = 0.0, inferences: int = 0
    ) -> dict[str, Any]:
        """The health part of a Reading; never waits.

        Args:
            pids: Processes whose memory counts.
            delegate: The rung that serves: the power of an Edge TPU is measured nowhere, so with one there is none.
            window_s: Length of the Reading's window, s.
            inferences: Inferences in it.
        """
        with self._lock:
            power_w = self._watts.take() if self._fresh("power") else None
            bits = self._bits if self._fresh("bits") or self._fresh("bits_by_tool") else None
            temp_c, free = self._fresh("temp") or self._fresh("temp_by_tool"), self._fresh("disk")
        if delegate == EDGETPU:
            power_w = None
        throttling = None if bits is None else decode(bits)
        energy_mj = energy_per_inference_mj(power_w, window_s, inferences)
        return {
            "cpu_temp_c": None if temp_c is None else round(temp_c, 1),
            "throttled_now": throttling and throttling.now,
            "throttled_since_boot": throttling and throttling.since_boot,
            "rss_bytes": rss_bytes(*pids, proc=self.places.proc),
            "load_1m": load_1m(self.places.proc),
            "disk_free_bytes": free,
            "soc_power_w": None if power_w is None else round(power_w, 3),
            "energy_per_inference_mj": None if energy_mj is None else round(energy_mj, 3),
        }

    # -- in the threads --------------------------------------------------------------------------------------

    def _repeat(self, look: Callable[[], bool], period_s: float) -> None:
        failures = 0
        while not self._stop.is_set():
            try:
                useful = look()
            except Exception:
                # Whatever a broken sensor does, it costs its own figures only.
                useful = False
            failures = 0 if useful else failures + 1
            wait_s = period_s * 2 ** min(failures, 10) if failures else period_s
            self._stop.wait(min(wait_s, max(_BACKOFF_CAP_S, period_s)))

    def _look_at_files(self) -> bool:
        places = self.places
        self._put("temp", cpu_temp_c(places.sys_root), places.files_s)
        self._put_bits(kernel_bits(places.sys_root), places.files_s)
        joules = self._energy.total_j()
        if joules is not None:
            with self._lock:
                self._watts.energy = (time.monotonic(), joules)
                self._watts.energy_taken = self._watts.energy_taken or self._watts.energy
        self._put("power", joules, places.files_s)
        self._put("disk", disk_free_bytes(places.state_dir), places.files_s)
        return True

    def _look_with_tools(self) -> bool:
        """Ask the tool for what the files did not tell; False when it told nothing."""
        places, told = self.places, False
        age_s = places.tools_s + 3 * places.deadline_s
        with self._lock:
            lacking = {name for name in ("temp", "bits") if self._fresh(name) is None}
        if "bits" in lacking:
            said = self._tools.ask([places.vcgencmd, "get_throttled"])
            bits = parse_bits(said) if said and said.startswith("throttled=") else None
            told |= self._put_bits(bits, age_s, "bits_by_tool")
        if "temp" in lacking and (said := self._tools.ask([places.vcgencmd, "measure_temp"])):
            told |= self._put("temp_by_tool", measured_temp_c(said), age_s)
        said = self._tools.ask([places.vcgencmd, "pmic_read_adc"])
        watts = rails_w(said) if said else None
        if watts is not None:
            with self._lock:
                self._watts.samples.append(watts)
            told |= self._put("power", watts, age_s)
        return told

    def _put(self, name: str, value: Any, period_s: float) -> bool:
        """Note a value; an unknown one never wipes out what the other thread found."""
        if value is None:
            return False
        with self._lock:
            self._values[name] = (time.monotonic(), period_s, value)
        return True

    def _put_bits(self, bits: int | None, period_s: float, name: str = "bits") -> bool:
        if bits is not None:
            with self._lock:
                self._bits = joined(self._bits, bits)
        return self._put(name, True if bits is not None else None, period_s)

    def _fresh(self, name: str) -> Any:
        """A value that is not too old; the lock is held."""
        at_s, period_s, value = self._values.get(name, (0.0, 0.0, None))
        too_old_s = _STALE_PERIODS * period_s + _STALE_SLACK_S
        return value if value is not None and time.monotonic() - at_s < too_old_s else None

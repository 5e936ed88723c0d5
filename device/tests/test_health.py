"""The board's health: decoded rightly, None where it is not known, and never a reason to wait."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgekit_device import health
from edgekit_device.health.power import EnergyCounters, energy_per_inference_mj, rails_w
from edgekit_device.health.readings import cpu_temp_c, disk_free_bytes, load_1m, measured_temp_c, rss_bytes
from edgekit_device.health.sampler import HealthPlaces, HealthSampler
from edgekit_device.health.throttling import CAUSES, decode, joined, kernel_bits, parse_bits
from edgekit_device.health.tools import ToolRunner

PMIC = """\
   3V7_WL_SW_A current(0)=0.10000000A
     VDD_CORE_A current(7)=2.00000000A
   3V7_WL_SW_V volt(8)=3.70000000V
     VDD_CORE_V volt(15)=0.75000000V
        EXT5V_V volt(24)=5.11500000V
         BATT_V volt(25)=0.00000000V
"""
GARBAGE = ["", "\x00\xff", "error", "throttled=", "throttled=0xZZ", "throttled=-1", "temp=hot'C", "=" * 70_000, "nan"]


def write(root: Path, name: str, text: str) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def tool(folder: Path, script: str, name: str = "vcgencmd") -> str:
    path = write(folder, name, f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@contextmanager
def sampling(tmp_path: Path, vcgencmd: str, **more: float) -> Iterator[HealthSampler]:
    periods = {"files_s": 0.05, "tools_s": 0.05, "deadline_s": 0.4, **more}
    places = HealthPlaces(tmp_path, tmp_path / "sys", tmp_path / "proc", vcgencmd, **periods)  # type: ignore[arg-type]
    sampler = HealthSampler(places)
    sampler.start()
    try:
        yield sampler
    finally:
        sampler.close()


def eventually(true: Callable[[], bool], timeout_s: float = 5.0) -> bool:
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        if true():
            return True
        time.sleep(0.02)
    return true()


# -- throttling


def test_every_combination_of_the_eight_bits_is_named() -> None:
    for combination in range(256):
        now = [bit for bit in range(4) if combination >> bit & 1]
        since = [bit for bit in range(4) if combination >> (4 + bit) & 1]
        bits = sum(1 << bit for bit in now) + sum(1 << (16 + bit) for bit in since)
        for said in (f"throttled=0x{bits:x}\n", f"{bits:x}\n"):
            found = parse_bits(said)
            assert found == bits
            assert decode(found) == (tuple(CAUSES[bit] for bit in now), tuple(CAUSES[bit] for bit in since))


def test_the_names_are_those_of_the_firmware_s_bits() -> None:
    assert decode(0x50005) == (("undervoltage", "throttled"), ("undervoltage", "throttled"))
    assert decode(0x80002) == (("frequency_capped",), ("soft_temp_limit",))


def test_bits_without_a_published_meaning_change_nothing() -> None:
    assert decode(0xFFF0FFF0) == ((), ())


@pytest.mark.parametrize("said", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_from_the_tool_is_unknown_not_fine(said: str) -> None:
    assert parse_bits(said) is None
    assert measured_temp_c(said) is None
    assert rails_w(said) is None


@pytest.mark.parametrize("node", ["soc/soc:firmware", "soc@107c000000/soc@107c000000:firmware"])
def test_the_kernel_s_file_is_read_where_a_board_has_it(tmp_path: Path, node: str) -> None:
    assert kernel_bits(tmp_path) is None
    write(tmp_path, f"devices/platform/{node}/get_throttled", "50000\n")
    assert kernel_bits(tmp_path) == 0x50000


def test_what_was_seen_once_stays_seen_though_the_kernel_clears_it() -> None:
    seen = 0
    for found in (0x1, 0x0, 0x40000, 0x0):
        seen = joined(seen, found)
    assert decode(seen) == ((), ("undervoltage", "throttled"))
    assert decode(joined(seen, 0x8)) == (("soft_temp_limit",), ("undervoltage", "throttled", "soft_temp_limit"))


# -- temperature, memory, load, disk


def test_the_processor_s_zone_is_found_among_others(tmp_path: Path) -> None:
    zones = tmp_path / "class/thermal"
    for number, (kind, milli) in enumerate([("battery", "30000"), ("cpu-thermal", "61234"), ("gpu-thermal", "1")]):
        write(zones, f"thermal_zone{number}/type", kind + "\n")
        write(zones, f"thermal_zone{number}/temp", milli + "\n")
    assert cpu_temp_c(tmp_path) == pytest.approx(61.234)


@pytest.mark.parametrize("milli", ["", "hot", "999999999", "-273150"])
def test_a_broken_sensor_is_no_temperature(tmp_path: Path, milli: str) -> None:
    write(tmp_path, "class/thermal/thermal_zone0/type", "cpu-thermal")
    write(tmp_path, "class/thermal/thermal_zone0/temp", milli)
    assert cpu_temp_c(tmp_path) is None


def test_memory_counts_every_process_and_is_unknown_when_one_is_gone() -> None:
    own = rss_bytes(os.getpid())
    assert own is not None
    assert 5_000_000 < own < 4_000_000_000
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert eventually(lambda: (rss_bytes(os.getpid(), child.pid) or 0) > own + 2_000_000)
    finally:
        child.communicate(b"\n")
    assert rss_bytes(os.getpid(), child.pid) is None


def test_load_and_disk_are_those_of_this_machine(tmp_path: Path) -> None:
    assert load_1m() == pytest.approx(os.getloadavg()[0], abs=0.5)
    write(tmp_path, "loadavg", "nonsense")
    assert load_1m(tmp_path) is None
    about = os.statvfs(tmp_path)
    assert disk_free_bytes(tmp_path / "not" / "there") == pytest.approx(about.f_bavail * about.f_frsize, rel=0.1)
    assert health.clock() in ("synced", "unsynced", "unknown")
    assert health.snapshot(tmp_path, os.getpid())["rss_bytes"] is not None


# -- power


def test_a_pi_5_s_power_is_the_sum_over_rails_that_tell_volts_and_amperes() -> None:
    assert rails_w(PMIC) == pytest.approx(0.1 * 3.7 + 2.0 * 0.75)
    assert rails_w("VDD_CORE_A=2.0A\nVDD_CORE_V=0.75V\n") == pytest.approx(1.5)
    assert rails_w("EXT5V_V volt(24)=5.115V\n") is None
    assert rails_w(PMIC.replace("2.00000000A", "9999.0A")) is None


def packages(root: Path, *energies_uj: int) -> None:
    for number, energy in enumerate(energies_uj):
        zone = f"class/powercap/intel-rapl:{number}"
        write(root, f"{zone}/name", f"package-{number}\n")
        write(root, f"{zone}/max_energy_range_uj", "1000000\n")
        write(root, f"{zone}/energy_uj", f"{energy}\n")


def test_energy_counters_add_up_over_packages_and_across_wraparound(tmp_path: Path) -> None:
    packages(tmp_path, 900_000, 0)
    write(tmp_path, "class/powercap/intel-rapl:0:0/name", "core\n")
    write(tmp_path, "class/powercap/intel-rapl:0:0/energy_uj", "5\n")
    write(tmp_path, "class/powercap/intel-rapl:2/name", "psys\n")
    write(tmp_path, "class/powercap/intel-rapl:2/energy_uj", "7\n")
    counters = EnergyCounters(tmp_path)
    assert counters.total_j() == 0
    packages(tmp_path, 950_000, 200_000)
    assert counters.total_j() == pytest.approx(0.25)
    packages(tmp_path, 30_000, 300_000)
    assert counters.total_j() == pytest.approx(0.25 + 0.08 + 0.1)


def test_counters_that_may_not_be_read_give_no_figure(tmp_path: Path) -> None:
    assert EnergyCounters(tmp_path).total_j() is None
    packages(tmp_path, 1)
    write(tmp_path, "class/powercap/intel-rapl:0/energy_uj", "")
    assert EnergyCounters(tmp_path).total_j() is None


def test_energy_of_an_inference_is_power_times_time_over_count() -> None:
    assert energy_per_inference_mj(3.0, 30.0, 900) == pytest.approx(100.0)
    assert energy_per_inference_mj(3.0, 30.0, 0) is None
    assert energy_per_inference_mj(None, 30.0, 900) is None


# -- tools that misbehave


@pytest.mark.parametrize(
    "script",
    [
        "sleep 60",
        "trap '' TERM INT HUP; sleep 60",
        "sleep 60 & sleep 60",
        "exit 1",
        "echo throttled=0x0; exit 1",
        "yes throttled=0x0",
        "head -c 200000 /dev/zero",
        "exec >&-; sleep 60",
        "kill -SEGV $$",
        ":",
    ],
)
def test_a_tool_that_hangs_fails_or_floods_gives_nothing_in_time_and_is_gone(tmp_path: Path, script: str) -> None:
    name = tool(tmp_path, f"echo $$ > {tmp_path}/pid\n{script}")
    begun = time.monotonic()
    assert ToolRunner(0.3).ask([name, "get_throttled"]) is None
    assert time.monotonic() - begun < 2.0
    group = (tmp_path / "pid").read_text().strip()
    assert eventually(lambda: not members(group), 2.0)


def members(group: str) -> list[str]:
    """Processes of a process group that are no zombies of somebody else."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[2] == group and fields[0] != "Z":
            found.append(path.parent.name)
    return found


def test_a_missing_tool_or_one_that_cannot_be_run_gives_nothing(tmp_path: Path) -> None:
    assert ToolRunner().ask([str(tmp_path / "none")]) is None
    write(tmp_path, "plain", "text").chmod(0o755)
    assert ToolRunner().ask([str(tmp_path / "plain")]) is None
    assert ToolRunner().ask([tool(tmp_path, "echo throttled=0x5")]) == "throttled=0x5\n"


def test_a_hanging_tool_delays_no_snapshot_and_costs_only_its_own_figures(tmp_path: Path) -> None:
    write(tmp_path, "sys/class/thermal/thermal_zone0/type", "cpu-thermal")
    write(tmp_path, "sys/class/thermal/thermal_zone0/temp", "50000")
    with sampling(tmp_path, tool(tmp_path, "sleep 60"), deadline_s=1.5) as sampler:
        assert eventually(lambda: sampler.snapshot()["cpu_temp_c"] == 50.0)
        slowest = 0.0
        for _ in range(50):
            begun = time.monotonic()
            found = sampler.snapshot(os.getpid())
            slowest = max(slowest, time.monotonic() - begun)
            time.sleep(0.01)
        closing = time.monotonic()
    assert slowest < 0.2  # It reads two small files; the limit is for a loaded machine.
    assert time.monotonic() - closing < 2.0
    assert found["throttled_now"] is None
    assert found["soc_power_w"] is None


def test_a_board_s_tool_fills_in_what_no_file_tells(tmp_path: Path) -> None:
    script = f"""case $1 in
      get_throttled) echo throttled=0x50001;;
      measure_temp) echo "temp=48.3'C";;
      pmic_read_adc) cat <<'END'\n{PMIC}END\n;;
    esac"""
    with sampling(tmp_path, tool(tmp_path, script)) as sampler:
        assert eventually(lambda: sampler.snapshot()["soc_power_w"] is not None)
        found = sampler.snapshot(window_s=10.0, inferences=100)
        assert found["cpu_temp_c"] == 48.3
        assert found["throttled_now"] == ("undervoltage",)
        assert found["throttled_since_boot"] == ("undervoltage", "throttled")
        assert found["soc_power_w"] == pytest.approx(1.87)
        assert found["energy_per_inference_mj"] == pytest.approx(187.0)
        beside_edge_tpu = sampler.snapshot(window_s=10.0, inferences=100, delegate="edgetpu")
        assert beside_edge_tpu["soc_power_w"] is None
        assert beside_edge_tpu["energy_per_inference_mj"] is None


def test_the_kernel_s_file_wins_and_the_tool_is_not_asked_for_it(tmp_path: Path) -> None:
    write(tmp_path, "sys/devices/platform/soc/soc:firmware/get_throttled", "1\n")
    with sampling(tmp_path, tool(tmp_path, f"echo $1 >> {tmp_path}/asked; exit 1"), tools_s=0.1) as sampler:
        assert eventually(lambda: sampler.snapshot()["throttled_now"] == ("undervoltage",))
        for _ in range(2):  # A question asked before the file was read may be answered late.
            (tmp_path / "asked").unlink(missing_ok=True)
            assert eventually(lambda: (tmp_path / "asked").exists())
        assert "get_throttled" not in (tmp_path / "asked").read_text()


def test_a_tool_that_goes_silent_leaves_no_old_figures_behind(tmp_path: Path) -> None:
    name = tool(tmp_path, "echo throttled=0x0")
    places = HealthPlaces(tmp_path, tmp_path / "sys", tmp_path / "proc", name, 0.05, 0.05, 0.2)
    sampler = HealthSampler(places)
    sampler.start()
    try:
        assert eventually(lambda: sampler.snapshot()["throttled_now"] == ())
        tool(tmp_path, "exit 1")
        assert eventually(lambda: sampler.snapshot()["throttled_now"] is None, 8.0)
    finally:
        sampler.close()


def test_a_tool_that_is_not_there_is_asked_for_less_and_less(tmp_path: Path) -> None:
    with sampling(tmp_path, tool(tmp_path, f"echo x >> {tmp_path}/asked; exit 1"), tools_s=0.02):
        time.sleep(1.5)
    # Three questions a look. Without backoff there would be some 30 looks and more.
    assert len((tmp_path / "asked").read_text().splitlines()) <= 3 * 7


def test_power_of_counters_is_that_of_the_time_since_the_last_reading(tmp_path: Path) -> None:
    begun, energy = time.monotonic(), itertools.count()
    root = tmp_path / "sys"
    packages(root, 0)
    with sampling(tmp_path, str(tmp_path / "none"), files_s=0.02) as sampler:
        assert sampler.snapshot()["soc_power_w"] in (None, 0.0)
        while time.monotonic() - begun < 1.0:
            next(energy)
            path = root / "class/powercap/intel-rapl:0/energy_uj"
            fresh = write(root, "fresh", f"{int((time.monotonic() - begun) * 4e6) % 1_000_000}\n")
            fresh.replace(path)  # In one step: a kernel's file is never half written.
            time.sleep(0.01)
        found = sampler.snapshot(window_s=1.0, inferences=10)
    assert found["soc_power_w"] == pytest.approx(4.0, rel=0.25)  # Four watts, wrapping round four times.
    assert found["energy_per_inference_mj"] == pytest.approx(found["soc_power_w"] * 100, rel=0.01)

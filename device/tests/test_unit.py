"""The systemd unit: clean, hardened, and still able to do what a board needs."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgekit_device.contract.errors import UsageError
from edgekit_device.units import NAME, unit_text

MOST_EXPOSURE = 3.0
SYSTEMD = "sudo apt install systemd"
STRACE = "sudo apt install strace"


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    path = tmp_path / NAME
    path.write_text(unit_text(Path(shutil.which("true") or "/bin/true")))
    return path


def values(text: str, key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", text, re.MULTILINE)


def test_systemd_finds_nothing_to_complain_about(unit: Path, require_tool: Callable[[str, str], str]) -> None:
    analyze = require_tool("systemd-analyze", SYSTEMD)
    done = subprocess.run([analyze, "verify", str(unit)], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_systemd_calls_it_hardened(unit: Path, require_tool: Callable[[str, str], str]) -> None:
    analyze = require_tool("systemd-analyze", SYSTEMD)
    done = subprocess.run(
        [analyze, "security", "--offline=true", "--no-pager", str(unit)], capture_output=True, text=True, check=True
    )
    exposure = float(re.findall(r"exposure level for \S+: ([\d.]+)", done.stdout)[0])
    assert exposure <= MOST_EXPOSURE


def test_nothing_that_a_real_run_asks_of_the_kernel_is_refused_by_the_unit(
    workshop, tmp_path: Path, require_tool: Callable[[str, str], str]
) -> None:
    """The filter of the unit against the calls that a run of both processes was seen to make."""
    analyze, strace = require_tool("systemd-analyze", SYSTEMD), require_tool("strace", STRACE)
    log = tmp_path / "calls"
    path = workshop.write(tmp_path / "toy-1.0.0.edgekit")
    words = ["run", "--bundle", str(path), "--pubkey", str(workshop.public), "--source", "synthetic", "--seconds", "3"]
    command = [strace, "-f", "-c", "-S", "name", "-o", str(log), sys.executable, "-m", "edgekit_device", *words]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, timeout=120, check=True)
    assert '"fps"' in done.stdout
    made = set(re.findall(r"^ *[\d.]+(?: +[\d.]+){3,4} +(\w+)$", log.read_text(), re.MULTILINE)) - {"total"}
    assert made >= {"memfd_create", "execve", "mmap"}
    assert made & {"adjtimex", "clock_adjtime"}
    allowed: set[str] = set()
    for words_of_filter in values(unit_text(), "SystemCallFilter"):
        group = expand(analyze, words_of_filter.removeprefix("~").split())
        allowed = allowed - group if words_of_filter.startswith("~") else allowed | group
    assert sorted(made - allowed - expand(analyze, ["@default"])) == []


def expand(analyze: str, words: list[str]) -> set[str]:
    """The system calls that some words of a filter stand for."""
    found = {word for word in words if word[0] != "@"}
    for word in set(words) - found:
        done = subprocess.run(
            [analyze, "syscall-filter", "--no-pager", word], capture_output=True, text=True, check=True
        )
        inner = [line.strip() for line in done.stdout.splitlines()[1:]]
        found |= expand(analyze, [line for line in inner if line and line[0] != "#"])
    return found


def test_cameras_accelerators_and_the_firmware_stay_reachable() -> None:
    text = unit_text()
    assert values(text, "PrivateDevices") == []
    assert values(text, "DevicePolicy") == ["closed"]
    allowed = {line.split()[0] for line in values(text, "DeviceAllow")}
    assert allowed >= {"char-video4linux", "char-media", "char-usb_device", "/dev/vchiq", "/dev/vcio"}
    assert {"video", "plugdev"} <= set(values(text, "SupplementaryGroups")[0].split())
    assert values(text, "ProcSubset") == []  # /proc/cpuinfo decides which kernels the interpreter takes.


def test_a_killed_worker_is_the_supervisor_s_affair_and_a_stalled_service_is_started_anew() -> None:
    text = unit_text()
    assert values(text, "Type") == ["notify"]
    assert values(text, "WatchdogSec") == ["30"]
    assert values(text, "OOMPolicy") == ["continue"]
    assert values(text, "Restart") == ["always"]
    assert values(text, "User") == ["edgekit"]


def test_another_place_and_user_are_written_in_and_tricks_are_refused() -> None:
    text = unit_text(Path("/srv/ek/bin/edgekit-device"), "camera")
    assert values(text, "ExecStart") == ["/srv/ek/bin/edgekit-device run --root /"]
    assert values(text, "User") == ["camera"]
    for command, user in (("bin/x", "edgekit"), ("/a b", "edgekit"), ("/a%h", "edgekit"), ("/a", "x\nUser=root")):
        with pytest.raises(UsageError):
            unit_text(Path(command), user)

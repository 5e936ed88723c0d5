"""A board says what it is in a word that rollouts can ask for."""

from __future__ import annotations

import pytest

from edgekit_device.board_kind import kind_of, own_kind
from edgekit_device.contract.reported import Reported
from edgekit_device.publish.wishes import Wishes


@pytest.mark.parametrize(
    ("model", "machine", "kind"),
    [
        ("Raspberry Pi 5 Model B Rev 1.0\0", "aarch64", "pi5"),
        ("Raspberry Pi 4 Model B Rev 1.4", "armv7l", "pi4"),
        ("Raspberry Pi 3 Model B Plus Rev 1.3", "aarch64", "pi3"),
        ("Raspberry Pi Zero 2 W Rev 1.0", "aarch64", "pi-zero2"),
        ("Raspberry Pi Zero W Rev 1.1", "armv6l", "pi-zero"),
        ("Raspberry Pi Compute Module 4 Rev 1.1", "aarch64", "cm4"),
        ("", "x86_64", "x86-64"),
        ("Some Board", "aarch64", "arm64"),
        ("", "riscv 64", "riscv-64"),
        ("", "", "unknown"),
    ],
)
def test_hardware_has_a_short_name(model: str, machine: str, kind: str) -> None:
    assert kind_of(model, machine) == kind


def test_what_a_board_reports_names_its_kind() -> None:
    said = Wishes(30.0).reported("9f" * 16, None, None, None)
    assert Reported.from_bytes(said.to_bytes()).kind == own_kind()

"""What Home Assistant shows of a board: its own template language, given real Readings and statuses."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from edgekit_device.contract.telemetry import Reading, Status
from edgekit_device.contract.topics import STATUS, TELEMETRY, topic
from edgekit_device.publish.home_assistant import FRESH_S, discovery

_spec = importlib.util.spec_from_file_location("edgekit_ha_readings", Path(__file__).parent / "readings.py")
assert _spec
assert _spec.loader
readings = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(readings)
NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
DOCUMENT = json.loads(discovery("home", "porch", "0.1.0").payload)


@pytest.fixture
def render() -> Any:
    """Render one template as Home Assistant does for MQTT: sandboxed, with `value_json`, `this` and its functions."""
    environment = ImmutableSandboxedEnvironment()
    environment.globals |= {"now": lambda: NOW, "as_datetime": datetime.fromisoformat}

    def run(template: str, payload: bytes, before: str | None = None) -> str:
        this = {} if before is None else {"this": SimpleNamespace(state=before)}
        return str(environment.from_string(template).render(value_json=json.loads(payload), **this))

    return run


def shown(render: Any, reading: Reading, before: str | None = None) -> dict[str, str]:
    """What each sensor reads after a Reading."""
    found = {}
    for key, part in DOCUMENT["components"].items():
        if part["state_topic"] == topic("home", "porch", TELEMETRY):
            found[key] = render(part["value_template"], reading.to_bytes(), before)
    return found


def made(age_s: float, **more: Any) -> Reading:
    return replace(readings.reading(7, at_s=(NOW - timedelta(seconds=age_s)).timestamp()), **more)


def test_a_fresh_reading_is_shown_in_every_sensor(render) -> None:
    reading = made(1)
    assert shown(render, reading) == {
        "fps": str(reading.fps),
        "label": reading.label,
        "latency_p50": str(reading.latency_ms["end_to_end"]["p50"]),
        "temperature": str(reading.cpu_temp_c),
    }


def test_what_is_unknown_reads_none_which_home_assistant_shows_as_unknown(render) -> None:
    unknown = {step: dict.fromkeys(("p50", "p95", "p99")) for step in ("preprocess", "invoke", "end_to_end")}
    reading = made(1, label=None, score=None, cpu_temp_c=None, fps=0.0, latency_ms=unknown)
    assert shown(render, reading) == {"fps": "0.0", "label": "None", "latency_p50": "None", "temperature": "None"}


def test_a_late_reading_keeps_what_was_shown(render) -> None:
    late = made(FRESH_S + 1)
    assert set(shown(render, late, before="25.1").values()) == {"25.1"}
    assert set(shown(render, late, before="unavailable").values()) == {"None"}
    assert set(shown(render, late).values()) == {"None"}
    assert shown(render, made(FRESH_S - 1), before="25.1")["fps"] != "25.1"
    assert shown(render, replace(late, clock="corrected"), before="25.1")["fps"] == "25.1"


def test_a_board_without_the_time_is_shown_all_the_same(render) -> None:
    for clock in ("unsynced", "unknown"):
        assert shown(render, made(86_400 * 400, clock=clock), before="1.0")["fps"] == str(made(0).fps)


@pytest.mark.parametrize(
    ("state", "reason", "there", "connected", "trouble"),
    [
        ("online", None, "online", "ON", "OFF"),
        ("online", "camera_missing", "online", "ON", "ON"),
        ("stopped", None, "offline", "OFF", "OFF"),
        ("offline", "connection_lost", "offline", "OFF", "ON"),
    ],
)
def test_statuses_say_connectivity_and_trouble(render, state, reason, there, connected, trouble) -> None:
    payload = Status(state, readings.BOOT, "lite0-1.0.0", "xnnpack", reason).to_bytes()
    parts = DOCUMENT["components"]
    assert parts["connectivity"]["state_topic"] == parts["problem"]["state_topic"] == topic("home", "porch", STATUS)
    assert render(parts["connectivity"]["value_template"], payload) == connected
    assert render(parts["problem"]["value_template"], payload) == trouble
    assert {render(p["availability_template"], payload) for p in parts.values() if "availability_template" in p} == {
        there
    }
    assert "availability_template" not in parts["connectivity"]

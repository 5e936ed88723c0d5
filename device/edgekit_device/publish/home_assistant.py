"""What Home Assistant needs to know to show a board: one retained document (device discovery, 2024.11 and later).

Pure: the board publishes it with `--home-assistant`, the collector may do it for a whole fleet.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from edgekit_device.contract.topics import STATUS, TELEMETRY, topic

PREFIX = "homeassistant"
ORIGIN = "EdgeKit"
# A Reading older than this was sent late, from the outbox: it is history, and must not pass for the present.
FRESH_S = 150


class Discovery(NamedTuple):
    """One retained message, and where Home Assistant says that it has started.

    Attributes:
        topic: Where the document goes.
        payload: JSON; empty takes the device away.
        birth_topic: Home Assistant says ``online`` there; the document is then sent again.
    """

    topic: str
    payload: bytes
    birth_topic: str


class UpdateTopics(NamedTuple):
    """Where a host tells of updates, and hears the button; no board speaks or listens there.

    Attributes:
        state: Retained JSON: installed_version, latest_version, release_summary, in_progress, update_percentage.
        command: ``install`` comes there.
    """

    state: str
    command: str


INSTALL = "install"


def update_topics(site: str, device: str) -> UpdateTopics:
    """Of one board; ``+`` stands for every site or device."""
    base = f"edgekit/home-assistant/{site}/{device}"
    return UpdateTopics(f"{base}/update", f"{base}/{INSTALL}")


def discovery(site: str, device: str, version: str, prefix: str = PREFIX, *, updates: bool = False) -> Discovery:
    """Announce one board with FPS, latency, label, temperature, connectivity and problem.

    Args:
        site: Id of the site.
        device: Id of the board.
        version: Of the software on the board, or of the collector that announces it.
        prefix: Home Assistant's discovery prefix.
        updates: Show an update entity as well: only a host can, which knows what is published.
    """
    # No id holds an underscore, so two boards never share a name.
    name = f"edgekit_{site}_{device}"
    status, telemetry = topic(site, device, STATUS), topic(site, device, TELEMETRY)
    there = {
        "availability_topic": status,
        "availability_template": "{{ 'online' if value_json.state == 'online' else 'offline' }}",
    }

    def part(key: str, title: str, **more: Any) -> dict[str, Any]:
        return {"unique_id": f"{name}_{key}", "name": title, **more}

    def sensor(key: str, title: str, value: str, **more: Any) -> dict[str, Any]:
        stale = f"{FRESH_S} if value_json.clock in ('synced', 'corrected') else 1e9"
        fresh = f"(now() - as_datetime(value_json.at)).total_seconds() < ({stale})"
        kept = "this.state if this is defined and this.state not in ('unknown', 'unavailable') else None"
        found = part(key, title, platform="sensor", state_topic=telemetry)
        return {**found, "value_template": f"{{{{ {value} if {fresh} else ({kept}) }}}}", **there, **more}

    components = {
        "fps": sensor(
            "fps", "FPS", "value_json.fps", unit_of_measurement="FPS", state_class="measurement", icon="mdi:speedometer"
        ),
        "latency_p50": sensor(
            "latency_p50",
            "Latency p50",
            "value_json.latency_ms.end_to_end.p50",
            device_class="duration",
            unit_of_measurement="ms",
            state_class="measurement",
        ),
        "label": sensor("label", "Label", "value_json.label", icon="mdi:tag"),
        "temperature": sensor(
            "temperature",
            "Temperature",
            "value_json.cpu_temp_c",
            device_class="temperature",
            unit_of_measurement="°C",
            state_class="measurement",
            entity_category="diagnostic",
        ),
        # Without availability: a board that is away reads "disconnected", not "unavailable".
        "connectivity": part(
            "connectivity",
            "Connectivity",
            platform="binary_sensor",
            device_class="connectivity",
            entity_category="diagnostic",
            state_topic=status,
            value_template="{{ 'ON' if value_json.state == 'online' else 'OFF' }}",
        ),
        "problem": {
            **part(
                "problem",
                "Problem",
                platform="binary_sensor",
                device_class="problem",
                state_topic=status,
                json_attributes_topic=status,
                value_template="{{ 'ON' if value_json.reason else 'OFF' }}",
            ),
            **there,
        },
    }
    if updates:
        topics = update_topics(site, device)
        components["update"] = {
            **part("update", "Model", platform="update", device_class="firmware"),
            "state_topic": topics.state,
            "command_topic": topics.command,
            "payload_install": INSTALL,
            "qos": 1,
            **there,
        }
    document = {
        "device": {
            "identifiers": [name],
            "name": device,
            "manufacturer": ORIGIN,
            "model": "EdgeKit board",
            "suggested_area": site,
            "sw_version": version,
        },
        "origin": {"name": ORIGIN, "sw_version": version},
        "components": components,
        "qos": 1,
    }
    payload = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    return Discovery(f"{prefix}/device/{name}/config", payload, f"{prefix}/status")


def removal(site: str, device: str, prefix: str = PREFIX) -> Discovery:
    """Take a board away from Home Assistant."""
    return discovery(site, device, "", prefix)._replace(payload=b"")

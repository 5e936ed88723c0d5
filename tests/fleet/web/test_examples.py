"""What the guide shows works: the example fleet.toml, the Prometheus rules and the Grafana dashboard."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from edgekit.fleet.alerts_rules import KINDS, Rules, read_alerts
from edgekit.fleet.web.board_now import BoardNow
from edgekit.fleet.web.metrics import metrics
from edgekit.fleet.web.wall import Picture

GUIDE = Path(__file__).resolve().parents[3] / "docs" / "guide"


def names() -> set[str]:
    board = BoardNow("home", "a", 1, "online", received_ms=0, fps=1.0, p50_ms=1.0, p95_ms=1.0, temp_c=1.0)
    board = replace(board, capture_fps=1.0, disk_free_bytes=1, rss_bytes=1)
    text = metrics(Picture(1, {board.key: board}, 0), {}, {("hot", "warning"): 1})
    return {line.split("{")[0].split(" ")[0] for line in text.splitlines() if not line.startswith("#")}


@pytest.mark.parametrize("file", ["prometheus-alerts.yml", "grafana.json"])
def test_rules_and_panels_ask_for_metrics_that_there_are(file: str) -> None:
    text = (GUIDE / "examples" / file).read_text()
    asked = set(re.findall(r"\bedgekit_[a-z0-9_]+", text))
    assert len(asked) > 5
    assert asked <= names()
    if file.endswith(".json"):
        assert json.loads(text)["uid"] == "edgekit-fleet"


def test_the_guides_fleet_toml_loads_and_states_the_defaults(tmp_path: Path) -> None:
    text = (GUIDE / "dashboard.md").read_text()
    example = re.search(r"```toml\n(.*?)```", text, re.DOTALL)
    assert example is not None
    file = tmp_path / "fleet.toml"
    file.write_text(example.group(1))
    rules, outlets = read_alerts(file)
    assert rules == Rules()
    assert outlets.webhooks == ("env:FLEET_WEBHOOK",)
    assert outlets.smtp_password_file == "/etc/edgekit/smtp"


def test_the_guide_names_every_kind_of_alert() -> None:
    text = (GUIDE / "dashboard.md").read_text()
    assert all(f"| `{kind}` |" in text for kind in KINDS)

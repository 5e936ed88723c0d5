"""Alerts through Apprise itself, to a real server on this machine."""

from __future__ import annotations

import http.server
import json
import logging
from typing import Any

import pytest

from edgekit.errors import UsageError
from edgekit.fleet.alerts_rules import Outlets
from edgekit.fleet.alerts_sending import ways
from tests.conftest import require
from tests.fleet.web.test_alerts import MESSAGE, serving

# One of its plug-ins uses a module that a later Python will not have; that is not ours to mend.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def test_apprise_delivers_an_alert_and_a_service_that_refuses_is_an_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    require("apprise", "pip install apprise")
    got: list[Any] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(500 if self.path.startswith("/refuses") else 200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *words: Any) -> None:
            pass

    with serving(Handler) as port:
        monkeypatch.setenv("FLEET_JSON", f"json://127.0.0.1:{port}/hook?token=tulips")
        (way,) = [way for way in ways(Outlets(apprise=("env:FLEET_JSON",))) if way.name == "Apprise"]
        way.send(MESSAGE)
        assert "90 °C" in got[0]["message"] + got[0]["title"]
        refusing = ways(Outlets(apprise=(f"json://127.0.0.1:{port}/refuses",)))[0]
        with caplog.at_level(logging.CRITICAL), pytest.raises(OSError, match="could not send"):
            refusing.send(MESSAGE)


def test_an_address_that_apprise_does_not_know_is_said_before_anything_starts() -> None:
    require("apprise", "pip install apprise")
    with pytest.raises(UsageError, match="apprise"):
        ways(Outlets(apprise=("nonsense://x",)))

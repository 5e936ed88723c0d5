"""E4: foreign hosts and origins, forged forms, sessions, and streams that end with them."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from tools.results import ROOT


def run(arguments: Sequence[str]) -> dict[str, Any]:
    """The promises of tests/fleet/web/test_door.py are the gate: each tries every route."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "tests/fleet/web/test_door.py", "-o", "addopts=", "--import-mode=importlib"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    counted = re.search(r"\d+ passed[^=]*", done.stdout)
    passed = counted.group().strip() if counted else "none passed"
    return {
        "gate": "E4",
        "passed": done.returncode == 0,
        "figure": f"foreign Host, Origin, CSRF, session, cookie, logout, login limit: {passed}",
        "detail": "" if done.returncode == 0 else done.stdout[-2000:],
    }

"""D4: nothing that arrives as a file may run code, and no code of ours may open that door."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from tools.results import ROOT

# bandit: pickle family, unsafe YAML, shell=True, extractall, eval, exec, insecure temp files.
_RULES = "B301,B302,B303,B306,B307,B102,B202,B403,B506,B602,B604,B605,B614"


def run(arguments: Sequence[str]) -> dict[str, Any]:
    """Run the canaries and the code scan."""
    canaries = subprocess.run(
        [sys.executable, "-m", "pytest", "tests/zoo/test_pickles.py", "-o", "addopts="],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    scan = subprocess.run(
        [sys.executable, "-m", "bandit", "-q", "-r", "edgekit", "device/edgekit_device", "-t", _RULES, "-f", "json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    findings = json.loads(scan.stdout)["results"]
    counted = re.search(r"\d+ passed", canaries.stdout)
    last = counted.group() if counted else canaries.stdout.strip()[-200:]
    detail = "\n".join(f"- {f['filename']}:{f['line_number']} {f['test_id']} {f['issue_text']}" for f in findings)
    return {
        "gate": "D4",
        "passed": canaries.returncode == 0 and not findings,
        "figure": f"canaries: {last}; bandit: {len(findings)} findings",
        "detail": detail,
    }

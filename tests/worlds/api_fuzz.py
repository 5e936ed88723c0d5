"""E7: schemathesis against a running dashboard, logged in and not."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.worlds.dashboards import Shown

# Sent with each request of the fuzzer; what it makes up beside them is refused or understood.
_CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
    "response_schema_conformance",
)  # fmt: skip


@dataclass(frozen=True)
class Fuzzed:
    """What came of it.

    Attributes:
        passed: Whether no check failed.
        requests: How many were sent.
        said: The end of the report.
    """

    passed: bool
    requests: int
    said: str


def fuzz(
    world: Shown, examples: int, login: bool = True, phases: str = "fuzzing", seed: int = 12, limit_s: float = 600.0
) -> Fuzzed:
    """Run schemathesis on the dashboard's own description; without a login no answer of it is allowed but a refusal."""
    owner = world.owner()
    document = owner.get("/openapi.json").json()
    if not login:
        for operations in document["paths"].values():
            for operation in operations.values():
                operation["responses"] = {code: {"description": "refused"} for code in ("401", "403")}
    with tempfile.TemporaryDirectory(prefix="edgekit-api-") as folder:
        described = Path(folder) / "openapi.json"
        described.write_text(json.dumps(document), encoding="utf-8")
        return _run(world, owner, described, examples, login, phases, seed, limit_s)


def _run(
    world: Shown,
    owner: httpx.Client,
    described: Path,
    examples: int,
    login: bool,
    phases: str,
    seed: int,
    limit_s: float,
) -> Fuzzed:
    words = [
        sys.executable, "-m", "schemathesis.cli", "run", str(described), "--url", world.origin,
        "--max-examples", str(examples),
        "--checks", ",".join(_CHECKS), "--seed", str(seed), "--phases", phases, "--no-color",
        "--suppress-health-check", "all", "--generation-database", "none", "--continue-on-failure",
    ]  # fmt: skip
    cookie = world.dashboard.context.keeper.door.cookie
    headers = {"Origin": world.origin}
    if login:
        headers |= {"Cookie": f"{cookie}={owner.cookies[cookie]}", "X-CSRF-Token": world.csrf(owner)}
    for name, value in headers.items():
        words += ["-H", f"{name}: {value}"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=limit_s, check=False)
    counted = re.search(r"(\d+) generated", done.stdout)
    return Fuzzed(
        done.returncode == 0, int(counted.group(1)) if counted else 0, done.stdout[-6000:] + done.stderr[-2000:]
    )

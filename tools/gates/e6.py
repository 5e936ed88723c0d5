"""E6: a fresh fleet seen from another network namespace, and its secrets looked for where they must not be."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.worlds.trusted_fleet import trusted_fleet
from tools.gates import trust_page
from tools.results import ROOT

HERE, THERE, MASK = "10.203.117.1", "10.203.117.2", "30"
# Runs in the other namespace: which of all ports accept a connection, and what is wrong with each.
_SCAN = """
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tests.worlds.secrecy import scan
host, authority = sys.argv[1], Path(sys.argv[2])
def is_open(port):
    with socket.socket() as probe:
        probe.settimeout(2)
        return port if probe.connect_ex((host, port)) == 0 else 0
with ThreadPoolExecutor(64) as pool:
    found = [port for port in pool.map(is_open, range(1, 65536)) if port]
print(json.dumps({str(port): scan(host, port, authority) for port in found}))
"""


def run(arguments: Sequence[str]) -> dict[str, Any]:
    """Scan from a second namespace (root only), and run the canary test."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.parse_args(arguments)
    before = os.environ.get("EDGEKIT_CONFIG_HOME")
    found, problem, wanted = None, "", set()
    if os.geteuid() != 0 or not shutil.which("ip"):
        problem = "needs root and iproute2 for a second network namespace"
    else:
        try:
            with tempfile.TemporaryDirectory() as folder, second_namespace() as name:
                with trusted_fleet(Path(folder), hosts=(HERE,), listen=HERE) as world:
                    wanted = {world.fleet.settings.port, world.fleet.settings.enroll_port}
                    words = [
                        "ip",
                        "netns",
                        "exec",
                        name,
                        sys.executable,
                        "-c",
                        _SCAN,
                        HERE,
                        str(world.fleet.authority_file),
                    ]
                    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
                    found = {int(port): wrong for port, wrong in json.loads(done.stdout).items()}
        except subprocess.CalledProcessError as error:
            problem = f"no second namespace here: {str(error.stderr)[-200:]}"
    assert os.environ.get("EDGEKIT_CONFIG_HOME") == before
    words = [sys.executable, "-m", "pytest", "tests/trust/test_secrets.py", "device/tests/test_identity.py"]
    canaries = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    ours = {port: wrong for port, wrong in (found or {}).items() if port in wanted}
    others = sorted(set(found or {}) - wanted)
    bad = [text for wrong in ours.values() for text in wrong]
    seen = (
        f"**not run: {problem}**"
        if found is None
        else f"{len(ours)} open ports of the fleet's, {len(bad)} without TLS or without asking who is there"
    )
    passed = canaries.returncode == 0 and found is not None and set(ours) == wanted and not bad
    last = (canaries.stdout.strip().splitlines() or ["?"])[-1]
    figure = f"from a second namespace: {seen}; canaries and identity tests: {last}"
    lines = [
        "A fresh fleet, every one of 65,535 ports tried from another network namespace; what answers is tried in",
        "clear, with TLS 1.1 and without an account. Passwords, keys, passphrase and token are looked for in",
        "arguments, environments, output, logs and errors of every verb of both sides.",
        "",
        f"**{figure}.**",
        *([f"Ports of other programs of this machine that were open there: {len(others)}."] if others else []),
    ]
    trust_page.add("E6", "E6: open ports and secrets", lines)
    return {"gate": "E6", "passed": passed, "figure": figure, "detail": "" if passed else canaries.stdout[-1500:]}


@contextmanager
def second_namespace() -> Iterator[str]:
    """A namespace joined to this one by a pair of interfaces; both are gone afterwards."""
    name, near, far = f"edgekit{os.getpid()}", f"ekn{os.getpid() % 100000}", f"ekf{os.getpid() % 100000}"

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True, text=True)

    ip("netns", "add", name)
    try:
        ip("link", "add", near, "type", "veth", "peer", "name", far, "netns", name)
        ip("addr", "add", f"{HERE}/{MASK}", "dev", near)
        ip("link", "set", near, "up")
        ip("-n", name, "addr", "add", f"{THERE}/{MASK}", "dev", far)
        ip("-n", name, "link", "set", far, "up")
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], capture_output=True)

"""`edgekit devices`: boards that say by mDNS that they are there; a real announcement on loopback."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgekit.cli import main
from edgekit.flashing.announcement import service_text
from edgekit.flashing.discovery import find_boards
from tests.conftest import require
from tests.worlds.boards import eventually

require("zeroconf", "pip install 'edgekit[flash]'")
LOOPBACK = "127.0.0.1"


@contextmanager
def announced(text: dict[str, str], *, server: str = "porch.local.", port: int = 22) -> Iterator[None]:
    from zeroconf import ServiceInfo, Zeroconf

    network = Zeroconf(interfaces=[LOOPBACK])
    name = f"EdgeKit {server.split('.')[0]}._edgekit._tcp.local."
    info = ServiceInfo(
        "_edgekit._tcp.local.", name, addresses=[socket.inet_aton(LOOPBACK)], port=port, properties=text, server=server
    )
    try:
        network.register_service(info)
        yield
    finally:
        network.close()


def test_a_board_that_announces_itself_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    with announced({"schema": "1", "site": "home", "id": "porch"}, port=2222):
        assert main(["devices", "--seconds", "4", "--interface", LOOPBACK, "--json"]) == 0
    (row,) = [r for r in json.loads(capsys.readouterr().out)["boards"] if r["host"] == "porch.local"]
    assert (row["id"], row["site"], row["target"]) == ("porch", "home", "ssh://porch.local:2222")


def test_what_a_stranger_says_is_no_id_and_reaches_no_terminal() -> None:
    with announced({"site": "home\x1b[2J", "id": "../../etc"}, server="shed.local."):
        found = [board for board in find_boards(4.0, [LOOPBACK]) if board.host == "shed.local"]
    assert [(board.site, board.device) for board in found] == [("", "")]


def test_no_board_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["devices", "--seconds", "0.2", "--interface", LOOPBACK]) == 0
    assert "no board answered" in capsys.readouterr().out


@contextmanager
def avahi(place: Path, text: str) -> Iterator[str]:
    """Debian's Avahi behind a wire of its own, with one file in its folder. Yields this machine's address there."""
    near, far, wire = "198.18.130.1", "198.18.130.2", "ekavahi"
    (place / "services").mkdir()
    (place / "services/edgekit.service").write_text(text)
    options = "host-name=porch\nuse-ipv4=yes\nuse-ipv6=no\nenable-dbus=no\nallow-interfaces=eth0\n"
    (place / "avahi.conf").write_text(f"[server]\n{options}")
    script = f"mount --bind {place}/services /etc/avahi/services && mkdir -p /run/avahi-daemon && "
    script += "mount -t tmpfs tmpfs /run/avahi-daemon && "
    script += f"exec avahi-daemon -f {place}/avahi.conf --no-drop-root --no-rlimits --no-chroot --no-proc-title"
    daemon = None
    try:
        for line in (
            f"netns add {wire}",
            f"link add {wire} type veth peer name eth0 netns {wire}",
            f"addr add {near}/30 dev {wire}",
            f"link set {wire} up",
            f"-n {wire} addr add {far}/30 dev eth0",
            f"-n {wire} link set eth0 up",
        ):
            subprocess.run(["ip", *line.split()], check=True)
        with (place / "avahi.log").open("wb") as log:
            words = ["ip", "netns", "exec", wire, "unshare", "-m", "sh", "-c", script]
            daemon = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        assert eventually(lambda: b"successfully established" in (place / "avahi.log").read_bytes(), 60)
        yield near
    finally:
        if daemon is not None:
            daemon.kill()
            daemon.wait(20)
        subprocess.run(["ip", "netns", "del", wire], check=False)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a network namespace")
def test_debians_own_avahi_announces_what_flash_writes(tmp_path: Path, require_tool: Callable[[str, str], str]) -> None:
    require_tool("avahi-daemon", "apt install avahi-daemon")
    with avahi(tmp_path, service_text("home", "porch", 2222)) as near:
        until = time.monotonic() + 60
        while not (found := find_boards(3.0, [near])) and time.monotonic() < until:
            pass
    (board,) = found
    assert (board.site, board.device, board.host, board.port) == ("home", "porch", "porch.local", 2222)


def test_the_file_for_avahi_says_what_the_host_reads() -> None:
    tree = ElementTree.fromstring(service_text("home", "porch", 2222))
    assert tree.findtext("service/type") == "_edgekit._tcp"
    assert tree.findtext("service/port") == "2222"
    assert {e.text for e in tree.findall("service/txt-record")} == {"schema=1", "site=home", "id=porch"}

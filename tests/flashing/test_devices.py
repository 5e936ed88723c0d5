"""`edgekit devices`: boards that say by mDNS that they are there; a real announcement on loopback."""

from __future__ import annotations

import json
import socket
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from edgekit.cli import main
from edgekit.flashing.announcement import service_text
from edgekit.flashing.discovery import find_boards
from tests.conftest import require

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


def test_the_file_for_avahi_says_what_the_host_reads() -> None:
    tree = ElementTree.fromstring(service_text("home", "porch", 2222))
    assert tree.findtext("service/type") == "_edgekit._tcp"
    assert tree.findtext("service/port") == "2222"
    assert {e.text for e in tree.findall("service/txt-record")} == {"schema=1", "site=home", "id=porch"}

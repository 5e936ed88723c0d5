"""The preview page, asked by real HTTP clients: who may look, what it shows, and that it makes nothing wait."""

from __future__ import annotations

import http.client
import json
import re
import socket
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgekit_device.contract.errors import UsageError
from edgekit_device.preview import MOST_STREAMS, Preview
from edgekit_device.preview_address import TOKEN_VARIABLE, PreviewAddress, preview_address
from edgekit_device.preview_picture import Caption, draw
from edgekit_device.preview_studio import PICTURES_PER_S
from edgekit_device.sources.frame import Frame

sys.path.insert(0, str(Path(__file__).parent))
import runs

RED = (220, 20, 20)
LOOPBACK = PreviewAddress("127.0.0.1", 0, None)
EXPOSED = PreviewAddress("0.0.0.0", 0, "s3cret-token")


def red_frame(number: int = 0, size: tuple[int, int] = (480, 640)) -> Frame:
    return Frame(np.full((*size, 3), RED, np.uint8), "RGB", time.monotonic(), number)


class Camera(threading.Thread):
    """Serves frames to a preview at a steady rate."""

    def __init__(self, preview: Preview, fps: float = 50.0) -> None:
        super().__init__(daemon=True)
        self.preview, self.pace_s = preview, 1 / fps
        self.stopping = threading.Event()

    def run(self) -> None:
        number = 0
        while not self.stopping.wait(self.pace_s):
            self.preview.studio.show(red_frame(number), "tabby", 0.83)
            number += 1


@pytest.fixture
def serving() -> Iterator[Any]:
    """Make a preview that is being served frames."""
    made: list[tuple[Preview, Camera]] = []

    def make(address: PreviewAddress = LOOPBACK, trouble: str | None = None) -> Preview:
        preview = Preview(address, lambda: trouble)
        preview.start()
        camera = Camera(preview)
        camera.start()
        made.append((preview, camera))
        return preview

    yield make
    for preview, camera in made:
        camera.stopping.set()
        camera.join()
        preview.close()


def get(preview: Preview, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", preview.port, timeout=10)
    given = {"Host": f"127.0.0.1:{preview.port}", **{k.replace("_", "-"): v for k, v in headers.items()}}
    connection.putrequest("GET", path, skip_host=True)
    for name, value in given.items():
        if value:
            connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, {k.lower(): v for k, v in answer.getheaders()}, body


def open_stream(preview: Preview, path: str = "/stream.mjpg") -> socket.socket:
    client = socket.create_connection(("127.0.0.1", preview.port), timeout=10)
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost:{preview.port}\r\n\r\n".encode())
    return client


def read_pictures(client: socket.socket, count: int) -> list[np.ndarray]:
    data = b""
    pictures: list[np.ndarray] = []
    while len(pictures) < count:
        data += client.recv(65536)
        while (match := re.search(rb"Content-Length: (\d+)\r\n\r\n", data)) and len(data) - match.end() >= int(
            match[1]
        ):
            jpeg, data = data[match.end() : match.end() + int(match[1])], data[match.end() + int(match[1]) :]
            pictures.append(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR))
    return pictures


# -- what it shows -------------------------------------------------------------------------------------------


def test_a_snapshot_shows_the_picture_in_its_colours_with_a_caption(serving: Any) -> None:
    status, headers, body = get(serving(), "/snapshot.jpg")
    assert (status, headers["content-type"], headers["cache-control"]) == (200, "image/jpeg", "no-store")
    image = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR)
    assert image.shape == (394, 480, 3)
    assert np.abs(image[100, 100].astype(int) - RED[::-1]).max() < 12
    assert (image[365:, :200] > 150).any(), "no label in the bar"


def test_a_stream_goes_on_at_its_own_rate(serving: Any) -> None:
    client = open_stream(serving())
    read_pictures(client, 1)
    began = time.monotonic()
    read_pictures(client, 5)
    assert 5 / (time.monotonic() - began) <= PICTURES_PER_S * 1.3
    client.close()


def test_the_page_asks_nobody_else_and_runs_no_script(serving: Any) -> None:
    status, headers, body = get(serving(), "/")
    page = body.decode()
    assert status == 200
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "src='stream.mjpg'" in page
    assert "http" not in page
    assert "<script" not in page


def test_a_trouble_is_drawn_instead_of_a_stale_label() -> None:
    calm = draw(red_frame().raw, "RGB", Caption("tabby", 0.83, 29.9))
    broken = draw(red_frame().raw, "RGB", Caption("tabby", 0.83, 29.9, "camera_frozen"))
    assert calm != broken
    assert Caption("tabby", 0.83, None, "camera_frozen").left == "camera_frozen"
    assert draw(None, "BGR", Caption()).startswith(b"\xff\xd8")
    assert draw(np.zeros((0, 640, 3), np.uint8), "BGR", Caption()).startswith(b"\xff\xd8")
    assert draw(np.zeros((48, 64, 1), np.uint8), "GRAY", Caption("äöü" * 200, 1.0, 5.0)).startswith(b"\xff\xd8")


def test_drawing_leaves_the_frame_as_it_was() -> None:
    frame = red_frame(size=(240, 320))
    before = frame.raw.copy()
    draw(frame.raw, "BGR", Caption("tabby", 0.5, 1.0))
    assert np.array_equal(frame.raw, before)


# -- who may look --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "[evil]", "", "board.local", "192.168.1.7"]
)
def test_a_rebound_name_is_refused_on_loopback(serving: Any, host: str) -> None:
    preview = serving()
    for path in ("/", "/snapshot.jpg", "/stream.mjpg"):
        status, _, body = get(preview, path, Host=host)
        assert status == 403
        assert not body.startswith(b"\xff\xd8")


def test_loopback_has_names(serving: Any) -> None:
    preview = serving()
    assert [get(preview, "/", Host=f"{h}:{preview.port}")[0] for h in ("localhost", "127.0.0.1", "[::1]")] == [200] * 3


def test_beyond_loopback_the_token_is_needed_everywhere(serving: Any) -> None:
    preview = serving(EXPOSED)
    for path in ("/", "/snapshot.jpg", "/stream.mjpg", "/nowhere"):
        assert get(preview, path)[0] == 401
        assert get(preview, f"{path}?token=wrong")[0] == 401
        assert get(preview, f"{path}?token=s3cret-toke%C3%A9")[0] == 401
    assert get(preview, "/snapshot.jpg?token=s3cret-token")[0] == 200
    assert b"stream.mjpg?token=s3cret-token" in get(preview, "/?token=s3cret-token")[2]


def test_beyond_loopback_a_rebound_name_is_still_refused_and_the_own_ones_are_not(serving: Any) -> None:
    preview = serving(EXPOSED)
    assert get(preview, "/?token=s3cret-token", Host="evil.example")[0] == 403
    own = socket.gethostname()
    for host in (own, f"{own}:{preview.port}", "192.168.1.7:8088", "[fe80::1]:8088"):
        assert get(preview, "/?token=s3cret-token", Host=host)[0] == 200


def test_another_sites_page_gets_no_picture(serving: Any) -> None:
    preview = serving()
    assert get(preview, "/snapshot.jpg", Sec_Fetch_Site="cross-site", Sec_Fetch_Dest="image")[0] == 403
    assert get(preview, "/", Sec_Fetch_Site="cross-site", Sec_Fetch_Dest="document")[0] == 200


def test_addresses_are_read_and_exposed_ones_get_a_token() -> None:
    assert preview_address("127.0.0.1:8088", {}) == PreviewAddress("127.0.0.1", 8088, None)
    assert preview_address(":8088", {}).is_loopback
    assert preview_address("[::1]:8088", {}).url == "http://[::1]:8088/"
    one, other = (preview_address("0.0.0.0:8088", {}) for _ in range(2))
    assert one.token is not None
    assert len(one.token) >= 20
    assert one.token != other.token
    assert preview_address("0.0.0.0:8088", {TOKEN_VARIABLE: "mine"}).url.endswith(":8088/?token=mine")


@pytest.mark.parametrize(
    "text", ["", "8088x", "example.org:80", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:70000", "a b:1"]
)
def test_a_wrong_address_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match=r"write 127\.0\.0\.1:8088"):
        preview_address(text, {})


# -- what it costs -------------------------------------------------------------------------------------------


def test_nothing_is_encoded_or_kept_while_nobody_looks(serving: Any) -> None:
    preview = serving()
    time.sleep(0.6)
    assert preview.studio.encoded == 0
    get(preview, "/snapshot.jpg")
    time.sleep(0.4)
    after = preview.studio.encoded
    time.sleep(0.8)
    assert preview.studio.encoded == after
    assert preview.studio._shown is None


def test_many_lookers_cost_one_encoding(serving: Any) -> None:
    preview = serving()
    clients = [open_stream(preview) for _ in range(MOST_STREAMS)]
    for client in clients:
        read_pictures(client, 1)
    encoded, began = preview.studio.encoded, time.monotonic()
    time.sleep(1.5)
    assert preview.studio.encoded - encoded <= PICTURES_PER_S * (time.monotonic() - began) + 1
    assert get(preview, "/stream.mjpg")[0] == 503
    clients.pop().close()
    until = time.monotonic() + 10
    while (status := get_stream_status(preview)) != 200 and time.monotonic() < until:
        time.sleep(0.2)
    assert status == 200, "a looker who left keeps a place"
    for client in clients:
        client.close()


def get_stream_status(preview: Preview) -> int:
    client = open_stream(preview)
    status = int(client.recv(64).split()[1])
    client.close()
    return status


def test_one_who_never_reads_makes_nobody_wait(serving: Any) -> None:
    preview = serving()
    lazy = open_stream(preview)
    lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    brisk = open_stream(preview)
    assert len(read_pictures(brisk, 8)) == 8
    began = time.monotonic()
    for number in range(1000):
        preview.studio.show(red_frame(number, (8, 8)), "tabby", 0.8)
    assert time.monotonic() - began < 1.0
    lazy.close()
    brisk.close()


def test_silent_connections_are_limited_and_do_not_keep_others_out_for_long(serving: Any) -> None:
    preview = serving()
    idle = [socket.create_connection(("127.0.0.1", preview.port)) for _ in range(40)]
    time.sleep(6.0)
    assert get(preview, "/")[0] == 200
    for client in idle:
        client.close()


def test_garbage_is_answered_or_dropped_and_the_page_lives(serving: Any) -> None:
    preview = serving()
    for junk in (
        b"\x00" * 300 + b"\r\n\r\n",
        b"GET " + b"a" * 70000 + b" HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\n\r\n",
    ):
        client = socket.create_connection(("127.0.0.1", preview.port), timeout=10)
        client.sendall(junk)
        client.recv(1024)
        client.close()
    assert get(preview, "/")[0] == 200


# -- in a real run -------------------------------------------------------------------------------------------


def test_a_run_serves_without_its_preview_while_the_port_is_taken_and_with_it_afterwards(
    workshop: Any, tmp_path: Path
) -> None:
    bundle = workshop.write(tmp_path / "toy-1.0.0.edgekit")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        words = ("--source", "synthetic", "--interval", "0.5", "--preview", f"127.0.0.1:{port}")
        process = runs.start(bundle, workshop.public, *words)
        assert process.stdout is not None
        while json.loads(process.stdout.readline())["fps"] < 5:
            pass
    until = time.monotonic() + 20
    body = b""
    while not body.startswith(b"\xff\xd8") and time.monotonic() < until:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/snapshot.jpg", timeout=5) as answer:
                body = answer.read()
        except OSError:
            time.sleep(0.2)
    done = runs.stop(process)
    assert done.code == 0
    assert body.startswith(b"\xff\xd8")
    assert f"preview at http://127.0.0.1:{port}/" in done.said
    assert done.said.count("preview_failed") == 1

"""The last part of gate F1: ten boards, each over a slow link of its own, against one."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

RATE_KBIT, PADDING_BYTES = 150, 2_000_000
"""2 MB at 150 kbit/s are 107 s: of a flash the link is by far the longest part, also on a processor that others use."""
_SLOW = "synthetic:160x120@2"
"""Ten boards share this machine's processor: what they do beside being flashed is kept small."""


def ten_boards(place: Path, count: int) -> dict[str, Any]:
    """Flash one board over a slow link, then `count` over a link each; the last of them has lost its sudo.

    Returns:
        Seconds of both, how many of the `count` were flashed, and what the bad one said.
    """
    from tests.worlds.flash_desk import Desk
    from tests.worlds.ssh_boards import make_board

    desk = Desk(_made(place / "desk"))
    pattern = make_board(_made(place / "pattern"))
    pattern.start()
    try:
        desk.one(desk.bundle("1.0.0"), pattern, source=_SLOW)
    finally:
        pattern.pull_the_plug()
    with _slow_links(count) as links:
        boards = []
        for number, (netns, address) in enumerate(links):
            spot = _made(place / f"board{number}")
            subprocess.run(["cp", "-a", str(pattern.disk), str(spot / "root")], check=True)
            config = spot / "root/etc/ssh/sshd_config"
            text = config.read_text().replace(f"Port {pattern.port}", "Port 22")
            config.write_text(text.replace("ListenAddress 127.0.0.1", f"ListenAddress {address}"))
            boards.append(replace(pattern, place=spot, port=22, address=address, netns=netns, host=None, pid=0))
        try:
            for board in boards:
                board.start()
            desk.flash(desk.bundle("1.0.0"), *boards, source=_SLOW)  # The services run again, unhurried.
            began = time.monotonic()
            (one,) = desk.flash(desk.bundle("1.1.0", data=_padded("1.1.0")), boards[0], source=_SLOW)
            one_s = time.monotonic() - began
            assert one.error is None, one.error
            # One bad board among them: its sudo is gone.
            (boards[-1].root / "etc/sudoers").write_text("root ALL=(ALL) ALL\n")
            began = time.monotonic()
            done = desk.flash(desk.bundle("1.2.0", data=_padded("1.2.0")), *boards, source=_SLOW)
            ten_s = time.monotonic() - began
        finally:
            for board in boards:
                board.pull_the_plug()
    for result in done:
        print(f"F1: {result.target.name}: {result.error or result.outcome} ({result.seconds:.0f} s)", flush=True)
    return {
        "one_s": round(one_s, 1),
        "ten_s": round(ten_s, 1),
        "boards": count,
        "flashed": sum(result.error is None for result in done),
        "bad": type(done[-1].error).__name__,
        "load": [round(value, 1) for value in os.getloadavg()],
    }


def _padded(version: str) -> bytes:
    """A toy whose bundle is as large as a small network's: the link decides, not the processor."""
    from edgekit_device.contract.archive import read_archive, write_archive
    from edgekit_device.contract.file_table import table_of
    from edgekit_device.contract.manifest import NAME, Manifest
    from tests.worlds.trial_board import Recipe, bundle_of

    entries = {
        name: bytes(data) for name, data in read_archive(bundle_of(Recipe(), version), "toy", max_entries=99).items()
    }
    manifest = Manifest.from_bytes(entries.pop(NAME))
    entries["spare.tflite"] = os.urandom(PADDING_BYTES)
    files = table_of(entries)
    manifest = replace(manifest, files=files, models={**manifest.models, "spare": "spare.tflite"})
    return write_archive({NAME: manifest.to_bytes(), **entries})


@contextmanager
def _slow_links(count: int) -> Iterator[list[tuple[str, str]]]:
    """Network namespaces, each behind a link of its own that is held to one rate. Yields (name, address)."""
    made: list[tuple[str, str]] = []
    ip: Callable[..., Any] = lambda *words: subprocess.run(["ip", *words], check=True, capture_output=True)  # noqa: E731
    try:
        for number in range(count):
            name, near, far = f"ekf1-{number}", f"ekf1h{number}", f"ekf1b{number}"
            ip("netns", "add", name)
            made.append((name, f"10.231.{number}.2"))
            ip("link", "add", near, "type", "veth", "peer", "name", far, "netns", name)
            ip("addr", "add", f"10.231.{number}.1/30", "dev", near)
            ip("link", "set", near, "up")
            for words in (
                ["addr", "add", f"10.231.{number}.2/30", "dev", far],
                ["link", "set", far, "up"],
                ["link", "set", "lo", "up"],
            ):
                ip("-n", name, *words)
            rate = ["rate", f"{RATE_KBIT}kbit", "burst", "16kb", "latency", "400ms"]
            subprocess.run(["tc", "qdisc", "add", "dev", near, "root", "tbf", *rate], check=True, capture_output=True)
        yield made
    finally:
        for name, _ in made:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder

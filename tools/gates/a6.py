"""A6, slow, endless and cut: a drip ends, an endless body leaves no byte too many, a cut link goes on."""

from __future__ import annotations

import argparse
import hashlib
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgekit_device.contract.errors import EdgeKitError
from edgekit_device.ota.parts import Parts, Wanted
from edgekit_device.ota.transport import Limits, Transport
from tests.worlds.repositories import Server, Trick
from tools.ota_page import write_section

SIZE = 3_000_000
SLACK = 64 << 10


def run(arguments: Sequence[str]) -> dict[str, Any]:
    """Play every case; `--cuts N` offsets are drawn with a fixed seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cuts", type=int, default=100)
    args = parser.parse_args(arguments)
    drawn = random.Random(6)
    data = drawn.randbytes(SIZE)
    rows, bad = ["| case | result | figure |", "|---|---|---|"], []

    def note(case: str, good: bool, figure: str) -> None:
        rows.append(f"| {case} | {'as it should' if good else '**no**'} | {figure} |")
        print(rows[-1], flush=True)
        if not good:
            bad.append(f"{case}: {figure}")

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "f").write_bytes(data)
        with Server(Path(folder)).running() as server:
            place = Place(server, Path(folder), data)
            place.drip(note)
            place.endless(note)
            place.cut(note, [drawn.randrange(1, SIZE) for _ in range(args.cuts)])
            place.ranges(note)
    figure = (
        f"{len(rows) - 2 - len(bad)} of {len(rows) - 2} cases as they should: drip, endless, {args.cuts} cuts, ranges"
    )
    write_section("Slow, endless, cut (gate A6)", "\n".join([f"{figure}.", "", *rows]))
    return {"gate": "A6", "passed": not bad, "figure": figure, "detail": "\n".join(rows)}


class Place:
    """One file on a server, and where it is fetched to."""

    def __init__(self, server: Server, folder: Path, data: bytes) -> None:
        self.server, self.data = server, data
        self.wanted = Wanted(f"{server.url}f", len(data), hashlib.sha256(data).hexdigest())
        self.parts = Parts(folder / "parts")

    def fetch(self, *tricks: Trick) -> tuple[str | None, float, int]:
        """With the limits that a board has: name of the error if there is one, seconds, bytes on the disk."""
        self.server.tricks[:] = tricks
        self.server.sent.clear()
        began = time.monotonic()
        error = None
        try:
            self.parts.fetch(self.wanted, Transport(Limits()))
        except EdgeKitError as refusal:
            error = type(refusal).__name__
        path = self.parts.path(self.wanted)
        held = path.stat().st_size if path.exists() else 0
        return error, time.monotonic() - began, held

    def drip(self, note: Any) -> None:
        """Two bytes a second, by a server that would go on for weeks."""
        half = len(self.data) // 2
        for name, tricks in (
            ("body at 2 B/s", [Trick("f", drip_s=0.5)]),
            ("headers at 2 B/s", [Trick("f", headers_drip_s=0.5, padding=400)]),
            ("half of it at once, then 2 B/s", [Trick("f", cut_at=half, times=1), Trick("f", drip_s=0.5)]),
            ("9 bytes at 2 B/s in each connection", [Trick("f", drip_s=0.5, cut_at=9)]),
        ):
            self.parts.tidy()
            error, seconds, _ = self.fetch(*tricks)
            note(name, error == "SlowRetrievalError" and seconds <= 60, f"{error} after {seconds:.0f} s (at most 60)")

    def endless(self, note: Any) -> None:
        """More bytes than were signed."""
        for name, trick in (
            ("endless, no length", Trick("f", endless=True)),
            ("endless, length of a terabyte", Trick("f", endless=True, declared=1 << 40)),
        ):
            self.parts.tidy()
            error, _, held = self.fetch(trick)
            over = held - len(self.data)
            note(name, error == "EndlessDataError" and over <= SLACK, f"{error}, {max(0, over)} bytes too many kept")

    def cut(self, note: Any, offsets: list[int]) -> None:
        """The link is cut once at each offset; bytes that the server sent, all tries together, over the file's size."""
        worst, whole = 0.0, 0
        for offset in offsets:
            self.parts.tidy()
            error, _, held = self.fetch(Trick("f", cut_at=offset, times=1))
            sent = self.server.sent.get("f", 0)
            worst = max(worst, sent / len(self.data))
            whole += error is None and held == len(self.data)
        good = whole == len(offsets) and worst <= 1.10
        note(
            f"cut at {len(offsets)} offsets",
            good,
            f"{whole} whole; bytes sent at most {worst:.3f} x size (1.10 allowed)",
        )

    def ranges(self, note: Any) -> None:
        """A proxy that answers with another range than was asked for, says so or lies, or knows no ranges."""
        for name, then, expected in (
            ("range a byte off", Trick("f", shift=1), "WrongRangeError"),
            ("range from the start, called a range", Trick("f", shift=-1000), "WrongRangeError"),
            ("another range, called the one that was asked for", Trick("f", lie=1), "PartialFileError"),
            ("no ranges: begins again", Trick("f", no_ranges=True), None),
        ):
            self.parts.tidy()
            half = len(self.data) // 2
            error, _, held = self.fetch(Trick("f", cut_at=half, times=1), then)
            if expected == "PartialFileError":
                # It comes out in the end: what was there is not the file, and nothing of it is kept or used.
                good = error in ("PartialFileError", "ForgedFileError")
            else:
                good = error == expected and (expected is not None or held == len(self.data))
            note(name, good, f"{error or 'whole'}")

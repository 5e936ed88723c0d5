"""F1: flashing. A cut link, a wrong host key, a full disk: never half, each named; ten boards over equal links."""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tools.results import ROOT

_RATE_KBIT = 150
_PADDING_BYTES = 2_000_000
_LIMIT = 2.0
_SLOW = "synthetic:160x120@2"
"""Ten boards share this machine's processor: what they do beside being flashed is kept small."""
_BLANK_SHARE = 4
"""One cut in four hits the first flash of a blank board."""


def run(arguments: Sequence[str]) -> dict[str, Any]:
    """Cut `--cuts` times (50), refuse every bad board, then `--boards` (10) at once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cuts", type=int, default=50)
    parser.add_argument("--boards", type=int, default=10)
    parser.add_argument("--only", choices=("cuts", "refusals", "ten"))
    args = parser.parse_args(arguments)
    sys.path.insert(0, str(ROOT))
    with tempfile.TemporaryDirectory(prefix="edgekit-f1-") as folder:
        place = Path(folder)
        halves, cuts = ([], []) if args.only not in (None, "cuts") else _cuts(place / "cuts", args.cuts)
        refusals = [] if args.only not in (None, "refusals") else _refusals(place / "refusals")
        ten = None if args.only not in (None, "ten") else _ten(place / "ten", args.boards)
    rows = ["| what is wrong | named | left alone |", "|---|---|---|"]
    rows += [f"| {name} | {kind} | {'yes' if left else '**no**'} |" for name, kind, left in refusals]
    rows += [
        "",
        "| cut | offsets | refused as LinkLostError | done before it | half installs |",
        "|---|---|---|---|---|",
    ]
    rows += [f"| {kind} | {n} | {named} | {early} | {half} |" for kind, n, named, early, half in cuts]
    bad = [row for row in refusals if not row[2] or "**" in row[1]]
    passed, figure = not halves and not bad, f"{sum(row[1] for row in cuts)} cuts, {len(halves)} half installs; "
    figure += f"{len(refusals) - len(bad)} of {len(refusals)} bad boards named and left alone"
    if ten is not None:
        ratio, one_s, ten_s, count = ten
        passed = passed and ratio <= _LIMIT and count == args.boards - 1
        figure += f"; {args.boards} boards at {_RATE_KBIT} kbit/s each take {ratio:.2f} x the time of one"
        rows += ["", f"One board {one_s:.0f} s, {args.boards} boards {ten_s:.0f} s; one of them bad, {count} flashed."]
    return {"gate": "F1", "passed": passed, "figure": figure, "detail": "\n".join([*rows, *halves[:10]])}


def _cuts(place: Path, count: int) -> tuple[list[str], list[tuple[str, int, int, int, int]]]:
    """Cut the link at offsets spread over all that is sent, on a blank board and on one that serves."""
    from tests.worlds.flash_desk import Desk, current, flash_cut, half_installed, is_cut
    from tests.worlds.ssh_boards import make_board

    place.mkdir()
    desk, halves, rows = Desk(_made(place / "desk")), [], []
    blank = max(1, count // _BLANK_SHARE)
    world = make_board(place)
    world.start()
    try:
        first = desk.bundle("1.0.0")
        done, whole = flash_cut(desk, first, world, None)
        assert done.error is None, done.error
        for kind, number in (("update of a board that serves", count - blank), ("first flash of a blank board", blank)):
            named = early = half = 0
            if kind.startswith("update"):
                done, size = flash_cut(desk, desk.bundle("1.0.1"), world, None)
                assert done.error is None, done.error
            else:
                size = whole
            for step in range(number):
                if size == whole:
                    world.pull_the_plug()
                    shutil.rmtree(world.disk)
                    world.start()
                bundle = desk.bundle(f"2.{step}.0") if size != whole else first
                at = max(64, size * (step + 1) // (number + 1))
                done, _ = flash_cut(desk, bundle, world, at)
                named, early = named + is_cut(done), early + (done.error is None)
                found = half_installed(world, desk.digests)
                if done.error is not None and not is_cut(done):
                    found.append(f"not named as a lost link: {done.error}")
                half += bool(found)
                halves += [f"{kind}, {at} bytes: {words}" for words in found]
                print(f"F1: {kind}: cut after {at} bytes: {type(done.error).__name__}, {found or 'whole'}", flush=True)
            again = desk.one(bundle, world)
            if again.error is not None or current(world) != bundle.stem:
                halves.append(f"{kind}: the next flash did not end where it should")
            rows.append((kind, number, named, early, half))
    finally:
        world.pull_the_plug()
    return halves, rows


def _refusals(place: Path) -> list[tuple[str, str, bool]]:
    """Every bad board. Returns (what is wrong, class of the error, whether it was left alone)."""
    from tests.worlds.flash_desk import Desk, untouched
    from tests.worlds.ssh_boards import Flaws, ssh_board

    place.mkdir()
    desk = Desk(_made(place / "desk"))
    bundle, rows = desk.bundle("1.0.0"), []
    broken = "#!/bin/sh\necho 'Fatal Python error: init_fs_encoding' >&2\nexit 1\n"
    flaws = {
        "a full disk, seen beforehand": (Flaws(disk_bytes=24 << 20), "BoardDiskError"),
        "no sudo": (Flaws(sudo=""), "NoRightsError"),
        "sudo with a password and nobody to type it": (Flaws(sudo="pi ALL=(ALL) ALL"), "NoRightsError"),
        "wrong architecture (i686)": (Flaws(personality="i686"), "UnsupportedBoardError"),
        "broken Python": (Flaws(python=broken), "BrokenPythonError"),
        "clock in 1970": (Flaws(clock="@1970-01-01 00:05:00"), "ClockError"),
        "no wheels for it": (Flaws(packages=False), "WheelsError"),
    }
    for number, (name, (flaw, expected)) in enumerate(flaws.items()):
        with ssh_board(_made(place / str(number)), flaw) as world:
            (done,) = desk.flash(bundle, world)
            kind = type(done.error).__name__
            rows.append((name, kind if kind == expected else f"**{kind}**", untouched(world)))
            print(f"F1: {name}: {done.error}", flush=True)
    rows.append(_wrong_key(place, desk, bundle))
    rows.append(_disk_fills_up(place, desk, bundle))
    return rows


def _wrong_key(place: Path, desk: Any, bundle: Path) -> tuple[str, str, bool]:
    from tests.worlds.flash_desk import untouched
    from tests.worlds.ssh_boards import ssh_board

    with ssh_board(_made(place / "key")) as world:
        desk.flash(bundle, world, dry_run=True)
        known = desk.place / "known_hosts"
        other = (world.key.with_suffix(".pub")).read_text().split()[1]
        pinned = [
            line.rpartition(" ")[0] + f" {other}" if f":{world.port} " in line else line
            for line in known.read_text().splitlines()
        ]
        known.write_text("\n".join(pinned) + "\n")
        (done,) = desk.flash(bundle, world)
        kind = type(done.error).__name__
        return "wrong host key", kind if kind == "ChangedHostKeyError" else f"**{kind}**", untouched(world)


def _disk_fills_up(place: Path, desk: Any, bundle: Path) -> tuple[str, str, bool]:
    """The disk was large enough when it was asked, and something else fills it meanwhile."""
    from tests.worlds.flash_desk import half_installed
    from tests.worlds.ssh_boards import Flaws, ssh_board

    with ssh_board(_made(place / "filling"), Flaws(disk_bytes=96 << 20)) as world:

        def fill(target: str, step: Any) -> None:
            if step.name == "runtime" and not (world.root / "var/filler").exists():
                free = shutil.disk_usage(world.root / "var").free
                (world.root / "var/filler").write_bytes(bytes(free - (256 << 10)))

        (done,) = desk.flash(bundle, world, on_step=fill)
        kind = type(done.error).__name__
        whole = not half_installed(world, desk.digests)
        (world.root / "var/filler").unlink()
        (again,) = desk.flash(bundle, world)
        return (
            "a disk that fills up meanwhile",
            kind if kind == "BoardDiskError" else f"**{kind}**",
            whole and again.error is None,
        )


def _ten(place: Path, count: int) -> tuple[float, float, float, int]:
    """One board over a slow link, then `count` over a link each. Returns (ratio, s, s, boards that were flashed)."""
    from tests.worlds.flash_desk import Desk
    from tests.worlds.ssh_boards import make_board

    place.mkdir()
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
    return ten_s / one_s, one_s, ten_s, sum(result.error is None for result in done)


def _padded(version: str) -> bytes:
    """A toy whose bundle is as large as a small network's: the link decides, not the processor."""
    from edgekit_device.contract.archive import read_archive, write_archive
    from edgekit_device.contract.file_table import FileEntry
    from edgekit_device.contract.manifest import NAME, Manifest
    from tests.worlds.trial_board import Recipe, bundle_of

    entries = {
        name: bytes(data) for name, data in read_archive(bundle_of(Recipe(), version), "toy", max_entries=99).items()
    }
    manifest = Manifest.from_bytes(entries.pop(NAME))
    entries["spare.tflite"] = os.urandom(_PADDING_BYTES)
    files = {name: FileEntry(len(data), hashlib.sha256(data).hexdigest()) for name, data in entries.items()}
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
            rate = ["rate", f"{_RATE_KBIT}kbit", "burst", "16kb", "latency", "400ms"]
            subprocess.run(["tc", "qdisc", "add", "dev", near, "root", "tbf", *rate], check=True, capture_output=True)
        yield made
    finally:
        for name, _ in made:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


if __name__ == "__main__":
    print(run(sys.argv[1:]))

"""F1: flashing. A cut link, a wrong host key, a full disk: never half, each named; ten boards over equal links.

What was found is kept in build/f1/found.json, cut by cut and board by board: a run that was stopped goes on there, and
one that was whole begins anew. Needs root, and: apt install openssh-server sudo iproute2 libfaketime
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tools.gates.f1_ten import PADDING_BYTES, RATE_KBIT, ten_boards
from tools.gates.f1_times import time_flashes, times_table
from tools.gates.flash_page import put_section
from tools.results import ROOT, commit, machine, versions

FOUND = ROOT / "build" / "f1" / "found.json"
_LIMIT = 2.0
_BLANK_SHARE = 4
"""One cut in four hits the first flash of a blank board."""
UPDATE, BLANK = "update of a board that serves", "first flash of a blank board"
_COMMAND = "    make gates ONLY=F1"


def run(arguments: Sequence[str]) -> dict[str, Any]:
    """Cut `--cuts` times (50), refuse every bad board, then `--boards` (10) at once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuts", type=int, default=50)
    parser.add_argument("--boards", type=int, default=10)
    parser.add_argument("--only", choices=("cuts", "refusals", "times", "ten"), help="this part, and no verdict")
    parser.add_argument("--fresh", action="store_true", help="forget what a run before found")
    args = parser.parse_args(arguments)
    if os.geteuid():
        return {"gate": "F1", "passed": False, "figure": "not run: needs root", "detail": ""}
    sys.path.insert(0, str(ROOT))
    found = _Found(fresh=args.fresh)
    with tempfile.TemporaryDirectory(prefix="edgekit-f1-") as folder:
        place = Path(folder)
        if args.only in (None, "refusals"):
            _refuse_all(_made(place / "refusals"), found)
        if args.only in (None, "cuts"):
            _cut_all(_made(place / "cuts"), args.cuts, found)
        if args.only in (None, "times") and "times" not in found.parts:
            found.keep("times", time_flashes(_made(place / "times")))
        if args.only in (None, "ten") and "ten" not in found.parts:
            found.keep("ten", ten_boards(_made(place / "ten"), args.boards))
    if args.only:
        return {"gate": "F1", "passed": False, "figure": f"only {args.only}", "detail": ""}
    result = _verdict(found.parts, args.cuts)
    FOUND.unlink(missing_ok=True)
    return result


class _Found:
    """What was found so far, on disk after each step.

    Attributes:
        parts: `cuts`, `refusals`, `times`, `ten`, and the `commits` at which they were found.
    """

    def __init__(self, *, fresh: bool) -> None:
        if fresh:
            FOUND.unlink(missing_ok=True)
        empty: dict[str, Any] = {"cuts": {}, "refusals": {}, "commits": []}
        self.parts: dict[str, Any] = json.loads(FOUND.read_text()) if FOUND.exists() else empty

    def keep(self, part: str, value: Any, name: str = "") -> None:
        """Add one thing and write all."""
        if name:
            self.parts[part][name] = value
        else:
            self.parts[part] = value
        if commit() not in self.parts["commits"]:
            self.parts["commits"].append(commit())
        FOUND.parent.mkdir(parents=True, exist_ok=True)
        new = FOUND.with_suffix(".part")
        new.write_text(json.dumps(self.parts, indent=1) + "\n")
        new.rename(FOUND)


def _cut_all(place: Path, count: int, found: _Found) -> None:
    """Cut the link at offsets spread over all that is sent, on a board that serves and on a blank one."""
    from tests.worlds.flash_desk import Desk, flash_cut
    from tests.worlds.ssh_boards import make_board

    blank = max(1, count // _BLANK_SHARE)
    wanted = [(UPDATE, step, count - blank) for step in range(count - blank)]
    wanted += [(BLANK, step, blank) for step in range(blank)]
    left = [job for job in wanted if f"{job[0]} {job[1]}" not in found.parts["cuts"]]
    if not left:
        return
    desk, world = Desk(_made(place / "desk")), make_board(place)
    world.start()
    try:
        done, whole = flash_cut(desk, desk.bundle("1.0.0"), world, None)
        assert done.error is None, done.error
        done, update = flash_cut(desk, desk.bundle("1.0.1"), world, None)
        assert done.error is None, done.error
        for kind, step, number in left:
            if kind == BLANK:
                world.pull_the_plug()
                shutil.rmtree(world.disk)
                world.start()
            name = f"2.{step}.{kind == BLANK:d}"
            at = max(64, (whole if kind == BLANK else update) * (step + 1) // (number + 1))
            found.keep("cuts", _cut(desk, world, name, at, last=step == number - 1), f"{kind} {step}")
    finally:
        world.pull_the_plug()


def _cut(desk: Any, world: Any, version: str, at: int, *, last: bool) -> dict[str, Any]:
    """One cut, and after the last of a kind a flash that nothing cuts."""
    from tests.worlds.flash_desk import current, flash_cut, half_installed

    bundle = desk.bundle(version)
    done, _ = flash_cut(desk, bundle, world, at)
    half = half_installed(world, desk.digests)
    row = {"at": at, "error": type(done.error).__name__ if done.error else "", "half": half}
    print(f"F1: {version}: cut after {at} bytes: {row['error'] or 'done before it'}, {half or 'whole'}", flush=True)
    if last:
        again = desk.one(bundle, world)
        if again.error is not None or current(world) != bundle.stem:
            half.append("the next flash did not end where it should")
    return row


def _refuse_all(place: Path, found: _Found) -> None:
    """Every bad board, each beside a good one that goes on."""
    from tests.worlds.flash_desk import Desk, untouched
    from tests.worlds.ssh_boards import Flaws, make_board, ssh_board

    desk, broken = Desk(_made(place / "desk")), "#!/bin/sh\necho 'Fatal Python error: init_fs_encoding' >&2\nexit 1\n"
    flaws: dict[str, tuple[Flaws, str]] = {
        "a full disk, seen beforehand": (Flaws(disk_bytes=24 << 20), "BoardDiskError"),
        "no sudo": (Flaws(sudo=""), "NoRightsError"),
        "sudo with a password and nobody to type it": (Flaws(sudo="pi ALL=(ALL) ALL"), "NoRightsError"),
        "wrong architecture (i686)": (Flaws(personality="i686"), "UnsupportedBoardError"),
        "broken Python": (Flaws(python=broken), "BrokenPythonError"),
        "clock in 1970": (Flaws(clock="@1970-01-01 00:05:00"), "ClockError"),
        "no wheels for it": (Flaws(packages=False), "WheelsError"),
    }
    more: dict[str, Callable[..., dict[str, Any]]] = {
        "wrong host key": _wrong_key,
        "a disk that fills up meanwhile": _disk_fills_up,
    }
    left = [name for name in (*flaws, *more) if name not in found.parts["refusals"]]
    if not left:
        return
    good = make_board(_made(place / "good"))
    good.start()
    try:
        for number, name in enumerate(left):
            bundle = desk.bundle(f"1.{number}.0")
            if name in more:
                row = more[name](_made(place / str(number)), desk, bundle)
            else:
                with ssh_board(_made(place / str(number)), flaws[name][0]) as world:
                    bad, beside = desk.flash(bundle, world, good)
                    row = {"error": type(bad.error).__name__, "expected": flaws[name][1], "left": untouched(world)}
                    row["beside"] = beside.error is None
                    print(f"F1: {name}: {bad.error}; beside it: {beside.error or beside.outcome}", flush=True)
            found.keep("refusals", row, name)
    finally:
        good.pull_the_plug()


def _wrong_key(place: Path, desk: Any, bundle: Path) -> dict[str, Any]:
    """The key that is pinned is another one than the board's."""
    from tests.worlds.flash_desk import untouched
    from tests.worlds.ssh_boards import ssh_board

    with ssh_board(place) as world:
        desk.flash(bundle, world, dry_run=True)
        known = desk.place / "known_hosts"
        other = (world.key.with_suffix(".pub")).read_text().split()[1]
        pinned = [
            line.rpartition(" ")[0] + f" {other}" if f":{world.port} " in line else line
            for line in known.read_text().splitlines()
        ]
        known.write_text("\n".join(pinned) + "\n")
        (done,) = desk.flash(bundle, world)
        print(f"F1: wrong host key: {done.error}", flush=True)
        return {"error": type(done.error).__name__, "expected": "ChangedHostKeyError", "left": untouched(world)}


def _disk_fills_up(place: Path, desk: Any, bundle: Path) -> dict[str, Any]:
    """The disk was large enough when it was asked, and something else fills it meanwhile."""
    from tests.worlds.flash_desk import half_installed
    from tests.worlds.ssh_boards import Flaws, ssh_board

    with ssh_board(place, Flaws(disk_bytes=96 << 20)) as world:

        def fill(target: str, step: Any) -> None:
            if step.name == "runtime" and not (world.root / "var/filler").exists():
                free = shutil.disk_usage(world.root / "var").free
                (world.root / "var/filler").write_bytes(bytes(free - (256 << 10)))

        (done,) = desk.flash(bundle, world, on_step=fill)
        whole = not half_installed(world, desk.digests)
        (world.root / "var/filler").unlink()
        (again,) = desk.flash(bundle, world)
        print(
            f"F1: a disk that fills up meanwhile: {done.error}; with room: {again.error or again.outcome}", flush=True
        )
        left = whole and again.error is None
        return {"error": type(done.error).__name__, "expected": "BoardDiskError", "left": left}


def _verdict(parts: dict[str, Any], wanted: int) -> dict[str, Any]:
    cuts, refusals, ten = parts["cuts"], parts["refusals"], parts["ten"]
    half = [f"{name}, {row['at']} bytes: {words}" for name, row in cuts.items() for words in row["half"]]
    unnamed = [name for name, row in cuts.items() if row["error"] not in ("", "LinkLostError")]
    good = [n for n, r in refusals.items() if r["error"] == r["expected"] and r["left"] and r.get("beside", True)]
    ratio = ten["ten_s"] / ten["one_s"]
    figure = (
        f"{len(cuts)} cuts, {len(half)} half installs, {len(unnamed)} not named; {len(good)} of {len(refusals)} bad "
        f"boards named and left alone, the one beside them flashed; {ten['boards']} boards at {RATE_KBIT} kbit/s each "
        f"take {ratio:.2f} times as long as one"
    )
    passed = not half and not unnamed and len(cuts) >= wanted and len(good) == len(refusals)
    passed = passed and ratio <= _LIMIT and ten["flashed"] == ten["boards"] - 1
    head = [_COMMAND, "", f"Machine: {machine()}; Debian 12, Python {platform.python_version()},"]
    head += [f"{versions('asyncssh')}; at {', '.join(parts['commits'])}.", ""]
    tables = {
        "## The link is cut": _cut_table(cuts, half, unnamed),
        "## Boards that cannot be flashed": _refusal_table(refusals),
        "## Ten boards, each behind a link of its own": _ten_words(ten, ratio),
        "## Times": times_table(parts["times"]),
    }
    for heading, lines in tables.items():
        put_section(heading, [*head, *lines])
    detail = "\n".join(line for lines in tables.values() for line in [*lines, ""])
    return {"gate": "F1", "passed": passed, "figure": figure, "detail": detail.rstrip()}


def _cut_table(cuts: dict[str, Any], half: Sequence[str], unnamed: Sequence[str]) -> list[str]:
    lines = [
        "A proxy passes a number of bytes to the board and then resets both sides. Offsets lie evenly over all that a",
        "whole flash sends. After each cut the board's disk is looked at: current release against its SHA-256 and",
        "signature, the runtime that is entered, device.toml, keys. After the last cut of each kind a plain flash must",
        "end where it should.",
        "",
        "| cut | offsets | from, bytes | to, bytes | named `LinkLostError` | done before it | half installs |",
        "|---|---|---|---|---|---|---|",
    ]
    for kind in (UPDATE, BLANK):
        rows = [row for name, row in cuts.items() if name.startswith(kind)]
        at, named = [row["at"] for row in rows], sum(row["error"] == "LinkLostError" for row in rows)
        early, bad = sum(row["error"] == "" for row in rows), sum(bool(row["half"]) for row in rows)
        lines.append(f"| {kind} | {len(rows)} | {min(at):,} | {max(at):,} | {named} | {early} | {bad} |")
    return [*lines, *([""] if half or unnamed else []), *half[:10], *unnamed[:10]]


def _refusal_table(refusals: dict[str, Any]) -> list[str]:
    lines = ["| what is wrong | named | left alone | a good board beside it |", "|---|---|---|---|"]
    for name, row in refusals.items():
        kind = f"`{row['error']}`" if row["error"] == row["expected"] else f"**{row['error']}**"
        beside = {True: "flashed", False: "**not flashed**", None: ""}[row.get("beside")]
        lines.append(f"| {name} | {kind} | {'yes' if row['left'] else '**no**'} | {beside} |")
    return [*lines, "", "Disks are tmpfs, i686 is a personality, the clock is libfaketime's in the session."]


def _ten_words(ten: dict[str, Any], ratio: float) -> list[str]:
    link_s, cores = PADDING_BYTES * 8 / RATE_KBIT / 1e3, os.cpu_count()
    return [
        f"Network namespaces, each behind `tbf` at {RATE_KBIT} kbit/s; a bundle of {PADDING_BYTES / 1e6:.0f} MB for",
        f"boards that have a runtime, which alone takes {link_s:.0f} s on such a link: the processor is shared (load",
        f"{ten['load'][1]:g} on {cores} cores), and so the link is kept the longest part.",
        "",
        f"One board {ten['one_s']:.0f} s, {ten['boards']} boards {ten['ten_s']:.0f} s: **{ratio:.2f} times** (limit "
        f"{_LIMIT:g}). One of them had lost its sudo: `{ten['bad']}`; {ten['flashed']} were flashed.",
    ]


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


if __name__ == "__main__":
    print(run(sys.argv[1:]))

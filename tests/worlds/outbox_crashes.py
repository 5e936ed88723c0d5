"""B4: what the disk may hold of an outbox after a power cut, replayed from the strace log of a board that spools.

Until a file is synced, each write and each truncation since may be on the disk or not, and a write in part; a file
whose folder was not synced may be missing. What SQLite made durable must be enough for the outbox to open with every
message that was promised before the cut. LazyFS plays the same on a mounted folder, where it is installed.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from edgekit_device.contract.errors import OutboxError
from edgekit_device.publish.outbox import NAME, Outbox

ROOT = Path(__file__).resolve().parents[2]
SPOOLER = ROOT / "device" / "tests" / "spooling.py"
LAZYFS = "build github.com/dsrhaslab/lazyfs and name its program in EDGEKIT_LAZYFS"
_SECTOR = 512
_CALLS = "openat,pwrite64,write,fsync,fdatasync,ftruncate,unlink,rename,close,fallocate"
_CALL = re.compile(r"(\w+)\((.*)\) += (-?\d+)")
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')


class Write(NamedTuple):
    """Bytes of one file; with `data` None the file is cut at `offset`, or removed if that is -1."""

    path: str
    offset: int
    data: bytes | None


class Sync(NamedTuple):
    """Everything written to a file, or removed from a folder, is on the disk."""

    path: str


class Promise(NamedTuple):
    """The board said that these are committed."""

    low: int
    high: int


@dataclass
class Disk:
    """The content of files; a cut drops what is not synced.

    Attributes:
        kept: What is on the disk for certain.
        loose: Changes since the last sync, per file.
    """

    kept: dict[str, bytearray] = field(default_factory=dict)
    loose: dict[str, list[Write]] = field(default_factory=dict)

    def take(self, step: Write | Sync) -> None:
        """The next call."""
        if isinstance(step, Write):
            self.loose.setdefault(step.path, []).append(step)
            return
        written = [change for change in self.loose.pop(step.path, []) if change.offset >= 0]
        for change in written:
            apply(self.kept, change)
        for path, changes in self.loose.items():
            gone = [at for at, change in enumerate(changes) if change.offset < 0]
            if gone and str(Path(path).parent) == step.path:
                self.kept.pop(path, None)
                self.loose[path] = changes[gone[-1] + 1 :]

    def after_cut(self, draw: random.Random, most: int) -> Iterator[dict[str, bytes]]:
        """Disks that a cut may leave now: nothing of what is loose, all of it, and mixtures with torn writes."""
        changes = [change for found in self.loose.values() for change in found]
        yield self._with([])
        if not changes:
            return
        yield self._with(changes)
        for _ in range(min(most, 2 * len(changes))):
            chosen = [change for change in changes if draw.random() < 0.5]
            if chosen and draw.random() < 0.5:
                at = draw.randrange(len(chosen))
                chosen[at] = _torn(draw, chosen[at])
            yield self._with(chosen)
        for count in range(1, min(most, len(changes))):
            yield self._with(changes[:count])

    def _with(self, changes: list[Write]) -> dict[str, bytes]:
        files = {path: bytearray(content) for path, content in self.kept.items()}
        for change in changes:
            apply(files, change)
        return {path: bytes(content) for path, content in files.items()}


def apply(files: dict[str, bytearray], change: Write) -> None:
    """Do one change."""
    if change.offset < 0:
        files.pop(change.path, None)
        return
    content = files.setdefault(change.path, bytearray())
    content.extend(bytes(max(0, change.offset - len(content))))
    if change.data is None:
        del content[change.offset :]
    else:
        content[change.offset : change.offset + len(change.data)] = change.data


def _torn(draw: random.Random, change: Write) -> Write:
    if not change.data or len(change.data) <= _SECTOR:
        return change
    at = draw.randrange(0, len(change.data), _SECTOR)
    return change._replace(data=change.data[:at] + draw.choice((b"", bytes(len(change.data) - at))))


def record(folder: Path, boot: str, promises: int) -> list[Write | Sync | Promise]:
    """What a board does to its outbox until it has promised so many batches."""
    log = folder.parent / "strace.log"
    words = ["strace", "-f", "-o", str(log), "-xx", "-s", "10000000", "-e", f"trace={_CALLS}"]
    command = [*words, sys.executable, str(SPOOLER), str(folder), boot, str(promises)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=300)
    return list(_steps(log, folder))


def _steps(log: Path, folder: Path) -> Iterator[Write | Sync | Promise]:
    opened: dict[int, str] = {}
    said = b""
    for line in log.read_text().splitlines():
        found = _CALL.match(line.partition(" ")[2].lstrip())
        if not found or int(found.group(3)) < 0:
            continue
        call, arguments, result = found.group(1), found.group(2), int(found.group(3))
        words = [bytes.fromhex(text.replace("\\x", "")) for text in _STRING.findall(arguments)]
        first = arguments.partition(",")[0]
        number = int(first) if first.isdigit() else -1
        path = opened.get(number)
        if call == "openat":
            opened.pop(result, None)
            name = words[0].decode()
            if name == str(folder) or name.startswith(str(folder / NAME)):
                opened[result] = name
        elif call == "close":
            opened.pop(number, None)
        elif call == "write" and number == 1:
            said += words[0]
            if said.endswith(b"\n"):
                low, high = map(int, said.split())
                yield Promise(low, high)
                said = b""
        elif call == "unlink" and words[0].decode().startswith(str(folder / NAME)):
            yield Write(words[0].decode(), -1, None)
        elif path is None:
            if call == "rename" and str(folder).encode() in words[0]:
                raise NotImplementedError(line[:200])
        elif call == "pwrite64":
            yield Write(path, int(arguments.rpartition(",")[2]), words[0][:result])
        elif call == "ftruncate":
            yield Write(path, int(arguments.rpartition(",")[2]), None)
        elif call in ("fsync", "fdatasync"):
            yield Sync(path)
        elif call != "openat":
            raise NotImplementedError(line[:200])


@dataclass
class Outcome:
    """What the cuts came to.

    Attributes:
        states: Disks that were tried.
        lost: Of these, without a message that was promised before the cut.
        unopened: Of these, on which the outbox did not open.
        forgotten: Of these, on which a file that nobody synced was gone, as it must be.
    """

    states: int = 0
    lost: int = 0
    unopened: int = 0
    forgotten: int = 0


def replay(folder: Path, promises: int, most: int, every: int = 1, *, synced: bool = True) -> Outcome:
    """Cut the power at each call of a recording.

    Args:
        folder: Scratch; made.
        promises: Batches that the board commits.
        most: Mixtures tried at one call.
        every: Only each so-many-th call.
        synced: False strikes the syncs of the log: the control, which must lose something.
    """
    live, boot = folder / "live", "9f" * 16
    live.mkdir(parents=True)
    steps, disk, draw = record(live, boot, promises), Disk(), random.Random(4)
    promised, outcome = 0, Outcome()
    for number, step in enumerate(steps):
        if isinstance(step, Promise):
            promised = step.high + 1
        elif synced or isinstance(step, Write):
            disk.take(step)
        if number % every:
            continue
        for files in disk.after_cut(draw, most):
            outcome.states += 1
            judge(folder / "cut", files, boot, promised, outcome)
    return outcome


def judge(place: Path, files: dict[str, bytes], boot: str, promised: int, outcome: Outcome) -> None:
    """Start a board on what is left."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    for path, content in files.items():
        (place / Path(path).name).write_bytes(content)
    try:
        outcome.lost += not set(range(promised)) <= held(place, boot)
    except OutboxError:
        # An empty disk is a new board: nothing was promised yet.
        outcome.unopened += 1
        outcome.lost += promised > 0


def held(folder: Path, boot: str) -> set[int]:
    """Numbers of a boot that an outbox holds, or says it deleted because they were stored."""
    outbox = Outbox(folder)
    try:
        batches, gone = outbox.index()
        found = {message.key.seq for b in batches if b.boot == boot for message in outbox.read(b.number)}
        return found | {n for low, high in gone.get(boot, ()) for n in range(low, high + 1)}
    finally:
        outbox.close()


def find_lazyfs() -> str | None:
    """LazyFS is no package: EDGEKIT_LAZYFS names what was built."""
    named = os.environ.get("EDGEKIT_LAZYFS")
    return named if named and Path(named).exists() else shutil.which("lazyfs")


def power_cuts(program: str, folder: Path, cuts: int, draw: random.Random) -> Outcome:
    """Cut the power of a mounted LazyFS at random moments while a board spools; it drops what was not synced."""
    outcome = Outcome()
    for cut in range(cuts):
        place = folder / f"cut{cut}"
        root, boot = place / "root", f"{cut:032x}"
        root.mkdir(parents=True)
        with _lazyfs(program, place, root) as (mounted, fault):
            command = [sys.executable, str(SPOOLER), str(mounted / "state"), boot]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
                assert process.stdout
                lines = [process.stdout.readline()]
                time.sleep(draw.uniform(0.0, 0.6))
                process.send_signal(signal.SIGSTOP)
                (mounted / "unsynced").write_bytes(b"x" * 4096)
                fault("lazyfs::clear-cache")
                process.kill()
                lines += [line for line in process.stdout.readlines() if line.endswith("\n")]
            promised = max((int(line.split()[1]) + 1 for line in lines if line.strip()), default=0)
        outcome.states += 1
        unsynced = root / "unsynced"
        outcome.forgotten += not (unsynced.exists() and any(unsynced.read_bytes()))
        try:
            outcome.lost += not set(range(promised)) <= held(root / "state", boot)
        except OutboxError:
            outcome.unopened += 1
            outcome.lost += promised > 0
    return outcome


@contextmanager
def _lazyfs(program: str, place: Path, root: Path) -> Iterator[tuple[Path, Callable[[str], None]]]:
    mounted, orders, done = place / "mounted", place / "orders", place / "done"
    mounted.mkdir()
    config = place / "lazyfs.toml"
    config.write_text(
        f'[faults]\nfifo_path="{orders}"\nfifo_path_completed="{done}"\n[cache]\napply_eviction=false\n[cache.simple]\n'
        'custom_size="64mb"\nblocks_per_page=1\n[filesystem]\nlog_all_operations=false\nlogfile=""\n'
    )
    for fifo in (orders, done):
        os.mkfifo(fifo)
    words = [program, str(mounted), "--config-path", str(config), "-o", "modules=subdir", "-o", f"subdir={root}", "-f"]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        until = time.monotonic() + 10
        while not os.path.ismount(mounted):
            assert time.monotonic() < until and server.poll() is None, "LazyFS did not mount"
            time.sleep(0.05)
        listening = os.open(done, os.O_RDONLY | os.O_NONBLOCK)

        def fault(order: str) -> None:
            with orders.open("w") as pipe:
                pipe.write(order + "\n")
            limit = time.monotonic() + 10
            while time.monotonic() < limit:
                try:
                    if os.read(listening, 4096):
                        return
                except BlockingIOError:
                    pass
                time.sleep(0.02)
            raise AssertionError("LazyFS did not answer")

        try:
            yield mounted, fault
        finally:
            os.close(listening)
            subprocess.run(["fusermount3", "-u", str(mounted)], check=False, capture_output=True)
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()


def main() -> None:
    """For trying: python -m tests.worlds.outbox_crashes FOLDER PROMISES."""
    print(json.dumps(vars(replay(Path(sys.argv[1]), int(sys.argv[2]), 6))))


if __name__ == "__main__":
    main()

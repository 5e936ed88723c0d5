"""What a disk may hold after a power cut, replayed from the strace log of an install (the method of ALICE, OSDI 2014).

Until it is synced, each change of a folder and each write may be on the disk or not, in any combination, and a write
may be there in part. Only fsync orders anything: of a file for its content, of a folder for its names.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

_ALL_SUBSETS = 6
_SECTOR = 512
_CALL = re.compile(r"(\w+)\((.*)\) += (-?\d+)")
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')


@dataclass
class Node:
    """A folder (`names`), a link (`target`) or a file (`content`), whatever it is called."""

    names: dict[str, int] | None = None
    target: str | None = None
    content: bytes = b""
    mtime_ns: int | None = None


class Change(NamedTuple):
    """One change: names that go, names that come, or bytes that are written."""

    touches: int
    gone: tuple[tuple[int, str, int], ...] = ()
    come: tuple[tuple[int, str, int], ...] = ()
    data: bytes = b""
    offset: int = 0


class Sync(NamedTuple):
    """An fsync of a node."""

    node: int


class Recording:
    """A log, resolved to nodes: what was there, and what was done to it."""

    def __init__(self, root: Path, before: Path, log: Sequence[str]) -> None:
        self.root = str(root)
        self.nodes: list[Node] = []
        self.steps: list[Change | Sync] = []
        self.top = self._scan(before)
        # Names as the running system sees them, everything applied.
        self._live = {number: dict(node.names) for number, node in enumerate(self.nodes) if node.names is not None}
        self.base = [
            Node(dict(n.names) if n.names is not None else None, n.target, n.content, n.mtime_ns) for n in self.nodes
        ]
        self._open: dict[int, tuple[int, int]] = {}
        for line in log:
            if found := _CALL.match(line):
                self._take(found.group(1), found.group(2), int(found.group(3)))

    def _scan(self, path: Path) -> int:
        number = len(self.nodes)
        self.nodes.append(Node())
        if path.is_symlink():
            self.nodes[number] = Node(target=os.readlink(path))
        elif path.is_dir():
            self.nodes[number] = Node(names={})
            self.nodes[number].names = {entry.name: self._scan(entry) for entry in sorted(path.iterdir())}
        else:
            self.nodes[number] = Node(content=path.read_bytes(), mtime_ns=path.stat().st_mtime_ns)
        return number

    def _add(self, node: Node) -> int:
        self.nodes.append(node)
        if node.names is not None:
            self._live[len(self.nodes) - 1] = {}
        return len(self.nodes) - 1

    def _locate(self, path: str) -> tuple[int, str] | None:
        """(folder, name) of a path below the root; None outside."""
        if not path.startswith(self.root + "/"):
            return None
        at, parts = self.top, path[len(self.root) + 1 :].split("/")
        for part in parts[:-1]:
            at = self._live[at][part]
        return at, parts[-1]

    def _change(self, change: Change) -> None:
        for folder, name, _ in change.gone:
            del self._live[folder][name]
        for folder, name, node in change.come:
            self._live[folder][name] = node
        self.steps.append(change)

    def _take(self, call: str, arguments: str, result: int) -> None:
        if result < 0 or call in ("chmod", "fchmod", "fchmodat"):
            return
        words = [bytes.fromhex(hexed.replace("\\x", "")) for hexed in _STRING.findall(arguments)]
        first = arguments.partition(",")[0]
        if call == "openat":
            self._opened(words[0].decode(), arguments, result)
        elif call == "close":
            self._open.pop(int(first), None)
        elif call == "write" and int(first) in self._open:
            node, offset = self._open[int(first)]
            self.steps.append(Change(node, data=words[0][:result], offset=offset))
            self._open[int(first)] = node, offset + result
        elif call in ("fsync", "fdatasync") and int(first) in self._open:
            self.steps.append(Sync(self._open[int(first)][0]))
        elif call in ("mkdir", "symlink", "unlink", "rmdir", "rename"):
            self._names(call, [word.decode() for word in words])
        elif call not in ("write", "fsync", "fdatasync"):
            raise NotImplementedError(f"{call}({arguments[:100]}")

    def _opened(self, path: str, arguments: str, descriptor: int) -> None:
        if path == self.root:
            self._open[descriptor] = self.top, 0
            return
        place = self._locate(path)
        if place is None:
            return
        folder, name = place
        if name not in self._live[folder]:
            node = self._add(Node())
            self._change(Change(folder, come=((folder, name, node),)))
        elif "O_TRUNC" in arguments:
            raise NotImplementedError(f"{path} is truncated in place")
        self._open[descriptor] = self._live[folder][name], 0

    def _names(self, call: str, words: list[str]) -> None:
        place = self._locate(words[1] if call == "symlink" else words[0])
        if place is None:
            return
        folder, name = place
        if call in ("mkdir", "symlink"):
            node = self._add(Node(names={}) if call == "mkdir" else Node(target=words[0]))
            self._change(Change(folder, come=((folder, name, node),)))
        elif call == "rename":
            target = self._locate(words[1])
            assert target is not None and target[0] == folder, "a rename between folders is not modelled"
            node = self._live[folder][name]
            self._change(Change(folder, ((folder, name, node),), ((folder, target[1], node),)))
        else:
            self._change(Change(folder, ((folder, name, self._live[folder][name]),)))


class State(NamedTuple):
    """One crash state: which changes are on the disk, and what is there of one that is there in part."""

    kept: tuple[Change, ...]
    torn: int | None = None
    data: bytes = b""


def states(recording: Recording) -> Iterator[State]:
    """Every crash state of a recording that this model knows; equal disks come once each from `distinct`."""
    for cut in range(len(recording.steps) + 1):
        done = recording.steps[:cut]
        changes = [(at, step) for at, step in enumerate(done) if isinstance(step, Change)]
        loose = [at for at, step in changes if not any(s == Sync(step.touches) for s in done[at + 1 :])]
        for dropped in _subsets(loose):
            yield State(tuple(step for at, step in changes if at not in dropped))
        for at in loose:
            step = recording.steps[at]
            if isinstance(step, Change) and step.data:
                kept = tuple(step for _, step in changes)
                index = [a for a, _ in changes].index(at)
                yield from (State(kept, index, torn) for torn in _torn(step.data))


def _torn(data: bytes) -> Iterator[bytes]:
    """What a cut leaves of one write: it ends at any sector, is zeros from there on, or lacks one sector."""
    for at in range(0, len(data), _SECTOR):
        after = at + _SECTOR
        yield data[:at]
        yield data[:at] + bytes(len(data) - at)
        yield data[:at] + bytes(min(_SECTOR, len(data) - at)) + data[after:]


def _subsets(loose: Sequence[int]) -> Iterator[frozenset[int]]:
    if len(loose) <= _ALL_SUBSETS:
        for size in range(len(loose) + 1):
            yield from map(frozenset, itertools.combinations(loose, size))
        return
    whole = frozenset(loose)
    yield from (frozenset(), whole)
    yield from (frozenset((at,)) for at in loose)
    yield from (whole - {at} for at in loose)
    yield from (frozenset(loose[at:]) for at in range(len(loose)))
    yield from (frozenset(pair) for pair in itertools.combinations(loose, 2))


def disk_of(recording: Recording, state: State) -> list[Node]:
    """The nodes as they lie on the disk in a state."""
    base = [
        Node(dict(n.names) if n.names is not None else None, n.target, n.content, n.mtime_ns) for n in recording.base
    ]
    base += [Node({} if n.names is not None else None, n.target) for n in recording.nodes[len(base) :]]
    for number, change in enumerate(state.kept):
        for folder, name, node in change.gone:
            names = base[folder].names
            if names is not None and names.get(name) == node:
                del names[name]
        for folder, name, node in change.come:
            names = base[folder].names
            if names is not None:
                names[name] = node
        if change.data:
            data = state.data if number == state.torn else change.data
            old = base[change.touches].content.ljust(change.offset, b"\0")
            base[change.touches].content = old[: change.offset] + data + old[change.offset + len(data) :]
    return base


def distinct(recording: Recording) -> Iterator[list[Node]]:
    """Every disk that differs from all before it."""
    seen = set()
    for state in states(recording):
        disk = disk_of(recording, state)
        mark = _digest(disk, recording.top)
        if mark not in seen:
            seen.add(mark)
            yield disk


def _digest(disk: Sequence[Node], at: int) -> bytes:
    node, total = disk[at], hashlib.sha256()
    if node.names is None:
        return hashlib.sha256(repr(node.target).encode() + node.content).digest()
    for name in sorted(node.names):
        total.update(name.encode() + b"\0" + _digest(disk, node.names[name]))
    return total.digest()


def lay_out(disk: Sequence[Node], at: int, path: Path) -> None:
    """Write a disk below a path that does not exist yet."""
    node = disk[at]
    if node.target is not None:
        path.symlink_to(node.target)
    elif node.names is not None:
        path.mkdir(parents=True)
        for name, inner in node.names.items():
            lay_out(disk, inner, path / name)
    else:
        path.write_bytes(node.content)
        if node.mtime_ns is not None:
            os.utime(path, ns=(node.mtime_ns, node.mtime_ns))

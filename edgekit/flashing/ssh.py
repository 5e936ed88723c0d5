"""A board over SSH: plain commands of its own system, so that nothing of ours must be there beforehand.

Each file arrives beside its place and is renamed only when its size is right: a link that is cut ends `cat` as if
the file were whole.
"""

from __future__ import annotations

import asyncio
import hashlib
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgekit.flashing.board import DEADLINE_S, STATE, Entry, Ran, Sent
from edgekit.flashing.channel import AGAIN, run_on
from edgekit.flashing.errors import BoardDiskError, CommandError, LinkLostError, NoRightsError
from edgekit.flashing.hostkeys import HostKeys
from edgekit.flashing.login import Login, Secrets, log_in
from edgekit.flashing.targets import SshTarget

_TRIES = 3
_LEAST_RATE_BYTES_S = 8 << 10
_NOT_THERE = 44
# Not every login has /usr/sbin in its path, nor a language whose messages are known here.
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ENVIRONMENT = ("LC_ALL=C.UTF-8", "PYTHONDONTWRITEBYTECODE=1", _PATH)
_TIMED_OUT = (124, 137)
_PRINT = r"%f\t%y\t%s\t%m\t%u\t%T@\t%l\0"
_KINDS = {"f": "file", "d": "folder", "l": "link"}

_READ = '[ -e "$1" ] || exit 44; head -c "$2" -- "$1"'
_DIGEST = '[ -f "$1" ] || exit 44; sha256sum -- "$1"'
_ENTRIES = f'[ -d "$1" ] || exit 44; find "$1" -mindepth 1 -maxdepth 1 -printf \'{_PRINT}\''
_ENTRY = f'[ -e "$1" ] || [ -L "$1" ] || exit 44; find "$1" -maxdepth 0 -printf \'{_PRINT}\''
_WRITE = """set -e; umask 077; d=$(dirname "$1"); t="$d/.new-$(basename "$1")"; trap 'rm -f "$t"' EXIT
rm -f "$t"; cat >"$t"; [ "$(stat -c %s "$t")" = "$4" ] || exit 45
chown "$3" "$t"; chmod "$2" "$t"; sync "$t"; mv -T "$t" "$1"; sync "$d" """
_FOLDER = """set -e; p=$1; while [ ! -d "$(dirname "$p")" ]; do p=$(dirname "$p"); done
mkdir -p "$(dirname "$1")"; [ -d "$1" ] || mkdir -m 0700 "$1"; chown "$3" "$1"; chmod "$2" "$1"
sync "$1" "$(dirname "$p")" """
_LINK = 'set -e; t="$(dirname "$1")/.new-$(basename "$1")"; ln -sfnT "$2" "$t"; mv -T "$t" "$1"; sync "$(dirname "$1")"'
_REMOVE = '[ -e "$1" ] || [ -L "$1" ] || exit 0; rm -rf --one-file-system -- "$1"; sync "$(dirname "$1")"'
_PARTIAL = '[ -f "$1" ] || { echo 0; exit 0; }; stat -c %s "$1"; sha256sum "$1"'
# The size is looked at again: a `cat` of a link that was cut may have been writing when it was first asked.
_APPEND = '[ "$(stat -c %s "$1" 2>/dev/null || echo 0)" = "$2" ] || exit 46; cat >>"$1"'
_FINISH = """set -e; [ "$(sha256sum <"$1" | cut -c1-64)" = "$4" ] || { rm -f "$1"; exit 45; }
chmod "$3" "$1"; sync "$1"; mv -T "$1" "$2"; sync "$(dirname "$2")" """


class SshBoard:
    """Runs commands as root: the user is root, or sudo lets it.

    Args:
        target: Where it is.
        login: The connection.
        prefix: Words that make the next ones run as root.
        password: For ``sudo -S``; None where none is asked for.
    """

    is_folder = False

    def __init__(self, target: SshTarget, login: Login, prefix: Sequence[str], password: str | None) -> None:
        self.target, self.login, self.name = target, login, target.name
        self._prefix, self._password = tuple(prefix), password

    def shown(self, path: str) -> str:
        """The board's own path."""
        return path

    async def run(
        self, command: Sequence[str], *, stdin: bytes = b"", deadline_s: float = DEADLINE_S, user: str = "root"
    ) -> Ran:
        """Run a command to its end, as root or as another user of the board."""
        as_user = () if user == "root" else ("runuser", "-u", user, "--", "env", f"HOME={STATE}")
        limit = ("timeout", "-k", "5", f"{deadline_s:.0f}")
        words = (*self._prefix, "env", *_ENVIRONMENT, *limit, *as_user, *command)
        secret = b"" if self._password is None else self._password.encode() + b"\n"
        # The board's own `timeout` ends what runs there; this one is for a board that has gone.
        ran = await run_on(self.login.connection, self.name, shlex.join(words), secret + stdin, deadline_s + 60.0)
        if ran.status in _TIMED_OUT:
            raise CommandError(self.name, f"{_shown(command)} did not end within {deadline_s:.0f} s", AGAIN)
        return ran

    async def read(self, path: str, limit_bytes: int = 1 << 20) -> bytes | None:
        """A file's bytes; None where there is none."""
        ran = await self._sh(_READ, path, str(limit_bytes))
        return None if ran.status == _NOT_THERE else self._must(ran, f"read {path}").out

    async def entries(self, folder: str) -> Mapping[str, Entry]:
        """What a folder holds."""
        ran = await self._sh(_ENTRIES, folder)
        return {} if ran.status == _NOT_THERE else dict(_entries(self._must(ran, f"read {folder}").out))

    async def entry(self, path: str) -> Entry | None:
        """One name; links are not followed."""
        ran = await self._sh(_ENTRY, path)
        return None if ran.status == _NOT_THERE else _entries(self._must(ran, f"read {path}").out)[0][1]

    async def digest(self, path: str) -> str | None:
        """SHA-256 of a file."""
        ran = await self._sh(_DIGEST, path, deadline_s=300.0)
        return None if ran.status == _NOT_THERE else self._must(ran, f"read {path}").text[:64]

    async def write(self, path: str, data: bytes, *, mode: int = 0o644, owner: str = "root") -> None:
        """Give a file new content, durably and in one step."""
        words = (path, f"{mode:o}", f"{owner}:", str(len(data)))
        self._must(await self._sh(_WRITE, *words, stdin=data), f"write {path}")

    async def make_folder(self, path: str, *, mode: int = 0o755, owner: str = "root") -> None:
        """Make a folder and its parents."""
        self._must(await self._sh(_FOLDER, path, f"{mode:o}", f"{owner}:"), f"create {path}")

    async def link(self, path: str, target: str) -> None:
        """Point a link elsewhere in one step."""
        self._must(await self._sh(_LINK, path, target), f"link {path}")

    async def remove(self, path: str) -> None:
        """Remove a file, a link or a folder with everything in it."""
        self._must(await self._sh(_REMOVE, path, deadline_s=300.0), f"remove {path}")

    async def put(self, source: Path, path: str, *, mode: int = 0o644, on_sent: Sent | None = None) -> int:
        """Bring a file to the board; half of it that is there already is not sent again."""
        data = await asyncio.to_thread(source.read_bytes)
        wanted = hashlib.sha256(data).hexdigest()
        if await self.digest(path) == wanted:
            return 0
        partial = f"{path}.part"
        words = self._must(await self._sh(_PARTIAL, partial, deadline_s=300.0), f"read {partial}").text.split()
        held = int(words[0])
        if held and (held > len(data) or hashlib.sha256(data[:held]).hexdigest() != words[1]):
            await self.remove(partial)
            held = 0
        left = memoryview(data)[held:]
        deadline_s = DEADLINE_S + len(left) / _LEAST_RATE_BYTES_S
        ran = await self._sh(
            _APPEND,
            partial,
            str(held),
            stdin=left,
            deadline_s=deadline_s,
            on_sent=(lambda sent: on_sent(held + sent, len(data))) if on_sent else None,
        )
        self._must(ran, f"write {path}")
        finish = await self._sh(_FINISH, partial, path, f"{mode:o}", wanted, deadline_s=300.0)
        self._must(finish, f"write {path}")
        return len(left)

    async def close(self) -> None:
        """End the connection."""
        self.login.connection.close()
        try:
            await asyncio.wait_for(self.login.connection.wait_closed(), 5.0)
        except (TimeoutError, OSError):
            self.login.connection.abort()

    async def _sh(
        self,
        script: str,
        *words: str,
        stdin: bytes | memoryview = b"",
        deadline_s: float = DEADLINE_S,
        on_sent: Any = None,
    ) -> Ran:
        command = ("timeout", "-k", "5", f"{deadline_s:.0f}", "sh", "-c", script, "sh", *words)
        line = shlex.join((*self._prefix, "env", *_ENVIRONMENT, *command))
        secret = b"" if self._password is None else self._password.encode() + b"\n"
        ran = await run_on(self.login.connection, self.name, line, secret, deadline_s + 60.0, stdin, on_sent)
        if ran.status in _TIMED_OUT:
            raise CommandError(self.name, f"a command did not end within {deadline_s:.0f} s", AGAIN)
        return ran

    def _must(self, ran: Ran, what: str) -> Ran:
        if ran.status == 0:
            return ran
        if ran.status in (45, 46):
            raise LinkLostError(self.name, f"could not {what}: it did not arrive whole", AGAIN)
        raise failure(self.name, what, ran)


def failure(board: str, what: str, ran: Ran) -> CommandError | BoardDiskError:
    """The named error for a command that failed on a board.

    Args:
        board: Its name.
        what: What was to be done, as a verb with its object.
        ran: What became of it.
    """
    said = f"{ran.err}\n{ran.text}"
    if "No space left" in said or "Disk quota exceeded" in said or "Errno 28" in said:
        return BoardDiskError(board, f"could not {what}: its disk is full", "make room there: sudo apt clean; df -h /")
    if "Read-only file system" in said:
        return BoardDiskError(
            board, f"could not {what}: its disk is read-only", "ssh there: dmesg | tail; a dying card?"
        )
    return CommandError(board, f"could not {what}: {ran.last_words or f'status {ran.status}'}", "see the message")


async def open_board(target: SshTarget, keys: HostKeys, secrets: Secrets, *, config: str | None = None) -> SshBoard:
    """Log in and find out how to be root.

    Raises:
        BoardError: Not reachable, another machine, no login, no rights.
    """
    login = await log_in(target, keys, secrets, config=config)
    board = SshBoard(target, login, (), None)
    try:
        if (await run_on(board.login.connection, board.name, "id -u", b"", DEADLINE_S)).text == "0":
            return board
        # -k: a ticket that is still fresh would make sudo take the first line for the command's own input.
        if (await run_on(board.login.connection, board.name, "sudo -k -n true", b"", DEADLINE_S)).status == 0:
            return SshBoard(target, login, ("sudo", "-n", "--"), None)
        password = await _sudo_password(board, secrets)
        return SshBoard(target, login, ("sudo", "-k", "-S", "-p", "", "--"), password)
    except BaseException:
        await board.close()
        raise


async def _sudo_password(board: SshBoard, secrets: Secrets) -> str:
    user = board.login.user
    if (await run_on(board.login.connection, board.name, "command -v sudo", b"", DEADLINE_S)).status != 0:
        raise NoRightsError(board.name, f"{user} is not root, and there is no sudo", "name root: ssh://root@HOST")
    for attempt in range(_TRIES):
        given = secrets.password if attempt == 0 and secrets.password else None
        given = given or await secrets.get(f"sudo password of {user} on {board.name}: ")
        if given is None:
            raise NoRightsError(
                board.name,
                f"sudo asks {user} for a password, and nobody is here to type it",
                "run this on a terminal, or on the board: sudo visudo -f /etc/sudoers.d/edgekit",
            )
        ran = await run_on(
            board.login.connection, board.name, "sudo -k -S -p '' true", given.encode() + b"\n", DEADLINE_S
        )
        if ran.status == 0:
            return given
        if "not in the sudoers" in ran.err or "not allowed" in ran.err:
            break
    raise NoRightsError(board.name, f"sudo does not let {user} become root", f"on the board: usermod -aG sudo {user}")


def _entries(data: bytes) -> list[tuple[str, Entry]]:
    found = []
    for record in data.decode("utf-8", "replace").split("\0")[:-1]:
        name, kind, size, mode, owner, changed, target = record.split("\t", 6)
        entry = Entry(_KINDS.get(kind, "other"), int(size), int(mode, 8), owner, int(float(changed) * 1e9), target)
        found.append((name, entry))
    return found


def _shown(command: Sequence[str]) -> str:
    return " ".join(command)[:80]

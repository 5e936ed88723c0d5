"""One command on a board, on a channel of its own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from edgekit.flashing.board import Ran
from edgekit.flashing.errors import LinkLostError
from edgekit.flashing.login import load_asyncssh

if TYPE_CHECKING:
    import asyncssh as ssh

AGAIN = "run the same command again: it goes on where it stopped"
_CHUNK_BYTES = 64 << 10


async def run_on(
    connection: ssh.SSHClientConnection,
    board: str,
    line: str,
    stdin: bytes,
    deadline_s: float,
    more: bytes | memoryview = b"",
    on_sent: Any = None,
) -> Ran:
    """Run a line of shell to its end.

    Args:
        connection: asyncssh's.
        board: Its name.
        line: Quoted already.
        stdin: What it reads first.
        deadline_s: When the board is given up.
        more: What it reads then, in pieces.
        on_sent: Told how many bytes of `more` went out.

    Raises:
        LinkLostError: The connection ended first, or nothing came back in time.
    """
    asyncssh = load_asyncssh()
    try:
        async with asyncio.timeout(deadline_s):
            process = await connection.create_process(line, encoding=None)
            feeding = asyncio.ensure_future(_feed(process, stdin, more, on_sent))
            try:
                done = await process.wait()
            finally:
                feeding.cancel()
                await asyncio.gather(feeding, return_exceptions=True)
    except TimeoutError as cause:
        raise LinkLostError(board, f"does not answer any more (waited {deadline_s:.0f} s)", AGAIN) from cause
    except (OSError, asyncssh.Error) as cause:
        raise LinkLostError(board, f"the connection was lost ({cause})", AGAIN) from cause
    if done.returncode is None or done.exit_status is None:
        if done.exit_signal:
            return Ran(128, _bytes(done.stdout), f"killed by {done.exit_signal[0]}")
        raise LinkLostError(board, "the connection was lost", AGAIN)
    return Ran(int(done.exit_status), _bytes(done.stdout), _bytes(done.stderr).decode("utf-8", "replace"))


def _bytes(data: bytes | str | None) -> bytes:
    return data.encode() if isinstance(data, str) else data or b""


async def _feed(process: Any, stdin: bytes, more: bytes | memoryview, on_sent: Any) -> None:
    try:
        if stdin:
            process.stdin.write(stdin)
        sent = 0
        while sent < len(more):
            chunk = bytes(more[sent : sent + _CHUNK_BYTES])
            process.stdin.write(chunk)
            await process.stdin.drain()
            sent += len(chunk)
            if on_sent:
                on_sent(sent)
        process.stdin.write_eof()
    except (OSError, BrokenPipeError):
        pass  # The command ended without reading all of it; its status says why.

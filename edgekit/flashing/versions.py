"""How far apart host and board may be; the rules stand in docs/guide/flash.md."""

from __future__ import annotations

from edgekit.flashing.errors import RuntimeVersionError

INSTALL, UPDATE, SAME, KEEP = "install", "update", "same", "keep"


def judge_versions(board: str, here: str, there: str) -> str:
    """Decide what becomes of a board's runtime.

    Args:
        board: Its name.
        here: Version of the device package on this machine.
        there: On the board; empty without.

    Returns:
        ``install``, ``update``, ``same`` or ``keep``.

    Raises:
        RuntimeVersionError: The board is newer by a whole step: this machine may not understand what it says.
    """
    if not there:
        return INSTALL
    mine, its = _numbers(here), _numbers(there)
    if its <= mine:
        return UPDATE if its < mine else SAME
    # Before 1.0 the second number is the step.
    step = 2 if its[0] == 0 else 1
    if its[:step] > mine[:step]:
        raise RuntimeVersionError(
            board,
            f"runs edgekit-device {there}; this machine has {here}",
            f"pip install --upgrade 'edgekit>={'.'.join(map(str, its[:step]))}'",
        )
    return KEEP


def _numbers(version: str) -> tuple[int, ...]:
    found = [int("".join(c for c in part if c.isdigit()) or 0) for part in version.split("+")[0].split(".")[:3]]
    return (*found, 0, 0, 0)[:3]

"""Whom a board believes when it updates over the air: the fleet's first root comes with the flash, as its keys do."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from edgekit.flashing.board import ETC, Board
from edgekit.flashing.steps import Step

FOLDER = f"{ETC}/updates"
ROOT = f"{FOLDER}/root.json"


class Releases(NamedTuple):
    """A fleet's repository, for its boards.

    Attributes:
        url: Where they fetch, ending in ``/updates/``.
        roots: Every root it ever had, the newest last; a board finds its way from any of them.
    """

    url: str
    roots: Sequence[bytes]


async def root_steps(board: Board, releases: Releases | None) -> list[Step]:
    """Write the newest root, unless the board believes this repository already.

    Args:
        board: Where.
        releases: Whom it is to believe; None leaves that alone.
    """
    if releases is None or not releases.roots:
        return []
    held = await board.read(ROOT)
    if held in releases.roots:
        return []
    words = "write" if held is None else "replace, for it is of another repository:"
    write = partial(board.write, ROOT, releases.roots[-1])
    return [
        Step("folder", f"create {board.shown(FOLDER)} (mode 0755)", partial(board.make_folder, FOLDER)),
        Step("root", f"{words} {board.shown(ROOT)}: whose updates it believes", write),
    ]

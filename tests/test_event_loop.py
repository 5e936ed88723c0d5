"""A command's work runs to its end also where a loop runs already, as in a notebook."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from edgekit.event_loop import run_to_end


async def where() -> str:
    await asyncio.sleep(0)
    return threading.current_thread().name


async def failing() -> None:
    raise ValueError("as it was")


@pytest.fixture
def plain() -> Iterator[ThreadPoolExecutor]:
    """A thread in which no loop runs: in the tests' own, an earlier test's browser has left its loop."""
    with ThreadPoolExecutor(1, "plain") as executor:
        yield executor


def test_plain_code_keeps_its_own_thread(plain: ThreadPoolExecutor) -> None:
    assert plain.submit(lambda: run_to_end(where())).result() == "plain_0"


def test_under_a_running_loop_the_work_gets_a_thread_and_its_errors_come_back(plain: ThreadPoolExecutor) -> None:
    async def notebook_cell() -> str:
        with pytest.raises(ValueError, match="as it was"):
            run_to_end(failing())
        return run_to_end(where())

    assert plain.submit(lambda: asyncio.run(notebook_cell())).result().startswith("edgekit-event-loop")

"""A command's work runs to its end also where a loop runs already, as in a notebook."""

from __future__ import annotations

import asyncio
import threading

import pytest

from edgekit.event_loop import run_to_end


async def where() -> str:
    await asyncio.sleep(0)
    return threading.current_thread().name


async def failing() -> None:
    raise ValueError("as it was")


def test_plain_code_keeps_its_own_thread() -> None:
    assert run_to_end(where()) == threading.current_thread().name


def test_under_a_running_loop_the_work_gets_a_thread_and_its_errors_come_back() -> None:
    async def notebook_cell() -> str:
        with pytest.raises(ValueError, match="as it was"):
            run_to_end(failing())
        return run_to_end(where())

    assert asyncio.run(notebook_cell()).startswith("edgekit-event-loop")

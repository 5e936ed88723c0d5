"""Run a coroutine to its end from plain code, wherever that code runs."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


def run_to_end(work: Coroutine[Any, Any, T]) -> T:
    """What the coroutine returns.

    A notebook runs an event loop in the caller's thread already, and asyncio allows no second one there: then the
    work gets a thread of its own.

    Args:
        work: A coroutine that nobody awaits.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1, "edgekit-event-loop") as thread:
        return thread.submit(asyncio.run, work).result()

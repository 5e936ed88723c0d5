"""Messages on their way from the network's thread to the one that stores them: bounded, and handed over many at a time.

A queue that is filled and emptied message by message wakes the other thread for each, and each waking costs more than
reading the message.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgekit.fleet.link import Message


class Inbox:
    """Safe for one thread that puts and one that takes.

    Args:
        limit: Most messages in it.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._messages: deque[Message] = deque()
        lock = threading.Lock()
        self._filled, self._emptied = threading.Condition(lock), threading.Condition(lock)

    def put(self, messages: Sequence[Message], timeout_s: float) -> int:
        """Put in what there is room for.

        Args:
            messages: In the order they came.
            timeout_s: Longest wait for room for the first of them.

        Returns:
            How many are in; 0 if there was no room in time.
        """
        with self._emptied:
            self._emptied.wait_for(lambda: len(self._messages) < self._limit, timeout_s)
            some = messages[: self._limit - len(self._messages)]
            self._messages.extend(some)
            self._filled.notify()
            return len(some)

    def take(self, most: int, timeout_s: float = 0.0) -> list[Message]:
        """Take out the oldest; none if none came in time."""
        with self._filled:
            if timeout_s > 0:
                self._filled.wait_for(lambda: self._messages, timeout_s)
            found = [self._messages.popleft() for _ in range(min(most, len(self._messages)))]
            self._emptied.notify()
            return found

    def keep(self, wanted: Callable[[Message], bool]) -> None:
        """Throw away what is not wanted."""
        with self._emptied:
            self._messages = deque(filter(wanted, self._messages))
            self._emptied.notify()

    def waiting(self) -> list[Message]:
        """What is in it now."""
        with self._filled:
            return list(self._messages)

    def __len__(self) -> int:
        return len(self._messages)

# SPDX-License-Identifier: Apache-2.0
"""Whose turn it is to compute: one at a time, in order of arrival.

The native thread pool is shared, so two renderings at once would each take twice as long and use twice the memory.
A plain lock will not do: a training that gives it back and takes it again at once lets nobody else in.
"""

import threading
from collections import deque
from types import TracebackType


class Turns:
    """A lock that is given in the order in which it was asked for; `with turns:` takes a turn."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._taken = False
        self._queue: deque[threading.Event] = deque()

    def __enter__(self) -> "Turns":
        with self._mutex:
            if not self._taken:
                self._taken = True
                return self
            mine = threading.Event()
            self._queue.append(mine)
        mine.wait()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        value: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        with self._mutex:
            if self._queue:
                self._queue.popleft().set()  # handed over without being free in between
            else:
                self._taken = False

    def pass_on(self) -> None:
        """Lets those who wait go first; called in the middle of a long turn."""
        if self._queue:
            self.__exit__()
            self.__enter__()

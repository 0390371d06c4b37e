"""A bounded set of threads for plain functions, with one wake-up of the event loop for all that finished meanwhile."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any

Work = Callable[[], None]
"""Runs in a thread; must not raise."""


class WorkerThreads:
    """Threads are made when they are needed, up to ``threads_max``; work beyond that waits in order."""

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str, threads_max: int) -> None:
        self._loop = loop
        self._name = name
        self._threads_max = threads_max
        self._queue: SimpleQueue[Work | None] = SimpleQueue()
        self._threads = 0
        self._busy = 0  # threads at work, and work that waits for one; counted on the event loop
        self._finished: deque[Callable[[], None]] = deque()
        self._waking = False
        self._lock = Lock()

    @property
    def waiting(self) -> int:
        """Work that no thread is free for."""
        return max(0, self._busy - self._threads_max)

    def submit(self, work: Work, done: Callable[[], None]) -> None:
        """Run ``work`` in a thread, then ``done`` on the event loop. To be called on the event loop."""

        def finish() -> None:
            self._busy -= 1
            done()

        def run() -> None:
            work()
            self.on_loop(finish)

        self._busy += 1
        if self._busy > self._threads and self._threads < self._threads_max:
            self._threads += 1
            Thread(target=self._serve, name=f"{self._name}-{self._threads}", daemon=True).start()
        self._queue.put(run)

    def on_loop(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` on the event loop. To be called in a thread."""
        with self._lock:
            self._finished.append(callback)
            wake = not self._waking
            self._waking = True
        if wake:
            self._wake()

    def close(self) -> None:
        """Threads end when they have finished what they do."""
        for _ in range(self._threads):
            self._queue.put(None)

    def _wake(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._drain)
        except RuntimeError:
            pass  # The event loop is closed: nobody is left who wants to know.

    def _drain(self) -> None:
        with self._lock:
            finished, self._finished = self._finished, deque()
            self._waking = False
        for callback in finished:
            callback()

    def _serve(self) -> None:
        while (work := self._queue.get()) is not None:
            work()


def describe(function: Any) -> str:
    """A name for people of something that can be called."""
    while hasattr(function, "func"):  # functools.partial
        function = function.func
    name: str = getattr(function, "__name__", "") or type(function).__name__
    return name

"""Fires timers: proposes a command when the time of a row of the TIMERS table has come.

::

    ── due ──▶ | in memory: a heap          | horizon | only in the table, read when the heap runs empty |

A timer fires by a command in the log and is gone when that is applied, so it can't be lost or doubled, whatever the
clock does: a jump makes it late or early by the jump. One batch of due timers is in the log's hands at a time.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from typing import Protocol

from holdfast_log.types import NotLeader
from holdfast_partition_processor import tables as t
from holdfast_partition_processor.command import TimerFired
from holdfast_partition_processor.tables import Storage

WINDOW = 4_096
"""So many timers are read at once; twice as many are held at most, the rest stays in the table."""
FIRED_AT_ONCE = 1_024
"""In one turn of the event loop, and before the log has them."""
SLEEP_SECONDS_MAX = 10.0
"""How late a wall clock that was set forward, or a machine that slept, is noticed."""

DUE_BYTES = 8


class SubmitTimer(Protocol):
    """Raises NotLeader, nothing else. ``durable`` is called when the command was applied."""

    def __call__(self, command: TimerFired, durable: Callable[[], None] | None = None) -> None: ...


class TimerService:
    def __init__(self, storage: Storage, clock_ms: Callable[[], int], submit: SubmitTimer) -> None:
        self._storage = storage
        self._clock_ms = clock_ms
        self._submit = submit
        self._loop = asyncio.get_running_loop()
        self._heap: list[bytes] = []  # keys of rows
        self._held: set[bytes] = set()  # the same
        self._horizon: bytes | None = b""  # rows from this key on are only in the table; None: there are none
        self._wake: asyncio.TimerHandle | None = None
        self._wake_ms = 0
        self._firing = False  # a batch is on its way through the log
        self._closed = False

    def start(self) -> None:
        self._refill()
        self._sleep()

    def set(self, due_ms: int, timer: bytes) -> None:
        """A row was put."""
        key = due_ms.to_bytes(DUE_BYTES, "big") + timer
        if key in self._held or (self._horizon is not None and key >= self._horizon):
            return
        heapq.heappush(self._heap, key)
        self._held.add(key)
        if len(self._heap) > 2 * WINDOW:
            self._heap.sort()
            self._horizon = self._heap[WINDOW]
            del self._heap[WINDOW:]
            self._held = set(self._heap)
        if not self._firing and (self._wake is None or due_ms < self._wake_ms):
            self._sleep()

    def close(self) -> None:
        self._closed = True
        if self._wake is not None:
            self._wake.cancel()

    def _refill(self) -> None:
        assert not self._heap
        assert self._horizon is not None
        self._heap = [key for key, _ in self._storage.scan(t.TIMERS, b"", self._horizon, WINDOW)]
        self._held = set(self._heap)
        self._horizon = self._heap[-1] + b"\x00" if len(self._heap) == WINDOW else None

    def _sleep(self) -> None:
        """Until the soonest is due."""
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
        if self._heap and not self._closed:
            self._wake_ms = int.from_bytes(self._heap[0][:DUE_BYTES], "big")
            seconds = min(max(0.0, (self._wake_ms - self._clock_ms()) / 1000), SLEEP_SECONDS_MAX)
            self._wake = self._loop.call_later(seconds, self._fire)

    def _fire(self) -> None:
        self._wake = None
        commands = self._take_due()
        if not commands:
            self._sleep()
            return
        self._firing = True
        try:
            for command in commands[:-1]:
                self._submit(command)
            self._submit(commands[-1], self._fired)
        except NotLeader:
            self.close()  # the next leader reads them from the table

    def _fired(self) -> None:
        """The batch is applied, its rows are gone."""
        self._firing = False
        if not self._closed:
            self._sleep()

    def _take_due(self) -> list[TimerFired]:
        now = self._clock_ms()
        due: list[TimerFired] = []
        while len(due) < FIRED_AT_ONCE:
            if not self._heap:
                if self._horizon is None:
                    break
                self._refill()
                continue
            due_ms = int.from_bytes(self._heap[0][:DUE_BYTES], "big")
            if due_ms > now:
                break
            key = heapq.heappop(self._heap)
            self._held.discard(key)
            if self._storage.get(t.TIMERS, b"", key) is not None:  # else the invocation did without it
                due.append(TimerFired(due_ms, key[DUE_BYTES:]))
        return due

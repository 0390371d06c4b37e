"""The soonest timers of a partition in memory, all of them in the TIMERS table.

At most `WINDOW` are held; when those have fired the next are read from the table. A timer fires by a command in the
log, so a clock that jumps makes it early or late by the jump, and never lost or doubled.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable

from holdfast_partition_processor import tables as t
from holdfast_partition_processor.command import TimerFired
from holdfast_partition_processor.tables import Storage

WINDOW = 4_096
FIRED_PER_TURN = 512
SLEEP_SECONDS_MAX = 30.0
"""A wall clock that was set forward is noticed within this time."""


class Timers:
    def __init__(self, storage: Storage, clock_ms: Callable[[], int], fire: Callable[[TimerFired], None]) -> None:
        self._storage = storage
        self._clock_ms = clock_ms
        self._fire = fire
        self._heap: list[bytes] = []
        self._horizon: bytes | None = None  # rows from here on are only in the table; None: none are
        self._handle: asyncio.TimerHandle | None = None
        self._armed_for = 0
        self._closed = False

    def start(self) -> None:
        self._refill(b"")
        self._arm()

    def set(self, due_ms: int, timer: bytes) -> None:
        key = due_ms.to_bytes(8, "big") + timer
        if self._horizon is not None and key >= self._horizon:
            return
        heapq.heappush(self._heap, key)
        if len(self._heap) > 2 * WINDOW:
            self._heap = heapq.nsmallest(WINDOW, self._heap)
            self._horizon = self._heap[-1] + b"\0"
        if self._handle is None or due_ms < self._armed_for:
            self._arm()

    def close(self) -> None:
        self._closed = True
        if self._handle is not None:
            self._handle.cancel()

    def _refill(self, start: bytes) -> None:
        self._heap = [key for key, _ in self._storage.scan(t.TIMERS, b"", start, WINDOW)]
        self._horizon = self._heap[-1] + b"\0" if len(self._heap) == WINDOW else None

    def _arm(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        if not self._heap or self._closed:
            return
        self._armed_for = int.from_bytes(self._heap[0][:8], "big")
        delay = min(max(0.0, (self._armed_for - self._clock_ms()) / 1000), SLEEP_SECONDS_MAX)
        self._handle = asyncio.get_running_loop().call_later(delay, self._due)

    def _due(self) -> None:
        self._handle = None
        now = self._clock_ms()
        for _ in range(FIRED_PER_TURN):
            if not self._heap:
                if self._horizon is None:
                    break
                self._refill(self._horizon)
                continue
            due_ms = int.from_bytes(self._heap[0][:8], "big")
            if due_ms > now:
                break
            key = heapq.heappop(self._heap)
            self._fire(TimerFired(due_ms, key[8:]))
        self._arm()

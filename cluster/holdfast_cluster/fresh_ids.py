"""Fresh invocation ids: 24 bytes that no other node gives out, without a system call each.

::

    | random u64        | milliseconds u48 | count in the millisecond u16 | random u64 |
      partition key       so that later ids sort behind earlier ones

The random bytes come from the operating system, many at a time; nobody can guess one id from another.
"""

from __future__ import annotations

import os
from collections.abc import Callable

RANDOM_BYTES = 16
POOL_BYTES = 256 * RANDOM_BYTES


class FreshIds:
    def __init__(self, clock_ms: Callable[[], int], random_bytes: Callable[[int], bytes] = os.urandom) -> None:
        self._clock_ms = clock_ms
        self._random_bytes = random_bytes
        self._pool = b""
        self._used = 0
        self._last = 0  # milliseconds and count as one number

    def __call__(self) -> bytes:
        used = self._used
        if used == len(self._pool):
            self._pool, used = self._random_bytes(POOL_BYTES), 0
        middle = used + 8
        self._used = end = used + RANDOM_BYTES
        # A clock that goes back, or more ids than fit into a millisecond, lets the time part run ahead of the clock.
        self._last = max(self._last + 1, self._clock_ms() << 16)
        pool = self._pool
        return pool[used:middle] + self._last.to_bytes(8, "big") + pool[middle:end]

"""The end of a log that is in memory: entries from their proposal until they were handed over.

::

      in the journal only      first        durable      taken        last
    . . . . . . . . . . . . . .|=============|------------|............|
                                durable       on the way   not given to
                                              to the disk  the disk yet
"""

from __future__ import annotations

from holdfast_log.types import Entry


class Unstable:
    def __init__(self, last: int) -> None:
        self.last = last
        self.durable = last
        self._taken = last
        self._first = last + 1  # index of the first of _entries
        self._entries: list[Entry] = []

    @property
    def first(self) -> int:
        """Index of the first entry in memory; ``last`` + 1 when there is none."""
        return self._first

    @property
    def untaken(self) -> bool:
        return self._taken < self.last

    def append(self, entry: Entry) -> None:
        assert entry.index == self.last + 1
        self._entries.append(entry)
        self.last = entry.index

    def take(self, bytes_max: int) -> tuple[Entry, ...]:
        """The next entries for the disk: as many as fit ``bytes_max``, at least one unless that is 0."""
        end = position = self._taken + 1 - self._first
        size = 0
        while end < len(self._entries) and size < bytes_max:
            size += len(self._entries[end].payload)
            end += 1
        self._taken += end - position
        return tuple(self._entries[position:end])

    def became_durable(self, index: int) -> None:
        assert self.durable < index <= self._taken, "entries become durable in order, after they were taken"
        self.durable = index

    def slice(self, start: int, end: int) -> tuple[Entry, ...]:
        """Entries ``start`` to ``end``, inclusive."""
        assert self._first <= start
        return tuple(self._entries[start - self._first : end + 1 - self._first])

    def release(self, index: int) -> None:
        """Entries up to ``index`` were handed over and are not needed in memory any more."""
        count = index + 1 - self._first
        if count > 0:
            assert index <= self.durable, "only what is durable may be forgotten"
            del self._entries[:count]
            self._first = index + 1

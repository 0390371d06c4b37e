"""Where the entries of one partition lie, 20 bytes of memory each, and what else the journal knows about it.

::

    trimmed   first                    last
    .........|=====|=====|=====|=======|
              terms, places and lengths at position index - first
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator

from holdfast_log.record import ENTRY_KIND_MAX, FLAG_MOVED, Record, RecordKind, bounds_last_index

MISSING = 0
"""Place of an entry that was written to some segment which the recovery scan has not come across (yet)."""

_SEGMENT_SHIFT = 32  # a place is segment << 32 | offset; segments are far smaller than 4 GiB


class PartitionIndex:
    """What is durable of one partition. ``live_bytes`` is shared by all partitions: per segment, the bytes of the
    entries in it that are still needed."""

    def __init__(self, live_bytes: dict[int, int]) -> None:
        self.first = 1
        self.trimmed_term = 0
        self.term = 0
        self.vote = ""
        self.commit = 0
        self._live = live_bytes
        self._terms = array("Q")
        self._places = array("Q")
        self._lengths = array("I")

    @property
    def last(self) -> int:
        return self.first + len(self._places) - 1

    @property
    def last_term(self) -> int:
        return self._terms[-1] if self._terms else self.trimmed_term

    def locate(self, index: int) -> tuple[int, int, int, int]:
        """(term, segment, offset, length) of an entry between first and last."""
        position = index - self.first
        place = self._places[position]
        return self._terms[position], place >> _SEGMENT_SHIFT, place & 0xFFFFFFFF, self._lengths[position]

    def take(self, record: Record, segment: int, offset: int, length: int) -> None:
        """``record`` is durable at this place."""
        kind = record.kind
        if kind <= ENTRY_KIND_MAX:
            put = self.move if record.flags & FLAG_MOVED else self.append
            put(record.term, record.index, segment, offset, length)
        elif kind == RecordKind.HARD_STATE:
            self.term, self.commit, self.vote = record.term, record.index, record.payload.decode()
        elif kind == RecordKind.TRIM:
            self.trim(record.index, record.term)
        elif kind == RecordKind.BOUNDS:
            self.trim(record.index, record.term)
            self.extend_to(bounds_last_index(record))

    def append(self, term: int, index: int, segment: int, offset: int, length: int) -> None:
        """An entry that follows ``last``, or replaces an entry and all that follow it (Raft, section 5.3)."""
        position = index - self.first
        if position < 0:
            return  # trimmed while it was on its way to the disk
        assert position <= len(self._places), f"entry {index} follows entry {self.last}"
        if position < len(self._places):
            self._cut(position)
        self._terms.append(term)
        self._places.append(segment << _SEGMENT_SHIFT | offset)
        self._lengths.append(length)
        self._live[segment] = self._live.get(segment, 0) + length

    def move(self, term: int, index: int, segment: int, offset: int, length: int) -> None:
        """The entry lies at another place from now on. Ignored when it is not there (any more)."""
        position = index - self.first
        if not 0 <= position < len(self._places):
            return
        old = self._places[position]
        if old != MISSING:
            if self._terms[position] != term:
                return  # replaced by another entry after the copy was made
            self._live[old >> _SEGMENT_SHIFT] -= length
        self._terms[position] = term
        self._places[position] = segment << _SEGMENT_SHIFT | offset
        self._lengths[position] = length
        self._live[segment] = self._live.get(segment, 0) + length

    def trim(self, index: int, term: int) -> None:
        """Forget the entries up to and including ``index``."""
        if index < self.first:
            return
        count = min(index - self.first + 1, len(self._places))
        self._release(0, count)
        del self._terms[:count], self._places[:count], self._lengths[:count]
        self.first = index + 1
        self.trimmed_term = term

    def extend_to(self, last: int) -> None:
        """Entries up to ``last`` were written somewhere before this point of the scan."""
        while self.last < last:
            self._terms.append(0)
            self._places.append(MISSING)
            self._lengths.append(0)

    def first_missing(self) -> int | None:
        try:
            return self.first + self._places.index(MISSING)
        except ValueError:
            return None

    def entries_in(self, segment: int) -> Iterator[int]:
        """Indexes of the entries that lie in ``segment``."""
        low, high = segment << _SEGMENT_SHIFT, (segment + 1) << _SEGMENT_SHIFT
        for position, place in enumerate(self._places):
            if low <= place < high:
                yield self.first + position

    def _cut(self, position: int) -> None:
        self._release(position, len(self._places))
        del self._terms[position:], self._places[position:], self._lengths[position:]

    def _release(self, start: int, end: int) -> None:
        live = self._live
        for place, length in zip(self._places[start:end], self._lengths[start:end], strict=True):
            if place != MISSING:
                live[place >> _SEGMENT_SHIFT] -= length

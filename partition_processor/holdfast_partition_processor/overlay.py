"""What changed since the last checkpoint: row objects in memory, not encoded, over what the store holds on disk.

::

    active    what is being applied            a read looks here first,
    frozen    what a checkpoint is writing     then here,
    LMDB      the last durable checkpoint      then there

A row that is there hides the one below, and so does a tombstone. A group that was deleted as a whole hides everything
below it (`dropped`); rows that were put into it afterwards stand above that. Rows are immutable, so a frozen overlay
may be read by the thread that writes it while the event loop reads it too.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterator
from typing import Any, Final

from holdfast_partition_processor.command import Attach, Deployment, InvocationResponse, Invoke, NotifySignal
from holdfast_partition_processor.invocation import Invocation
from holdfast_partition_processor.tables import Frame, Promise

ROW_BYTES = 200
"""What a row costs beside its payload: key, dictionary entry, object headers."""

FEW = 32
"""So many keys are cheaper to insert one by one into a long sorted list than by merging."""


class _Tombstone:
    def __repr__(self) -> str:
        return "TOMBSTONE"


TOMBSTONE: Final[Any] = _Tombstone()
MISSING: Final[Any] = object()


class GroupOverlay:
    """The changed rows of one group. ``rows`` maps sub to row or TOMBSTONE."""

    __slots__ = ("_keys", "_late", "_version", "dropped", "floor", "rows")

    def __init__(self, dropped: bool = False) -> None:
        self.rows: dict[bytes, Any] = {}
        self.dropped = dropped
        self.floor = b""
        """No row that is alive, in this overlay or below, has a smaller sub. Without it, taking the first of a long
        queue again and again would walk over the tombstones of all that were taken before."""
        self._keys: list[bytes] | None = None  # sorted; only from the first scan on
        self._late: list[bytes] = []  # not sorted in yet
        self._version = 0  # counts changes of _keys other than at its end

    def put(self, sub: bytes, row: Any) -> Any:
        """Returns what stood there in this overlay, or MISSING."""
        rows = self.rows
        before = rows.get(sub, MISSING)
        rows[sub] = row
        if sub < self.floor and row is not TOMBSTONE:
            self.floor = sub
        if before is MISSING and self._keys is not None:
            if not self._late and (not self._keys or sub > self._keys[-1]):
                self._keys.append(sub)
            else:
                self._late.append(sub)
        return before

    def ascending(self, start: bytes) -> Iterator[tuple[bytes, Any]]:
        """(sub, row or TOMBSTONE) from ``start`` on. Rows may be put meanwhile."""
        keys = self._sorted()
        version, position = self._version, bisect_left(keys, start)
        last: bytes | None = None
        while True:
            if self._late or version != self._version:
                keys = self._sorted()
                version = self._version
                position = bisect_left(keys, start) if last is None else bisect_right(keys, last)
            if position == len(keys):
                return
            last = keys[position]
            position += 1
            yield last, self.rows[last]

    def _sorted(self) -> list[bytes]:
        if self._keys is None:
            self._keys = sorted(self.rows)
        elif self._late:
            if len(self._late) <= FEW:
                for sub in self._late:
                    insort(self._keys, sub)
            else:
                self._keys += self._late
                self._keys.sort()  # a sorted list and a short tail: merged, not sorted anew
            self._late = []
            self._version += 1
        return self._keys


class Overlay:
    """The changed rows of all tables, with an estimate of the memory that they take."""

    def __init__(self, tables: tuple[str, ...]) -> None:
        self.tables: dict[str, dict[bytes, GroupOverlay]] = {name: {} for name in tables}
        self.bytes = 0

    def put(self, table: str, group: bytes, sub: bytes, row: Any) -> None:
        groups = self.tables[table]
        overlay = groups.get(group)
        if overlay is None:
            overlay = groups[group] = GroupOverlay()
        before = overlay.put(sub, row)
        if before is MISSING:
            self.bytes += ROW_BYTES + approximate_bytes(row)
        else:
            self.bytes += approximate_bytes(row) - approximate_bytes(before)

    def delete(self, table: str, group: bytes, sub: bytes) -> None:
        self.put(table, group, sub, TOMBSTONE)

    def delete_group(self, table: str, group: bytes) -> None:
        groups = self.tables[table]
        before = groups.get(group)
        if before is not None:
            self.bytes -= sum(ROW_BYTES + approximate_bytes(row) for row in before.rows.values())
        if before is None or not before.dropped:
            self.bytes += ROW_BYTES
        groups[group] = GroupOverlay(dropped=True)

    def is_empty(self) -> bool:
        return not any(self.tables.values())


def merge(sources: list[Iterator[tuple[bytes, Any]]]) -> Iterator[tuple[bytes, Any]]:
    """One ascending sequence of several, the first source that has a key hiding the others."""
    if len(sources) == 1:
        yield from sources[0]
        return
    heads = [next(source, None) for source in sources]
    while True:
        smallest = min((head[0] for head in heads if head is not None), default=None)
        if smallest is None:
            return
        winner: tuple[bytes, Any] | None = None
        for place, head in enumerate(heads):
            if head is not None and head[0] == smallest:
                winner = winner or head
                heads[place] = next(sources[place], None)
        assert winner is not None
        yield winner


def approximate_bytes(row: Any) -> int:
    """Memory of a row's payload, roughly: what grows with what users send is counted, the rest is a constant."""
    return _SIZE.get(type(row), _some)(row)


def _some(_: Any) -> int:
    return 100


def _promise(row: Promise) -> int:
    return 100 + len(row.value or b"") + 200 * len(row.waiting)


_SIZE: dict[type, Callable[[Any], int]] = {
    _Tombstone: lambda _: 0,
    bytes: len,
    int: lambda _: 32,
    Frame: lambda row: 100 + len(row.raw),
    Invocation: lambda row: 800 + 200 * len(row.sinks),
    Promise: _promise,
    Invoke: lambda row: 600 + len(row.input),
    InvocationResponse: lambda row: 200 + len(row.notification),
    NotifySignal: lambda row: 200 + len(row.notification),
    Attach: lambda _: 200,
    Deployment: lambda row: 10_000 * (1 + len(row.services)),
}

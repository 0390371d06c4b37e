"""Tables in memory: the twin of the LMDB store, for tests and simulation."""

from __future__ import annotations

import hashlib
from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import Any, TypeVar

from holdfast_partition_processor.tables import ALL_TABLES, Storage, Table

V = TypeVar("V")


class MemoryStorage:
    """Implements `tables.Storage`."""

    def __init__(self) -> None:
        self._tables: dict[str, dict[bytes, _Group]] = {table.name: {} for table in ALL_TABLES}

    def get(self, table: Table[V], group: bytes, sub: bytes) -> V | None:
        found = self._tables[table.name].get(group)
        if found is None:
            return None
        row: V | None = found.rows.get(sub)
        return row

    def put(self, table: Table[V], group: bytes, sub: bytes, row: V) -> None:
        groups = self._tables[table.name]
        found = groups.get(group)
        if found is None:
            found = groups[group] = _Group()
        found.put(sub, row)

    def delete(self, table: Table[Any], group: bytes, sub: bytes) -> None:
        groups = self._tables[table.name]
        found = groups.get(group)
        if found is not None:
            found.delete(sub)
            if not found.rows:
                del groups[group]

    def delete_group(self, table: Table[Any], group: bytes) -> None:
        self._tables[table.name].pop(group, None)

    def scan(
        self, table: Table[V], group: bytes, start: bytes = b"", limit: int | None = None
    ) -> Iterator[tuple[bytes, V]]:
        found = self._tables[table.name].get(group)
        return iter(()) if found is None else found.scan(start, limit)

    def scan_groups(self, table: Table[Any], prefix: bytes, start: bytes = b"") -> Iterator[bytes]:
        groups = self._tables[table.name]
        return iter(sorted(group for group in groups if group >= start and group.startswith(prefix)))


class _Group:
    """Rows of one group. Their order is kept from the first scan on: most groups are never scanned."""

    __slots__ = ("_subs", "rows")

    def __init__(self) -> None:
        self.rows: dict[bytes, Any] = {}
        self._subs: list[bytes] | None = None

    def put(self, sub: bytes, row: Any) -> None:
        if self._subs is not None and sub not in self.rows:
            insort(self._subs, sub)
        self.rows[sub] = row

    def delete(self, sub: bytes) -> None:
        if self.rows.pop(sub, None) is not None and self._subs is not None:
            del self._subs[bisect_left(self._subs, sub)]

    def scan(self, start: bytes, limit: int | None) -> Iterator[tuple[bytes, Any]]:
        """As of now: the pairs are taken before the first is handed out."""
        if self._subs is None:
            self._subs = sorted(self.rows)
        first = bisect_left(self._subs, start)
        last = None if limit is None else first + limit
        rows = self.rows
        return iter([(sub, rows[sub]) for sub in self._subs[first:last]])


def digest(storage: Storage) -> str:
    """A hash over all rows of all tables: equal for replicas that applied the same log, whatever stores them."""
    state = hashlib.sha256()
    for table in ALL_TABLES:
        encoder = table.encoder()
        for group in storage.scan_groups(table, b""):
            for sub, row in storage.scan(table, group):
                for part in (table.name.encode(), group, sub, encoder.encode(row)):
                    state.update(len(part).to_bytes(4, "big"))
                    state.update(part)
    return state.hexdigest()

"""Tables in memory: the twin of the LMDB store, for tests and simulation."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, TypeVar

from holdfast_partition_processor.tables import ALL_TABLES, Storage, Table

V = TypeVar("V")


class MemoryStorage:
    def __init__(self) -> None:
        self._rows: dict[str, dict[bytes, dict[bytes, Any]]] = {table.name: {} for table in ALL_TABLES}

    def get(self, table: Table[V], group: bytes, sub: bytes) -> V | None:
        rows: dict[bytes, V] = self._rows[table.name].get(group, {})
        return rows.get(sub)

    def put(self, table: Table[V], group: bytes, sub: bytes, row: V) -> None:
        self._rows[table.name].setdefault(group, {})[sub] = row

    def delete(self, table: Table[Any], group: bytes, sub: bytes) -> None:
        rows = self._rows[table.name].get(group)
        if rows is not None:
            rows.pop(sub, None)
            if not rows:
                del self._rows[table.name][group]

    def delete_group(self, table: Table[Any], group: bytes) -> None:
        self._rows[table.name].pop(group, None)

    def scan(
        self, table: Table[V], group: bytes, start: bytes = b"", limit: int | None = None
    ) -> Iterator[tuple[bytes, V]]:
        rows: dict[bytes, V] = self._rows[table.name].get(group, {})
        subs = sorted(sub for sub in rows if sub >= start)
        return iter([(sub, rows[sub]) for sub in subs[:limit]])

    def scan_groups(self, table: Table[Any], prefix: bytes, start: bytes = b"") -> Iterator[bytes]:
        groups = self._rows[table.name]
        return iter(sorted(group for group in groups if group.startswith(prefix) and group >= start))


def digest(storage: Storage) -> str:
    """A hash over all rows: equal on replicas that applied the same log."""
    state = hashlib.sha256()
    for table in ALL_TABLES:
        encoder = table.encoder()
        for group in storage.scan_groups(table, b""):
            for sub, row in storage.scan(table, group):
                for part in (table.name.encode(), group, sub, encoder.encode(row)):
                    state.update(len(part).to_bytes(4, "big") + part)
    return state.hexdigest()

"""What changed since the last checkpoint, in memory, above the LMDB file."""

from __future__ import annotations

from typing import Any, Final

GONE: Final = object()
"""In place of a row: deleted since the layer below was written."""

Rows = dict[bytes, Any]


class Overlay:
    """Rows as objects by table, group and sub key; encoding waits until the checkpoint, so that a row that is made and
    deleted between two checkpoints is never encoded at all."""

    __slots__ = ("cleared", "rows", "tables")

    def __init__(self, names: tuple[str, ...]) -> None:
        self.tables: dict[str, dict[bytes, Rows]] = {name: {} for name in names}
        self.cleared: dict[str, set[bytes]] = {name: set() for name in names}
        self.rows = 0  # puts and deletes taken; a measure of memory, not exact

    def put(self, table: str, group: bytes, sub: bytes, row: Any) -> None:
        groups = self.tables[table]
        rows = groups.get(group)
        if rows is None:
            rows = groups[group] = {}
        rows[sub] = row
        self.rows += 1

    def clear_group(self, table: str, group: bytes) -> None:
        self.tables[table].pop(group, None)
        self.cleared[table].add(group)
        self.rows += 1

    def find(self, table: str, group: bytes, sub: bytes) -> Any:
        """The row, GONE, or None when this layer says nothing."""
        rows = self.tables[table].get(group)
        if rows is not None:
            row = rows.get(sub)
            if row is not None:
                return row
        if group in self.cleared[table]:
            return GONE
        return None

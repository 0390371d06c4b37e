"""The tables in memory against a twin that is too simple to be wrong."""

from __future__ import annotations

import random

import pytest

from holdfast_partition_processor.memory_storage import MemoryStorage, digest
from holdfast_partition_processor.tables import INBOX, STATE, Table


class Twin:
    """One flat dict, sorted at each scan."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, bytes, bytes], bytes] = {}

    def scan(self, table: Table[bytes], group: bytes, start: bytes, limit: int | None) -> list[tuple[bytes, bytes]]:
        found = [
            (s, row) for (t, g, s), row in sorted(self.rows.items()) if (t, g) == (table.name, group) and s >= start
        ]
        return found[:limit]

    def groups(self, table: Table[bytes], prefix: bytes, start: bytes) -> list[bytes]:
        found = {g for (t, g, _) in self.rows if t == table.name and g.startswith(prefix) and g >= start}
        return sorted(found)


@pytest.mark.parametrize("seed", range(20))
def test_it_behaves_as_one_sorted_dict(seed: int) -> None:
    print(f"seed {seed}")
    rng, storage, twin = random.Random(seed), MemoryStorage(), Twin()
    names = [b"", b"\0", b"a", b"a\0", b"ab", b"b", b"\xff"]
    for _ in range(400):
        table, group, sub = rng.choice([STATE, INBOX]), rng.choice(names), rng.choice(names)
        match rng.randrange(8):
            case 0 | 1 | 2:
                row = rng.randbytes(2)
                storage.put(table, group, sub, row)
                twin.rows[table.name, group, sub] = row
            case 3 | 4:
                storage.delete(table, group, sub)
                twin.rows.pop((table.name, group, sub), None)
            case 5 if rng.random() < 0.2:
                storage.delete_group(table, group)
                twin.rows = {key: row for key, row in twin.rows.items() if key[:2] != (table.name, group)}
            case 6:
                limit = rng.choice([None, 0, 1, 2])
                assert list(storage.scan(table, group, sub, limit)) == twin.scan(table, group, sub, limit)
            case _:
                assert list(storage.scan_groups(table, group, sub)) == twin.groups(table, group, sub)
        assert storage.get(table, group, sub) == twin.rows.get((table.name, group, sub))


def test_a_scan_outlives_changes() -> None:
    storage = MemoryStorage()
    for number in range(5):
        storage.put(STATE, b"g", bytes([number]), b"x")
    seen = []
    for sub, _ in storage.scan(STATE, b"g"):
        seen.append(sub)
        storage.delete(STATE, b"g", sub)
    assert len(seen) == 5
    assert list(storage.scan_groups(STATE, b"")) == []


def test_the_digest_tells_rows_groups_and_tables_apart() -> None:
    seen = set()
    for table, group, sub, row in [
        (STATE, b"a", b"b", b"c"), (STATE, b"ab", b"", b"c"), (STATE, b"a", b"b", b"d"), (INBOX, b"a", b"b", b"c"),
    ]:  # fmt: skip
        storage = MemoryStorage()
        storage.put(table, group, sub, row)
        seen.add(digest(storage))
        storage.delete(table, group, sub)
        assert digest(storage) == digest(MemoryStorage())
    assert len(seen) == 4

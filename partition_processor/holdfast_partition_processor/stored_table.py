"""One table as it lies in the store: look-ups, ordered scans, and the writing of an overlay.

Every method is handed the transaction, so this module knows nothing of environments, threads or durability. Scans read
chunk by chunk and look for their place again at each, so that they outlive the transaction they began with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from holdfast_partition_processor import row_format as rf
from holdfast_partition_processor.overlay import TOMBSTONE, GroupOverlay
from holdfast_partition_processor.store_errors import StoreCorrupted
from holdfast_partition_processor.tables import Table

CHUNK_ROWS_FIRST = 4
"""Most scans want the first row or a few."""
CHUNK_ROWS_MAX = 256
CHUNK_BYTES_MAX = 1024 * 1024
"""A chunk ends with the row that passes this, so that rows of 32 MiB aren't gathered."""


class StoredTable:
    def __init__(self, table: Table[Any], db: Any, path: str, library_error: type[Exception]) -> None:
        self.name = table.name
        self._db = db
        self._path = path
        self._library_error = library_error  # what LMDB raises when it meets a damaged page
        self._encode = table.encoder().encode
        self._decode = table.decoder().decode

    def get(self, reader: Any, group: bytes, sub: bytes) -> Any | None:
        """Raises StoreCorrupted."""
        key = rf.group_prefix(group) + rf.sub_in_key(sub)
        try:
            value = reader.get(key, db=self._db)
        except self._library_error as error:
            raise StoreCorrupted(self._path, str(error), self.name, key) from error
        if value is None:
            return None
        body = self._checked(key, value)
        if len(sub) > rf.SUB_BYTES_MAX or rf.group_is_hashed(group):
            body = rf.split_long(body)[2]
        return self._row(key, body)

    def scan(self, reader: Callable[[], Any], group: bytes, start: bytes) -> Iterator[tuple[bytes, StoredRow]]:
        """(sub, row still encoded) of one group, ascending, from ``start`` on. ``reader`` gives the transaction of the
        moment. Subs that share a beginning too long for a key are put in order here."""
        prefix = rf.group_prefix(group)
        hashed = rf.group_is_hashed(group)
        cluster: list[tuple[bytes, StoredRow]] = []
        for key, value in self._chunks(reader, prefix, prefix + start[: rf.SUB_BEGIN_BYTES]):
            sub = key[len(prefix) :]
            row = StoredRow(self, key, value, hashed)
            if len(sub) < rf.SUB_BEGIN_BYTES:
                if cluster:
                    yield from sorted(cluster, key=_first)
                    cluster = []
                yield sub, row
                continue
            if len(sub) > rf.SUB_BYTES_MAX:
                row.is_long = True
                sub = rf.split_long(self._checked(key, value))[1]
            if cluster and cluster[-1][0][: rf.SUB_BEGIN_BYTES] != sub[: rf.SUB_BEGIN_BYTES]:
                yield from sorted(cluster, key=_first)
                cluster = []
            if sub >= start:
                cluster.append((sub, row))
        yield from sorted(cluster, key=_first)

    def groups(self, reader: Callable[[], Any], prefix: bytes, start: bytes) -> Iterator[bytes]:
        """Groups that begin with ``prefix``, ascending, from ``start`` on."""
        first, fence = max(prefix, start), rf.group_seek(prefix)
        seek = rf.group_seek(first)
        cluster: list[bytes] = []
        while True:
            try:
                with reader().cursor(self._db) as cursor:
                    found = cursor.set_range(seek)
                    key, value = cursor.item() if found else (b"", b"")
            except self._library_error as error:
                raise StoreCorrupted(self._path, str(error), self.name, seek) from error
            if not found or not key.startswith(fence):
                break
            group, hashed = rf.group_in_key(key)
            if hashed:
                group = rf.split_long(self._checked(key, value))[0]
            seek = rf.after_group(rf.group_prefix(group))
            if cluster and cluster[-1][: rf.GROUP_BEGIN_BYTES] != group[: rf.GROUP_BEGIN_BYTES]:
                yield from sorted(cluster)
                cluster = []
            if group.startswith(prefix) and group >= start:
                cluster.append(group)
            if len(group) < rf.GROUP_BEGIN_BYTES:
                yield from cluster
                cluster = []
        yield from sorted(cluster)

    def write(self, writer: Any, group: bytes, overlay: GroupOverlay) -> None:
        """Bring the rows of ``group`` to what ``overlay`` says, inside a write transaction."""
        prefix = rf.group_prefix(group)
        db = self._db
        if overlay.dropped:
            with writer.cursor(db) as cursor:
                found = cursor.set_range(prefix)
                while found and cursor.key().startswith(prefix):
                    found = cursor.delete()  # and stands on the next one
        for sub, row in overlay.rows.items():
            key = prefix + rf.sub_in_key(sub)
            if row is TOMBSTONE:
                writer.delete(key, db=db)
            else:
                writer.put(key, rf.encode_value(key, group, sub, self._encode(row)), db=db)

    def _chunks(self, reader: Callable[[], Any], prefix: bytes, seek: bytes) -> Iterator[tuple[bytes, bytes]]:
        rows_max = CHUNK_ROWS_FIRST
        while True:
            try:
                chunk, more = self._chunk(reader(), prefix, seek, rows_max)
            except self._library_error as error:
                raise StoreCorrupted(self._path, str(error), self.name, seek) from error
            yield from chunk
            if not more:
                return
            seek = chunk[-1][0] + b"\x00"
            rows_max = min(4 * rows_max, CHUNK_ROWS_MAX)

    def _chunk(self, reader: Any, prefix: bytes, seek: bytes, rows_max: int) -> tuple[list[tuple[bytes, bytes]], bool]:
        """Rows from ``seek`` on, and whether there may be more behind them."""
        chunk: list[tuple[bytes, bytes]] = []
        size = 0
        with reader.cursor(self._db) as cursor:
            found = cursor.set_range(seek)
            while found:
                key, value = cursor.item()
                if not key.startswith(prefix):
                    break
                chunk.append((key, value))
                size += len(value)
                if len(chunk) == rows_max or size >= CHUNK_BYTES_MAX:
                    return chunk, True
                found = cursor.next()
        return chunk, False

    def _checked(self, key: bytes, value: bytes) -> bytes:
        try:
            return rf.check_value(key, value)
        except rf.ChecksumMismatch:
            raise StoreCorrupted(self._path, "checksum mismatch", self.name, key) from None

    def _row(self, key: bytes, body: bytes) -> Any:
        try:
            return self._decode(body)
        except msgspec.DecodeError as error:
            raise StoreCorrupted(self._path, f"not a row of this release: {error}", self.name, key) from error


class StoredRow:
    """A row as it was read, decoded when somebody wants it: most rows under an overlay are hidden by it."""

    __slots__ = ("_key", "_table", "_value", "is_long")

    def __init__(self, table: StoredTable, key: bytes, value: bytes, is_long: bool) -> None:
        self._table = table
        self._key = key
        self._value = value
        self.is_long = is_long

    def decode(self) -> Any:
        """Raises StoreCorrupted."""
        body = self._table._checked(self._key, self._value)
        return self._table._row(self._key, rf.split_long(body)[2] if self.is_long else body)


def _first(pair: tuple[bytes, StoredRow]) -> bytes:
    return pair[0]

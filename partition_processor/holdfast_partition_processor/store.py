"""The tables of one partition in LMDB, written behind.

::

    put, delete ─▶ active overlay          reads: active, frozen, LMDB, in this order
                       │ checkpoint: freeze
                       ▼
                   frozen overlay ─ worker thread ─▶ one LMDB transaction with the applied index, synced

The file is always consistent, after a power cut too, and says up to which log index it is; the log replays the rest.
A key in LMDB is the group behind its length, then sub; a value is the row's MessagePack behind its CRC32C.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import google_crc32c
import lmdb
import msgspec

from holdfast_partition_processor.overlay import GONE, Overlay, Rows
from holdfast_partition_processor.tables import ALL_TABLES, Table

V = TypeVar("V")
FORMAT_VERSION = 1
MAP_BYTES_FIRST = 64 * 1024 * 1024
KEY_BYTES_MAX = 511
"""LMDB's limit. Names and keys are limited where they enter (ingress, invoker) so that none is longer."""
_SYSTEM = b"holdfast"
DISK_FULL_BYTES = 16 * 1024 * 1024
"""With less free space than this, a failed write is taken for a full disk."""
DISK_FULL_RETRY_SECONDS = 1.0
logger = logging.getLogger(__name__)


class StoreError(Exception):
    """The partition's tables can't be used; the message says why."""


class StoreCorrupted(StoreError):
    """A row does not have the checksum that it was written with."""


class LmdbStore:
    def __init__(self, path: Path, partition: int, env: lmdb.Environment) -> None:
        self._path = path
        self._env = env
        self._databases = {table.name: env.open_db(table.name.encode()) for table in ALL_TABLES}
        self._system = env.open_db(_SYSTEM)
        names = tuple(table.name for table in ALL_TABLES)
        self._names = names
        self._active = Overlay(names)
        self._frozen: Overlay | None = None
        self._decoders = {table.name: table.decoder() for table in ALL_TABLES}
        self._encoder = msgspec.msgpack.Encoder()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"store-{partition}")
        self.durable_index = self._adopt(partition)
        self._reader = env.begin()
        self.on_error: Callable[[BaseException], None] | None = None

    @classmethod
    def open(cls, path: Path, *, partition: int) -> LmdbStore:
        """Raises StoreError when the file belongs to another partition or a newer release, lmdb.Error when LMDB can't
        open it."""
        path.mkdir(parents=True, exist_ok=True)
        data = path / "data.mdb"
        size = max(MAP_BYTES_FIRST, 2 * data.stat().st_size if data.exists() else 0)
        env = lmdb.open(str(path), map_size=size, max_dbs=len(ALL_TABLES) + 1, max_spare_txns=2, readahead=False)
        return cls(path, partition, env)

    def _adopt(self, partition: int) -> int:
        with self._env.begin(db=self._system, write=True) as transaction:
            for name, ours in ((b"format", FORMAT_VERSION), (b"partition", partition)):
                found = transaction.get(name)
                if found is None:
                    transaction.put(name, str(ours).encode())
                elif name == b"partition" and int(found) != ours:
                    raise StoreError(f"{self._path} holds partition {int(found)}, not {ours}")
                elif int(found) > ours:
                    raise StoreError(f"{self._path} has format {int(found)}, this release knows up to {ours}")
            return int(transaction.get(b"applied") or b"0")

    def get(self, table: Table[V], group: bytes, sub: bytes) -> V | None:
        name = table.name
        row = self._active.find(name, group, sub)
        if row is None and self._frozen is not None:
            row = self._frozen.find(name, group, sub)
        if row is not None:
            return None if row is GONE else row
        raw = self._reader.get(_key(group, sub), db=self._databases[name])
        return None if raw is None else self._decode(name, group, sub, raw)

    def put(self, table: Table[V], group: bytes, sub: bytes, row: V) -> None:
        self._active.put(table.name, group, sub, row)

    def delete(self, table: Table[Any], group: bytes, sub: bytes) -> None:
        self._active.put(table.name, group, sub, GONE)

    def delete_group(self, table: Table[Any], group: bytes) -> None:
        self._active.clear_group(table.name, group)

    def scan(
        self, table: Table[V], group: bytes, start: bytes = b"", limit: int | None = None
    ) -> Iterator[tuple[bytes, V]]:
        above = self._above(table.name, group)
        below = iter(()) if above is None else self._below(table.name, group, start)
        fresh = self._overlaid(table.name, group)
        pending = sorted((sub for sub in fresh if sub >= start), reverse=True)
        given = 0
        for sub, raw in below:
            while pending and pending[-1] < sub:
                key = pending.pop()
                if fresh[key] is not GONE:
                    yield key, fresh[key]
                    given += 1
                    if given == limit:
                        return
            if sub in fresh:
                continue
            yield sub, self._decode(table.name, group, sub, raw)
            given += 1
            if given == limit:
                return
        while pending:
            key = pending.pop()
            if fresh[key] is not GONE:
                yield key, fresh[key]
                given += 1
                if given == limit:
                    return

    def scan_groups(self, table: Table[Any], prefix: bytes, start: bytes = b"") -> Iterator[bytes]:
        name = table.name
        groups = set(self._active.tables[name])
        if self._frozen is not None:
            groups |= set(self._frozen.tables[name])
        groups |= set(self._groups_below(name))
        for group in sorted(groups):
            if group.startswith(prefix) and group >= start and next(self.scan(table, group, limit=1), None):
                yield group

    def _above(self, name: str, group: bytes) -> bool | None:
        """None when a layer says that nothing below counts for this group."""
        if group in self._active.cleared[name]:
            return None
        if self._frozen is not None and group in self._frozen.cleared[name]:
            return None
        return True

    def _overlaid(self, name: str, group: bytes) -> Rows:
        active = self._active.tables[name].get(group, {})
        if self._frozen is None or group in self._active.cleared[name]:
            return dict(active)
        return {**self._frozen.tables[name].get(group, {}), **active}

    def _below(self, name: str, group: bytes, start: bytes) -> Iterator[tuple[bytes, bytes]]:
        prefix = _key(group, b"")
        with self._reader.cursor(db=self._databases[name]) as cursor:
            found = cursor.set_range(prefix + start)
            rows = []
            while found and cursor.key().startswith(prefix):
                rows.append((cursor.key()[len(prefix) :], cursor.value()))
                if len(rows) == 256:  # the cursor must not stay open across a renewed transaction
                    yield from rows
                    found = cursor.set_range(prefix + rows[-1][0] + b"\0")
                    rows = []
                    continue
                found = cursor.next()
        yield from rows

    def _groups_below(self, name: str) -> Iterator[bytes]:
        with self._reader.cursor(db=self._databases[name]) as cursor:
            found = cursor.first()
            while found:
                key = cursor.key()
                size = int.from_bytes(key[:2], "big")
                group = key[2 : 2 + size]
                yield group
                found = cursor.set_range(key[: 2 + size] + b"\xff" * (KEY_BYTES_MAX - 2 - size))

    def _decode(self, name: str, group: bytes, sub: bytes, raw: bytes) -> Any:
        body = raw[4:]
        if int.from_bytes(raw[:4], "little") != google_crc32c.value(body):
            raise StoreCorrupted(f"{self._path}: table {name}, group {group.hex()}, key {sub.hex()}: bad checksum")
        return self._decoders[name].decode(body)

    @property
    def dirty_rows(self) -> int:
        """Changes that are only in memory."""
        return self._active.rows + (self._frozen.rows if self._frozen is not None else 0)

    @property
    def checkpointing(self) -> bool:
        return self._frozen is not None

    def checkpoint(self, applied_index: int, done: Callable[[BaseException | None], None]) -> None:
        """Write everything up to ``applied_index`` in a worker thread, then call ``done`` on the event loop."""
        assert self._frozen is None, "one checkpoint at a time"
        self._frozen, self._active = self._active, Overlay(self._names)
        self._submit(self._frozen, applied_index, done)

    def _submit(self, frozen: Overlay, applied_index: int, done: Callable[[BaseException | None], None]) -> None:
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._thread, self._write, frozen, applied_index)
        future.add_done_callback(lambda finished: self._written(finished, frozen, applied_index, done))

    def _written(
        self,
        finished: asyncio.Future[None],
        frozen: Overlay,
        applied_index: int,
        done: Callable[[BaseException | None], None],
    ) -> None:
        error = finished.exception()
        if isinstance(error, lmdb.MapFullError):
            self._grow()
            self._submit(frozen, applied_index, done)
            return
        if error is None:
            self._frozen = None
            self.durable_index = applied_index
            self._reader.abort()
            self._reader = self._env.begin()
        elif _is_disk_full(error, self._path):
            # The overlay keeps what was not written; reads and accepted work go on meanwhile.
            logger.warning("%s: the disk is full, the checkpoint is tried again: %s", self._path, error)
            asyncio.get_running_loop().call_later(DISK_FULL_RETRY_SECONDS, self._submit, frozen, applied_index, done)
            return
        done(error)

    def _grow(self) -> None:
        """No transaction may be open while the map is enlarged, ours included."""
        self._reader.abort()
        self._env.set_mapsize(2 * self._env.info()["map_size"])
        self._reader = self._env.begin()

    def _write(self, frozen: Overlay, applied_index: int) -> None:
        encode = self._encoder.encode
        crc = google_crc32c.value
        with self._env.begin(write=True) as transaction:
            for name in self._names:
                database = self._databases[name]
                for group in frozen.cleared[name]:
                    self._delete_group(transaction, database, group)
                for group, rows in frozen.tables[name].items():
                    prefix = _key(group, b"")
                    for sub, row in sorted(rows.items()):
                        if row is GONE:
                            transaction.delete(prefix + sub, db=database)
                        else:
                            body = encode(row)
                            transaction.put(prefix + sub, crc(body).to_bytes(4, "little") + body, db=database)
            transaction.put(b"applied", str(applied_index).encode(), db=self._system)

    def _delete_group(self, transaction: Any, database: Any, group: bytes) -> None:
        prefix = _key(group, b"")
        with transaction.cursor(db=database) as cursor:
            found = cursor.set_range(prefix)
            while found and cursor.key().startswith(prefix):
                found = cursor.delete()

    def close(self) -> None:
        """Does not write: take a checkpoint first if what is in memory is to be kept (the log has it in any case)."""
        self._thread.shutdown(wait=True)
        self._reader.abort()
        self._env.close()


def _key(group: bytes, sub: bytes) -> bytes:
    return len(group).to_bytes(2, "big") + group + sub


def _is_disk_full(error: BaseException, path: Path) -> bool:
    """LMDB reports a write that was cut short by a full disk as an input/output error; then the free space decides."""
    if not isinstance(error, (OSError, lmdb.Error)):
        return False
    text = str(error)
    if getattr(error, "errno", None) == errno.ENOSPC or "No space left" in text:
        return True
    space = os.statvfs(path)
    return "Input/output error" in text and space.f_bavail * space.f_frsize < DISK_FULL_BYTES

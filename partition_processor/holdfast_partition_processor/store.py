"""The tables of one partition on disk: LMDB, written behind.

`apply` never waits for the disk. Puts and deletes go to an overlay in memory; a checkpoint freezes it, and a worker
thread writes it, with the index of the last entry that it holds, in ONE default-sync transaction. So the file is
always the state after exactly `durable_index` entries, after a power cut too, and the log replays what follows. LMDB
without sync can be corrupted by a power cut; to sync each batch would stall the journal's fdatasync on the same disk.

What the caller must do, in this order: `open`; hand over the entries after `durable_index` (put, delete, get, scan);
`checkpoint(index)` now and then, between two entries, never in the middle of one; when `on_durable` says so, the log
may be trimmed; `close`. Everything happens on the event loop's thread, but for the writing itself.

A full disk does not stop anything at once: the frozen overlay is kept and tried again, `failure` says why, and whoever
feeds the store must refuse new work when `pending_bytes` passes `options.overlay_bytes_max`. An error that is not about
space is final: what the page cache says after it can't be trusted, so it is not tried again and the process must end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from holdfast_partition_processor.overlay import MISSING, TOMBSTONE, GroupOverlay, Overlay, merge
from holdfast_partition_processor.store_errors import StoreCorrupted, StoreError, StoreFailed, StoreFull, WrongStore
from holdfast_partition_processor.store_file import FORMAT_VERSION, StoreFile
from holdfast_partition_processor.stored_table import StoredRow
from holdfast_partition_processor.tables import ALL_TABLES, Table

V = TypeVar("V")

__all__ = [
    "FORMAT_VERSION",
    "LmdbStore",
    "StoreCorrupted",
    "StoreError",
    "StoreFailed",
    "StoreFull",
    "StoreOptions",
    "WrongStore",
]

_NAMES = tuple(table.name for table in ALL_TABLES)


@dataclass(frozen=True, slots=True)
class StoreOptions:
    overlay_bytes_max: int = 64 * 1024 * 1024
    """Above it the feeder refuses new work: the disk does not keep up, or is full."""
    map_bytes_initial: int = 256 * 1024 * 1024
    """Address space, not memory. Doubled when the file outgrows it."""
    retry_seconds_min: float = 0.1
    retry_seconds_max: float = 5.0


class LmdbStore:
    """Implements `tables.Storage`."""

    def __init__(self, file: StoreFile, options: StoreOptions, executor: Executor | None) -> None:
        self.options = options
        self.durable_index = file.applied_index
        """The file holds the state after this entry of the log."""
        self.failure: StoreFull | StoreFailed | None = None
        self.on_durable: Callable[[int], None] | None = None
        self.on_error: Callable[[StoreFull | StoreFailed], None] | None = None
        """Told at every failed attempt; after a StoreFailed there are no more."""
        self._file = file
        self._tables = file.tables
        self._executor = executor or ThreadPoolExecutor(1, thread_name_prefix="store")
        self._owns_executor = executor is None
        self._active = Overlay(_NAMES)
        self._frozen: Overlay | None = None
        self._layers: tuple[Overlay, ...] = (self._active,)  # newest first
        self._frozen_index = 0
        self._writing: asyncio.Future[None] | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._retry_seconds = options.retry_seconds_min

    @classmethod
    def open(
        cls, path: Path, *, partition: int, options: StoreOptions | None = None, executor: Executor | None = None
    ) -> LmdbStore:
        """Make or open the store of ``partition`` in the directory ``path``. ``executor`` runs the checkpoints; with
        one shared by all partitions of a node they take turns at the disk. Raises WrongStore, StoreCorrupted,
        StoreError, OSError."""
        chosen = options or StoreOptions()
        return cls(StoreFile.open(path, partition, chosen.map_bytes_initial), chosen, executor)

    # ------------------------------------------------------------ Storage

    def get(self, table: Table[V], group: bytes, sub: bytes) -> V | None:
        """Raises StoreCorrupted."""
        name = table.name
        for layer in self._layers:
            overlay = layer.tables[name].get(group)
            if overlay is not None:
                row: V = overlay.rows.get(sub, MISSING)
                if row is not MISSING:
                    return None if row is TOMBSTONE else row
                if overlay.dropped:
                    return None
        found: V | None = self._tables[name].get(self._file.reader, group, sub)
        return found

    def put(self, table: Table[V], group: bytes, sub: bytes, row: V) -> None:
        self._active.put(table.name, group, sub, row)

    def delete(self, table: Table[Any], group: bytes, sub: bytes) -> None:
        self._active.put(table.name, group, sub, TOMBSTONE)

    def delete_group(self, table: Table[Any], group: bytes) -> None:
        self._active.delete_group(table.name, group)

    def scan(
        self, table: Table[V], group: bytes, start: bytes = b"", limit: int | None = None
    ) -> Iterator[tuple[bytes, V]]:
        """Raises StoreCorrupted."""
        if limit is not None and limit <= 0:
            return
        name = table.name
        newest = self._active.tables[name].get(group)
        from_floor = newest is not None and start <= newest.floor
        if newest is not None and from_floor:
            start = newest.floor
        sources: list[Iterator[tuple[bytes, Any]]] = []
        for overlay in self._overlays(name, group):
            sources.append(overlay.ascending(start))
            if overlay.dropped:
                break
        else:
            sources.append(self._tables[name].scan(self._read_transaction, group, start))
        seen, count = b"", 0
        for seen, row in merge(sources):
            if row is TOMBSTONE:
                continue
            if from_floor and count == 0 and newest is not None:
                newest.floor = seen
            count += 1
            yield seen, row.decode() if type(row) is StoredRow else row
            if count == limit:
                return
        if from_floor and count == 0 and newest is not None and seen:
            newest.floor = seen + b"\x00"

    def scan_groups(self, table: Table[Any], prefix: bytes, start: bytes = b"") -> Iterator[bytes]:
        """Raises StoreCorrupted."""
        name = table.name
        sources: list[Iterator[tuple[bytes, None]]] = []
        for layer in self._layers:
            groups = sorted(group for group in layer.tables[name] if group.startswith(prefix) and group >= start)
            sources.append((group, None) for group in groups)
        stored = self._tables[name].groups(self._read_transaction, prefix, start)
        sources.append((group, None) for group in stored)
        for group, _ in merge(sources):
            if next(self.scan(table, group, limit=1), None) is not None:
                yield group

    def _overlays(self, name: str, group: bytes) -> Iterator[GroupOverlay]:
        for layer in self._layers:
            overlay = layer.tables[name].get(group)
            if overlay is not None:
                yield overlay

    def _read_transaction(self) -> Any:
        return self._file.reader

    # ------------------------------------------------------------ checkpoints

    @property
    def pending_bytes(self) -> int:
        """Memory, roughly, of what is not yet in the file."""
        return self._active.bytes + (0 if self._frozen is None else self._frozen.bytes)

    @property
    def pending_bytes_max(self) -> int:
        """Above it new work is to be refused."""
        return self.options.overlay_bytes_max

    @property
    def is_dirty(self) -> bool:
        return not self._active.is_empty()

    def checkpoint(self, applied_index: int) -> None:
        """Begin to write everything so far, which is the state after ``applied_index``. Does nothing while an earlier
        checkpoint is under way or after a StoreFailed."""
        if self._frozen is not None or isinstance(self.failure, StoreFailed):
            return
        assert applied_index >= self.durable_index, "the state never goes back"
        self._frozen, self._active = self._active, Overlay(_NAMES)
        self._layers = (self._active, self._frozen)
        self._frozen_index = applied_index
        self._begin_write()

    async def flush(self, applied_index: int) -> None:
        """A checkpoint, finished when this returns. Raises StoreFull or StoreFailed at the first failed attempt."""
        while self.durable_index < applied_index or self.is_dirty or self._frozen is not None:
            self.checkpoint(applied_index)
            if self._retry is not None:
                self._retry.cancel()
                self._begin_write()
            if self._writing is not None:
                await asyncio.wait((self._writing,))  # `_written` has run then, it was there first
            if self.failure is not None:
                raise self.failure

    async def close(self) -> None:
        """Let go of the file. What is not in a finished checkpoint is not kept: the log has it."""
        if self._retry is not None:
            self._retry.cancel()
        if self._writing is not None:
            await asyncio.wait((self._writing,))
        self._file.close()
        if self._owns_executor:
            self._executor.shutdown(wait=True)

    def _begin_write(self) -> None:
        self._retry = None
        assert self._frozen is not None
        loop = asyncio.get_running_loop()
        self._writing = loop.run_in_executor(self._executor, self._file.write, self._frozen, self._frozen_index)
        self._writing.add_done_callback(self._written)

    def _written(self, done: asyncio.Future[None]) -> None:
        self._writing = None
        error = done.exception()
        if error is None:
            self._file.renew_reader()
            self._frozen = None
            self._layers = (self._active,)
            self.durable_index = self._frozen_index
            self.failure = None
            self._retry_seconds = self.options.retry_seconds_min
            if self.on_durable is not None:
                self.on_durable(self.durable_index)
        elif self._file.must_grow:
            self._file.grow()
            self._begin_write()
        elif isinstance(error, StoreFull):
            self.failure = error
            loop = asyncio.get_running_loop()
            self._retry = loop.call_later(self._retry_seconds, self._begin_write)
            self._retry_seconds = min(2 * self._retry_seconds, self.options.retry_seconds_max)
            self._tell(self.failure)
        else:
            why = f"{self._file.path}: a checkpoint failed: {error}; restart to recover from the log"
            self.failure = StoreFailed(why)
            self.failure.__cause__ = error
            self._tell(self.failure)

    def _tell(self, failure: StoreFull | StoreFailed) -> None:
        if self.on_error is not None:
            self.on_error(failure)

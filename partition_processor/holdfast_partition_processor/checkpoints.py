"""When the tables of a partition are written to disk, what may be trimmed from the log after it, and when the disk is
so far behind that new work must be refused."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from holdfast_log.types import LogError, LogFull, Overloaded, PartitionLog
from holdfast_partition_processor import tables as t
from holdfast_partition_processor.store_errors import StoreError, StoreFailed, StoreFull

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CheckpointOptions:
    seconds: float = 0.5
    """How long a change may be only in memory and in the log: what a restart has to replay."""
    pending_bytes: int = 16 * 1024 * 1024
    """Of changes in memory: then a checkpoint begins at once."""
    entries: int = 4_096
    """Entries that changed nothing are also worth a checkpoint, so that the log can be trimmed."""
    log_tail_entries: int = 1_024
    """Left in the log behind the checkpoint, for followers that are a little late."""


class Store(t.Storage, Protocol):
    """Tables that are made durable behind; `LmdbStore`, and `MemoryStore` as its twin."""

    on_durable: Callable[[int], None] | None
    on_error: Callable[[StoreFull | StoreFailed], None] | None
    failure: StoreFull | StoreFailed | None

    @property
    def durable_index(self) -> int: ...
    @property
    def pending_bytes(self) -> int: ...
    @property
    def pending_bytes_max(self) -> int: ...
    @property
    def is_dirty(self) -> bool: ...
    def checkpoint(self, applied_index: int) -> None: ...
    async def flush(self, applied_index: int) -> None: ...
    async def close(self) -> None: ...


class Checkpoints:
    def __init__(
        self, store: Store, log: PartitionLog, options: CheckpointOptions, on_failed: Callable[[StoreFailed], None]
    ) -> None:
        self._store = store
        self._log = log
        self._options = options
        self._on_failed = on_failed
        self._applied_index = store.durable_index
        self._timer: asyncio.TimerHandle | None = None
        self._ended = False
        self._too_much: str | None = None
        store.on_durable = self._durable
        store.on_error = self._failed

    @property
    def is_behind(self) -> bool:
        """New work is to be refused, see `refusal`."""
        return self._too_much is not None

    def refusal(self) -> LogError:
        assert self._too_much is not None
        return Overloaded(self._too_much) if self._store.failure is None else LogFull(self._too_much)

    def applied(self, index: int) -> None:
        """The tables are those after entry ``index``, and no entry is half applied."""
        self._applied_index = index
        pending = self._store.pending_bytes
        self._gauge(pending)
        if pending >= self._options.pending_bytes:
            self._begin()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._options.seconds, self._begin)

    def stop(self) -> None:
        """No more checkpoints: what is in memory must not reach the disk."""
        self._ended = True
        if self._timer is not None:
            self._timer.cancel()

    async def finish(self) -> None:
        """A last checkpoint, unless they were stopped; then the store is closed."""
        if not self._ended:
            self.stop()
            try:
                await self._store.flush(self._applied_index)
            except StoreError as error:
                logger.warning("partition %d: no last checkpoint, the log has the rest: %s", self._log.partition, error)
        await self._store.close()

    def _begin(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        behind = self._applied_index - self._store.durable_index
        if self._store.is_dirty or behind >= self._options.entries:
            self._store.checkpoint(self._applied_index)

    def _durable(self, index: int) -> None:
        if not self._ended:
            self._log.trim(max(0, index - self._options.log_tail_entries))
            self.applied(self._applied_index)

    def _failed(self, failure: StoreFull | StoreFailed) -> None:
        logger.error("partition %d: %s", self._log.partition, failure)
        self._gauge(self._store.pending_bytes)
        if isinstance(failure, StoreFailed):
            self._on_failed(failure)

    def _gauge(self, pending: int) -> None:
        limit = self._store.pending_bytes_max
        if pending <= limit:
            self._too_much = None
        elif self._store.failure is None:
            self._too_much = (
                f"partition {self._log.partition}: the tables' disk is {pending} bytes behind, limit {limit}"
            )
        else:
            self._too_much = f"partition {self._log.partition}: {self._store.failure}"

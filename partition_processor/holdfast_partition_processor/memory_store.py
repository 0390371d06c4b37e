"""The twin of `LmdbStore` for tests and simulation: nothing is ever durable, so a restart replays the whole log."""

from __future__ import annotations

from collections.abc import Callable

from holdfast_partition_processor.memory_storage import MemoryStorage
from holdfast_partition_processor.store_errors import StoreFailed, StoreFull


class MemoryStore(MemoryStorage):
    durable_index = 0
    pending_bytes = 0
    pending_bytes_max = 1
    is_dirty = False

    def __init__(self) -> None:
        super().__init__()
        self.on_durable: Callable[[int], None] | None = None
        self.on_error: Callable[[StoreFull | StoreFailed], None] | None = None
        self.failure: StoreFull | StoreFailed | None = None

    def checkpoint(self, applied_index: int) -> None:
        """Nothing to write to."""

    async def flush(self, applied_index: int) -> None:
        """Nothing to write to."""

    async def close(self) -> None:
        """Nothing to let go of."""

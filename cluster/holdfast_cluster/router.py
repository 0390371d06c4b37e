"""Which partition an invocation belongs to, and who leads it: on one node, always this node."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from holdfast_partition_processor.ids import partition_of_id
from holdfast_partition_processor.processor import PartitionProcessor

_RANDOM_POOL_BYTES = 8_192


class Router:
    def __init__(self, processors: Mapping[int, PartitionProcessor]) -> None:
        self._processors = processors
        self._partitions = len(processors)

    def of(self, invocation_id: bytes) -> PartitionProcessor:
        return self._processors[partition_of_id(invocation_id, self._partitions)]


class FreshIds:
    """24 bytes for a new invocation: random partition key, then milliseconds (6 bytes) and randomness (10), so that
    ids made one after the other sort together. Random bytes are fetched from the system in bulk."""

    def __init__(self) -> None:
        self._pool = b""
        self._position = 0

    def __call__(self) -> bytes:
        if self._position + 18 > len(self._pool):
            self._pool = os.urandom(_RANDOM_POOL_BYTES)
            self._position = 0
        chunk = self._pool[self._position : self._position + 18]
        self._position += 18
        return chunk[:8] + int(time.time() * 1000).to_bytes(6, "big") + chunk[8:]

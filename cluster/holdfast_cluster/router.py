"""Which partition an invocation belongs to, and who leads it. On one node that is always this node."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from holdfast_cluster.ingress_error import RETRY_SECONDS, IngressError
from holdfast_partition_processor.command import Ingest
from holdfast_partition_processor.ids import partition_of_id
from holdfast_partition_processor.processor import PartitionProcessor


class Router:
    def __init__(self, processors: Mapping[int, PartitionProcessor]) -> None:
        """``processors`` has one for every partition of the cluster and may still be filled."""
        self._processors = processors

    @property
    def ready(self) -> bool:
        """Every partition has a leader here."""
        return bool(self._processors) and all(processor.is_leading for processor in self._processors.values())

    def leader_of(self, invocation_id: bytes) -> PartitionProcessor:
        """Raises IngressError 503 while there is none."""
        processors = self._processors
        partition = partition_of_id(invocation_id, len(processors)) if processors else 0
        processor = processors.get(partition)
        if processor is None or not processor.is_leading:
            raise IngressError(
                503,
                f"partition {partition} has no leader yet; the node is starting or stopping",
                retry_after_seconds=RETRY_SECONDS,
            )
        return processor

    def deliver(self, target: int, ingest: Ingest, durable: Callable[[], None], failed: Callable[[], None]) -> None:
        """The courier of the outboxes. Raises LogError when the message was not taken."""
        self._processors[target].submit(ingest, durable, failed)

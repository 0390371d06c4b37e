"""Ships the outbox of a partition: in order per target, each message until the target has it in its log.

A message may be sent twice (after a crash, or when an answer is late); the target applies it once by its sequence.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from holdfast_partition_processor import tables as t
from holdfast_partition_processor.command import Ingest, Message, OutboxShipped
from holdfast_partition_processor.tables import Storage


class Courier(Protocol):
    """How a message reaches the leader of another partition. ``durable`` is called once it is in that log; ``failed``
    when it is not known to be, and it is to be sent again."""

    def __call__(
        self, target: int, ingest: Ingest, durable: Callable[[], None], failed: Callable[[], None]
    ) -> None: ...


class Outbox:
    def __init__(
        self,
        partition: int,
        storage: Storage,
        courier: Courier,
        shipped: Callable[[OutboxShipped], None],
        later: Callable[[Callable[[], None]], None],
    ) -> None:
        self._partition = partition
        self._storage = storage
        self._courier = courier
        self._shipped = shipped
        self._later = later
        self._acknowledged: dict[int, int] = {}
        self._unreported: set[int] = set()
        self._resending: set[int] = set()
        self._closed = False

    def start(self) -> None:
        for group in list(self._storage.scan_groups(t.OUTBOX, b"")):
            self._resend(int.from_bytes(group, "big"))

    def ship(self, target: int, sequence: int, message: Message) -> None:
        if target in self._resending:
            return  # it is in the table and goes with the others, in order
        ingest = Ingest(self._partition, sequence, message)
        self._courier(target, ingest, lambda: self._durable(target, sequence), lambda: self._failed(target))

    def close(self) -> None:
        self._closed = True

    def _durable(self, target: int, sequence: int) -> None:
        if self._closed:
            return
        self._acknowledged[target] = max(sequence, self._acknowledged.get(target, 0))
        if target not in self._unreported:
            self._unreported.add(target)
            self._later(lambda: self._report(target))

    def _report(self, target: int) -> None:
        self._unreported.discard(target)
        if not self._closed:
            self._shipped(OutboxShipped(target, self._acknowledged[target]))

    def _failed(self, target: int) -> None:
        if self._closed or target in self._resending:
            return
        self._resending.add(target)
        self._later(lambda: self._resend(target))

    def _resend(self, target: int) -> None:
        self._resending.discard(target)
        if self._closed:
            return
        start = (self._acknowledged.get(target, 0) + 1).to_bytes(8, "big")
        for sub, message in list(self._storage.scan(t.OUTBOX, target.to_bytes(2, "big"), start)):
            self.ship(target, int.from_bytes(sub, "big"), message)

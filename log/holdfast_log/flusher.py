"""Gathers what is ready in all groups, and takes it to the disk: one write and one fdatasync for all of them.

While a flush is on its way, what comes gathers for the next; no timer is involved. So latency is one fdatasync when
little happens, and batches grow by themselves when much does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from holdfast_log.raft import Ready
from holdfast_log.record import RECORD_HEADER_BYTES, Record
from holdfast_log.replica import Replica

if TYPE_CHECKING:
    from holdfast_log.journal import Flush, Journal

Batch = list[tuple[Replica, Ready]]
Submit = Callable[[Callable[[], Any], Callable[[Any, BaseException | None], None]], None]
"""Run a job in a thread, then the second function, on the loop's thread, with its result or its error."""


class Flusher:
    def __init__(
        self,
        journal: Journal,
        submit: Submit,
        *,
        in_flight_max: int,
        bytes_max: int,
        on_durable: Callable[[Batch], None],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self.in_flight = 0
        self.waits_for_segment = False
        self.flushes = 0  # durable ones
        self.flushed_bytes = 0
        self._journal = journal
        self._submit = submit
        self._in_flight_max = in_flight_max
        self._bytes_max = bytes_max
        self._on_durable = on_durable
        self._on_failure = on_failure
        self._batches: deque[Batch] = deque()  # of the flushes in flight, oldest first
        self._gathered: Batch = []
        self._records: list[Record] = []
        self._gathered_bytes = 0

    @property
    def busy(self) -> bool:
        return self.in_flight >= self._in_flight_max

    @property
    def idle(self) -> bool:
        return not self.in_flight and not self._records

    @property
    def gathered_bytes(self) -> int:
        """Bytes that have no place in the journal yet."""
        return self._gathered_bytes

    @property
    def room(self) -> int:
        """How many bytes of entries the next flush still takes."""
        return max(0, self._bytes_max - self._gathered_bytes)

    def gather(self, replica: Replica, ready: Ready) -> None:
        self._gathered.append((replica, ready))
        self.add(replica.records(ready))

    def add(self, records: list[Record]) -> None:
        """Records that no group waits for."""
        self._records += records
        self._gathered_bytes += sum([len(record.payload) for record in records])
        self._gathered_bytes += RECORD_HEADER_BYTES * len(records)

    def flush(self) -> None:
        """Send off what is gathered, unless enough is on its way."""
        if not self._records or self.busy:
            return
        flush = self._journal.begin(self._records)
        self.waits_for_segment = flush is None
        if flush is None:
            return
        self._batches.append(self._gathered)
        self._gathered, self._records, self._gathered_bytes = [], [], 0
        self.in_flight += 1
        self._submit(lambda: self._journal.carry_out(flush), lambda _, error: self._done(flush, error))

    def _done(self, flush: Flush, error: BaseException | None) -> None:
        if error is not None:
            self._on_failure(error)
            return
        self._journal.finish(flush)
        self.in_flight -= 1
        self.flushes += 1
        self.flushed_bytes += flush.span
        self._on_durable(self._batches.popleft())

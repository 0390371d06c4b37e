"""Ships the outbox of a partition: in order per target, each message until the target has it in its log.

::

    rows of one target    | acknowledged | in flight | only in the table |
                           may be deleted ▲           ▲ sent

A target applies a message once: it ignores a sequence number that is not above the last one. So a message may be sent
twice, but never after one that follows it. When one fails, those behind it are taken to have failed with it, and the
channel begins again at the first that is not acknowledged. The rule for couriers that this rests on: once one message
has failed, those sent after it and before `failed` was called have failed too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from holdfast_log.types import LogError, NotLeader
from holdfast_partition_processor import tables as t
from holdfast_partition_processor.command import Ingest, Message, OutboxShipped
from holdfast_partition_processor.overlay import approximate_bytes
from holdfast_partition_processor.tables import Storage

IN_FLIGHT_MAX = 1_024
IN_FLIGHT_BYTES_MAX = 8 * 1024 * 1024
"""Per target. One message may pass it, so that a big one gets through."""
REPORT_SECONDS = 0.05
"""How long acknowledged rows wait to be deleted: so one command deletes many."""
RETRY_SECONDS_MIN = 0.02
RETRY_SECONDS_MAX = 1.0


class Courier(Protocol):
    """How a message reaches the leader of another partition. ``durable`` is called once it is in that log; ``failed``
    when that is not known. Raises LogError when it is certain that it did not get there."""

    def __call__(
        self, target: int, ingest: Ingest, durable: Callable[[], None], failed: Callable[[], None]
    ) -> None: ...


class Outbox:
    def __init__(
        self, partition: int, storage: Storage, courier: Courier, submit: Callable[[OutboxShipped], None]
    ) -> None:
        self._partition = partition
        self._storage = storage
        self._courier = courier
        self._submit = submit
        self._loop = asyncio.get_running_loop()
        self._channels: dict[int, _Channel] = {}
        self._unreported: set[int] = set()
        self._report_timer: asyncio.TimerHandle | None = None
        self._closed = False

    def start(self) -> None:
        """Send what the table holds."""
        for group in list(self._storage.scan_groups(t.OUTBOX, b"")):
            channel = self._channel(int.from_bytes(group, "big"))
            channel.behind = True
            channel.pump()

    def ship(self, target: int, sequence: int, message: Message) -> None:
        """A row was put."""
        self._channel(target).ship(sequence, message)

    def close(self) -> None:
        self._closed = True
        if self._report_timer is not None:
            self._report_timer.cancel()
        for channel in self._channels.values():
            channel.close()

    def _channel(self, target: int) -> _Channel:
        channel = self._channels.get(target)
        if channel is None:
            channel = _Channel(self._partition, target, self._storage, self._courier, self._acknowledged)
            self._channels[target] = channel
        return channel

    def _acknowledged(self, target: int) -> None:
        self._unreported.add(target)
        if self._report_timer is None and not self._closed:
            self._report_timer = self._loop.call_later(REPORT_SECONDS, self._report)

    def _report(self) -> None:
        self._report_timer = None
        targets, self._unreported = self._unreported, set()
        try:
            for target in sorted(targets):
                self._submit(OutboxShipped(target, self._channels[target].acknowledged))
        except NotLeader:
            self.close()  # the next leader ships them again


class _Channel:
    """To one target."""

    def __init__(
        self, source: int, target: int, storage: Storage, courier: Courier, report: Callable[[int], None]
    ) -> None:
        self.acknowledged = 0
        """The target has everything up to this sequence number."""
        self.behind = False
        """There may be rows after ``_sent`` that are only in the table."""
        self._source = source
        self._target = target
        self._group = target.to_bytes(2, "big")
        self._storage = storage
        self._courier = courier
        self._report = report
        self._sent = 0
        self._in_flight: dict[int, int] = {}  # sequence to bytes, ascending
        self._in_flight_bytes = 0
        self._epoch = 0  # counts failures; what was sent in an earlier one is not listened to
        self._retry: asyncio.TimerHandle | None = None
        self._retry_seconds = RETRY_SECONDS_MIN
        self._closed = False

    def ship(self, sequence: int, message: Message) -> None:
        if sequence <= self._sent:
            return  # read from the table already
        if self.behind or self._is_full():
            self.behind = True  # it goes when it is its turn
        else:
            self._send(sequence, message)

    def pump(self) -> None:
        """Send rows from the table as far as there is room."""
        if self._retry is not None or self._closed:
            return
        start = (self._sent + 1).to_bytes(8, "big")
        for sub, message in self._storage.scan(t.OUTBOX, self._group, start):
            if self._is_full() or not self._send(int.from_bytes(sub, "big"), message):
                return
        self.behind = False

    def close(self) -> None:
        self._closed = True
        self._epoch += 1
        if self._retry is not None:
            self._retry.cancel()

    def _is_full(self) -> bool:
        return len(self._in_flight) >= IN_FLIGHT_MAX or self._in_flight_bytes >= IN_FLIGHT_BYTES_MAX

    def _send(self, sequence: int, message: Message) -> bool:
        epoch = self._epoch
        self._sent = sequence
        size = self._in_flight[sequence] = approximate_bytes(message)
        self._in_flight_bytes += size
        try:
            self._courier(
                self._target,
                Ingest(self._source, sequence, message),
                lambda: self._durable(epoch, sequence),
                lambda: self._failed(epoch),
            )
        except LogError:
            self._failed(epoch)
        return epoch == self._epoch

    def _durable(self, epoch: int, sequence: int) -> None:
        if epoch != self._epoch:
            return
        self._in_flight_bytes -= self._in_flight.pop(sequence)
        self._retry_seconds = RETRY_SECONDS_MIN
        acknowledged = next(iter(self._in_flight)) - 1 if self._in_flight else self._sent
        if acknowledged > self.acknowledged:
            self.acknowledged = acknowledged
            self._report(self._target)
        if self.behind and len(self._in_flight) <= IN_FLIGHT_MAX // 2:
            self.pump()

    def _failed(self, epoch: int) -> None:
        if epoch != self._epoch:
            return
        self._epoch += 1
        self._in_flight, self._in_flight_bytes = {}, 0
        self._sent = self.acknowledged
        self.behind = True
        self._retry = asyncio.get_running_loop().call_later(self._retry_seconds, self._try_again)
        self._retry_seconds = min(2 * self._retry_seconds, RETRY_SECONDS_MAX)

    def _try_again(self) -> None:
        self._retry = None
        self.pump()

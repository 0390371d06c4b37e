"""This node's replica of one group: the face that a consumer sees (`PartitionLog`) over the consensus core."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from holdfast_log.options import LogOptions
from holdfast_log.partition_index import PartitionIndex
from holdfast_log.raft import Raft, Ready
from holdfast_log.record import Record, RecordKind
from holdfast_log.types import (
    PAYLOAD_BYTES_MAX,
    Entry,
    LogBehind,
    LogConsumer,
    NotLeader,
    Overloaded,
    PayloadTooLarge,
    Trimmed,
)


class ReplicaHost(Protocol):
    """What a replica asks of its node."""

    options: LogOptions

    def busy(self) -> bool:
        """As many flushes are on their way as may be."""

    def check_room(self, payload_bytes: int) -> None:
        """Raises LogFull, LogClosed."""

    def mark_dirty(self, replica: Replica) -> None:
        """The replica's core has something ready."""

    def wants_writable(self, replica: Replica) -> None:
        """Tell it when it is writable again."""

    def trim(self, replica: Replica, index: int, term: int) -> None: ...

    def read(self, partition: int, start: int, end: int, done: Callable[[Sequence[Entry]], None]) -> None:
        """Read entries from the journal off the loop; as many as fit one batch, at least one."""


class Replica:
    """Consumers are called from the node's turn only, never from inside `propose` or `trim`."""

    def __init__(self, host: ReplicaHost, partition: int, raft: Raft, index: PartitionIndex) -> None:
        self.partition = partition
        self.raft = raft
        self.uncommitted_bytes = 0
        self._host = host
        self._index = index
        self._consumer: LogConsumer | None = None
        self._delivered = 0
        self._told_term = 0  # of the leadership that the consumer knows about

    @property
    def term(self) -> int:
        return self.raft.term

    @property
    def is_leader(self) -> bool:
        return self.raft.is_leader

    @property
    def first_index(self) -> int:
        return self._index.first

    @property
    def last_index(self) -> int:
        return self.raft.last_index

    @property
    def commit_index(self) -> int:
        return self.raft.commit_index

    @property
    def started(self) -> bool:
        return self._consumer is not None

    @property
    def writable(self) -> bool:
        busy = self._host.busy() or self.uncommitted_bytes > self._host.options.uncommitted_bytes_soft
        if busy:
            self._host.wants_writable(self)
        return not busy

    def start(self, consumer: LogConsumer, applied_index: int) -> None:
        if applied_index + 1 < self.first_index:
            raise Trimmed(applied_index + 1, self.first_index)
        if applied_index > self.last_index:
            raise LogBehind(self.partition, applied_index, self.last_index)
        self._consumer = consumer
        self._delivered = applied_index
        self.raft.start(applied_index)

    def propose(self, payload: bytes) -> tuple[int, int]:
        size = len(payload)
        if size > PAYLOAD_BYTES_MAX:
            raise PayloadTooLarge(size, PAYLOAD_BYTES_MAX)
        self._host.check_room(size)
        if not self.raft.is_leader:
            raise NotLeader(self.partition, self.raft.leader)
        limit = self._host.options.uncommitted_bytes_max
        if self.uncommitted_bytes + size > limit:
            have = f"partition {self.partition} has {self.uncommitted_bytes} uncommitted bytes"
            raise Overloaded(f"{have}, {size} more would exceed {limit} (uncommitted_bytes_max)")
        entry = self.raft.propose(payload)
        self.uncommitted_bytes += size
        self._host.mark_dirty(self)
        return entry.term, entry.index

    def trim(self, up_to_index: int) -> None:
        index = min(up_to_index, self._delivered)
        if index >= self.first_index:
            term, _, _, _ = self._index.locate(index)
            self._host.trim(self, index, term)

    # ------------------------------------------------------------ driven by the node

    def records(self, ready: Ready) -> list[Record]:
        """What has to be written for ``ready``."""
        partition = self.partition
        records = [Record(partition, entry.kind, entry.term, entry.index, entry.payload) for entry in ready.entries]
        state = ready.hard_state
        if state is not None:
            records.append(Record(partition, RecordKind.HARD_STATE, state.term, state.commit, state.vote.encode()))
        return records

    def carry_on(self, ready: Ready) -> None:
        """Tell the consumer what ``ready`` says: who leads, then what is committed."""
        if self.raft.is_leader and self._told_term != self.raft.term:
            self._told_term = self.raft.term
            self._known_consumer().on_leader(self.raft.term)
        if ready.committed:
            self.uncommitted_bytes -= sum([len(entry.payload) for entry in ready.committed])
            self._hand_over(ready.committed)
        elif ready.catch_up is not None:
            self._catch_up(ready.catch_up.start, ready.catch_up.stop)

    def tell_writable(self) -> None:
        self._known_consumer().on_writable()

    def _catch_up(self, start: int, end: int) -> None:
        """Hand over entries that only the journal has, batch by batch."""

        def have(entries: Sequence[Entry]) -> None:
            self._hand_over(entries)
            following = entries[-1].index + 1
            if following < end:
                self._catch_up(following, end)
                return
            self.raft.handed_over(end - 1)
            self._host.mark_dirty(self)

        self._host.read(self.partition, start, end, have)

    def _hand_over(self, entries: Sequence[Entry]) -> None:
        assert entries[0].index == self._delivered + 1, "entries are handed over in order, without gaps"
        assert entries[-1].index <= min(self.raft.commit_index, self.raft.durable_index)
        self._delivered = entries[-1].index
        self._known_consumer().on_committed(entries)

    def _known_consumer(self) -> LogConsumer:
        assert self._consumer is not None, "start() of each group comes before start() of the node"
        return self._consumer

"""All log groups of one node over one journal: one flush at a time for whatever is dirty.

While a flush is on its way to the disk (in a worker thread), what is proposed gathers and forms the next flush; no
timer is involved. So latency is one fdatasync when little happens, and batches grow by themselves when much does.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from holdfast_log.disk import Disk
from holdfast_log.identity import NodeIdentity, claim_directory, lock_directory
from holdfast_log.journal import SEGMENT_BYTES, Journal
from holdfast_log.raft import HardState, Raft, Ready
from holdfast_log.record import Record, RecordKind
from holdfast_log.types import (
    PAYLOAD_BYTES_MAX,
    Entry,
    LogConsumer,
    LogFull,
    NotLeader,
    Overloaded,
    PayloadTooLarge,
    Trimmed,
)

HARD_RESERVE_BYTES = 64 * 1024
SOFT_RESERVE_SHARE = 4
"""With less than this part of a segment left, and no room for another, new work is refused."""
FULL_RETRY_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class LogOptions:
    segment_bytes: int = SEGMENT_BYTES
    uncommitted_bytes_soft: int = 4 * 1024 * 1024  # above it a group says that it is not writable
    uncommitted_bytes_max: int = 256 * 1024 * 1024  # above it proposals are refused
    replay_batch_bytes: int = 8 * 1024 * 1024  # handed over at once after a restart


class Replica:
    """This node's replica of one group; implements `PartitionLog`."""

    def __init__(self, node: LogNode, partition: int, raft: Raft) -> None:
        self._node = node
        self.partition = partition
        self.raft = raft
        self._consumer: LogConsumer | None = None
        self._delivered = 0
        self._fresh: list[Entry] = []  # proposed, not yet handed over, in order
        self.uncommitted_bytes = 0

    @property
    def term(self) -> int:
        return self.raft.term

    @property
    def is_leader(self) -> bool:
        return self.raft.is_leader

    @property
    def first_index(self) -> int:
        return self._node.journal.index(self.partition).first

    @property
    def last_index(self) -> int:
        return self.raft.last_index

    @property
    def commit_index(self) -> int:
        return self.raft.commit_index

    @property
    def writable(self) -> bool:
        busy = self._node.flushing or self.uncommitted_bytes > self._node.options.uncommitted_bytes_soft
        if busy:
            self._node.blocked.add(self)
        return not busy

    @property
    def nearly_full(self) -> LogFull | None:
        return self._node.nearly_full()

    def start(self, consumer: LogConsumer, applied_index: int) -> None:
        if applied_index + 1 < self.first_index:
            raise Trimmed(applied_index + 1, self.first_index)
        self._consumer = consumer
        self._delivered = applied_index

    def propose(self, payload: bytes) -> tuple[int, int]:
        if not self.raft.is_leader:
            raise NotLeader(self.partition, None)
        size = len(payload)
        if size > PAYLOAD_BYTES_MAX:
            raise PayloadTooLarge(size, PAYLOAD_BYTES_MAX)
        limit = self._node.options.uncommitted_bytes_max
        if self.uncommitted_bytes + size > limit:
            raise Overloaded(f"partition {self.partition} has {self.uncommitted_bytes} bytes on the way, limit {limit}")
        self._node.check_room(size)
        entry = self.raft.propose(payload)
        self._fresh.append(entry)
        self.uncommitted_bytes += size
        self._node.mark_dirty(self)
        return entry.term, entry.index

    def trim(self, up_to_index: int) -> None:
        self._node.trim(self, min(up_to_index, self._delivered))

    def campaign(self) -> None:
        self.raft.campaign()
        assert self._consumer is not None, "start() comes before the node's start()"
        self._consumer.on_leader(self.raft.term)

    def replay(self) -> None:
        """Hand over what the journal holds and the consumer has not applied: all of it is durable, and a group of
        one voter has committed what is durable."""
        assert self._consumer is not None
        while self._delivered < self.raft.durable_index:
            end = self.raft.durable_index + 1
            start = self._delivered + 1
            entries = self._node.journal.read(self.partition, start, end, self._node.options.replay_batch_bytes)
            self._delivered = entries[-1].index
            self._consumer.on_committed(entries)

    def take_ready(self) -> tuple[Ready, list[Record]]:
        ready = self.raft.ready()
        records = []
        state = ready.hard_state
        if state is not None:
            records.append(Record(self.partition, RecordKind.HARD_STATE, state.term, state.commit, state.vote.encode()))
        records += [
            Record(self.partition, entry.kind, entry.term, entry.index, entry.payload) for entry in ready.entries
        ]
        return ready, records

    def deliver(self, ready: Ready) -> None:
        """``ready`` is durable: hand over what is committed by it."""
        self.raft.advance(ready)
        entries = ready.entries
        if not entries:
            return
        assert entries[-1].index <= self.raft.commit_index
        del self._fresh[: len(self._fresh) - (self.raft.last_index - entries[-1].index)]
        self.uncommitted_bytes -= sum(len(entry.payload) for entry in entries)
        self._delivered = entries[-1].index
        assert self._consumer is not None
        self._consumer.on_committed(entries)

    def tell_writable(self) -> None:
        if self._consumer is not None:
            self._consumer.on_writable()


class LogNode:
    def __init__(self, journal: Journal, lock: int, node: str, partitions: int, options: LogOptions) -> None:
        self.journal = journal
        self.options = options
        self.flushing = False
        self.on_fatal: Callable[[BaseException], None] | None = None
        self.flushes = 0
        self.blocked: set[Replica] = set()  # groups whose consumer was told that it can't write now
        self._lock = lock
        self._disk_thread = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._spare_thread = ThreadPoolExecutor(1, thread_name_prefix="segment")
        self._dirty: dict[int, Replica] = {}
        self._trims: list[Record] = []
        self._failed: BaseException | None = None
        self._full: OSError | None = None
        self._preparing = False
        self._asked_for_room = 0.0
        self._flush_scheduled = False
        self._idle: asyncio.Event | None = None
        self._groups: dict[int, Replica] = {}
        for partition in range(partitions):
            index = journal.index(partition)
            state = HardState(index.term, index.vote, index.commit)
            self._groups[partition] = Replica(self, partition, Raft(node, state, index.last))

    @classmethod
    async def open(
        cls, directory: Path, *, identity: NodeIdentity, partitions: int, options: LogOptions | None = None
    ) -> LogNode:
        """Lock the directory, check whose it is, scan the journal. Raises DirectoryInUse, WrongDirectory,
        JournalCorrupted, FormatTooNew, OSError."""
        chosen = options or LogOptions()
        disk = Disk()
        lock = lock_directory(directory)
        try:
            claim_directory(directory, identity, partitions, disk)
            journal = await asyncio.to_thread(
                Journal.open, directory / "journal", disk=disk, segment_bytes=chosen.segment_bytes
            )
        except BaseException:
            os.close(lock)
            raise
        return cls(journal, lock, identity.node, partitions, chosen)

    def group(self, partition: int) -> Replica:
        return self._groups[partition]

    async def start(self) -> None:
        """Hand over what the journal holds, then lead every group. Each group's `start` comes before."""
        for replica in self._groups.values():
            replica.replay()
            await asyncio.sleep(0)
        for replica in self._groups.values():
            replica.campaign()
            self.mark_dirty(replica)

    async def close(self) -> None:
        """Finish the flush that is under way and what was proposed, then release the directory."""
        while (self.flushing or self._dirty) and self._failed is None:
            self._idle = asyncio.Event()
            await self._idle.wait()
        self._disk_thread.shutdown(wait=True)
        self._spare_thread.shutdown(wait=True)
        self.journal.close()
        os.close(self._lock)

    def mark_dirty(self, replica: Replica) -> None:
        self._dirty[replica.partition] = replica
        if not self.flushing and not self._flush_scheduled and self._failed is None:
            self._flush_scheduled = True
            asyncio.get_running_loop().call_soon(self._flush)

    def check_room(self, size: int) -> None:
        """Raises LogFull when the disk has no place for the next segment and the present one runs out."""
        if self._full is not None and self.journal.room() < size + HARD_RESERVE_BYTES:
            raise self._refusal(self._full)

    def nearly_full(self) -> LogFull | None:
        """What is left is for work that was accepted before: there is no place for the next segment."""
        if self._full is None or self.journal.room() >= self.options.segment_bytes // SOFT_RESERVE_SHARE:
            return None
        return self._refusal(self._full)

    def _refusal(self, error: OSError) -> LogFull:
        now = asyncio.get_running_loop().time()
        if now - self._asked_for_room > FULL_RETRY_SECONDS:
            self._asked_for_room = now
            self._prepare()
        return LogFull(f"the disk of the journal is full ({error}); free some space, then try again")

    def trim(self, replica: Replica, index: int) -> None:
        if index >= replica.first_index:
            self._trims.append(Record(replica.partition, RecordKind.TRIM, replica.term, index, b""))

    def _flush(self) -> None:
        self._flush_scheduled = False
        if self.flushing or self._failed is not None or not self._dirty:
            return
        batch: list[tuple[Replica, Ready]] = []
        records, self._trims = self._trims, []
        trimmed = bool(records)
        for replica in self._dirty.values():
            ready, own = replica.take_ready()
            batch.append((replica, ready))
            records += own
        self._dirty = {}
        self.flushing = True
        loop = asyncio.get_running_loop()
        done = loop.run_in_executor(self._disk_thread, self._write, records, trimmed)
        done.add_done_callback(lambda future: self._flushed(future, batch))

    def _write(self, records: list[Record], trimmed: bool) -> None:
        self.journal.write(records)
        if trimmed:
            self.journal.remove_dead_segments()

    def _flushed(self, done: asyncio.Future[None], batch: list[tuple[Replica, Ready]]) -> None:
        self.flushing = False
        error = done.exception()
        if error is not None:
            self._fail(error)
            return
        self.flushes += 1
        if self.journal.needs_segment():
            self._prepare()
        try:
            for replica, ready in batch:
                replica.deliver(ready)
            blocked, self.blocked = self.blocked, set()
            for replica in sorted(blocked, key=lambda replica: replica.partition):
                replica.tell_writable()
        except Exception as failure:  # noqa: BLE001 - a consumer that fails must stop the node, not lose entries
            self._fail(failure)
            return
        if self._dirty:
            self._flush()
        elif self._idle is not None:
            self._idle.set()

    def _prepare(self) -> None:
        if self._preparing:
            return
        self._preparing = True
        loop = asyncio.get_running_loop()
        loop.run_in_executor(self._spare_thread, self.journal.prepare_segment).add_done_callback(self._prepared)

    def _prepared(self, done: asyncio.Future[None]) -> None:
        self._preparing = False
        error = done.exception()
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            self._full = error
        elif error is not None:
            self._fail(error)
        else:
            self._full = None

    def _fail(self, error: BaseException) -> None:
        """The disk or a consumer failed: nothing is acknowledged any more, the process must end."""
        if self._failed is None:
            self._failed = error
            if self._idle is not None:
                self._idle.set()
            if self.on_fatal is not None:
                self.on_fatal(error)

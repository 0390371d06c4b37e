"""All log groups of one node over one journal: the composition, and the node's turn.

::

    propose ─▶ core ─┐                     disk thread              ┌─▶ core.advance ─▶ committed ─▶ consumer
    propose ─▶ core ─┼─▶ turn ─▶ gather ─▶ one write, one fdatasync ─┼─▶ core.advance ─▶ committed ─▶ consumer
    trim ────────────┘                                              └─▶ writable again

All state belongs to the event loop's thread. Two threads do what blocks: one the flushes, one all else about segments.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from holdfast_log.disk import DiskThread, FileDisk
from holdfast_log.files import Disk
from holdfast_log.flusher import Batch, Flusher
from holdfast_log.housekeeper import Housekeeper
from holdfast_log.identity import NodeIdentity, claim_directory, lock_directory
from holdfast_log.journal import Journal
from holdfast_log.options import LogOptions
from holdfast_log.quorum import Voters
from holdfast_log.raft import HardState, Raft
from holdfast_log.record import NO_PARTITION, Record, RecordKind
from holdfast_log.replica import Replica
from holdfast_log.types import Entry, LogClosed

logger = logging.getLogger(__name__)

__all__ = ["LogNode", "LogOptions", "Replica"]


class LogNode:
    """Made by `open`. Its event loop is the one that `open` runs in."""

    def __init__(
        self, journal: Journal, disk: Disk, lock: int, node: str, partitions: int, options: LogOptions
    ) -> None:
        self.journal = journal
        self.options = options
        self.on_fatal: Callable[[BaseException], None] | None = None
        """Called once, when the disk or a consumer failed: nothing is acknowledged any more, the process must end with
        an error. What is on the disk is what the next start trusts."""
        self._disk = disk
        self._lock = lock
        self._loop = asyncio.get_running_loop()
        self._flush_thread = DiskThread("journal", self._loop.call_soon_threadsafe)
        self._segment_thread = DiskThread("segments", self._loop.call_soon_threadsafe)
        self._dirty: dict[int, Replica] = {}
        self._trims: dict[int, Record] = {}
        self._waiting_writable: dict[int, Replica] = {}
        self._turn_scheduled = False
        self._changed = asyncio.Event()  # after each turn, for `start` and `close`
        self._closing = False
        self._closed = False
        self._failed: BaseException | None = None
        self._flusher = Flusher(
            journal,
            self._flush_thread.submit,
            in_flight_max=options.flushes_in_flight_max,
            bytes_max=min(options.flush_bytes_max, options.segment_bytes // 4),
            on_durable=self._durable,
            on_failure=self._fail,
        )
        self._housekeeper = Housekeeper(
            journal,
            self._segment_thread.submit,
            self._loop.call_later,
            options,
            on_segment=self._segment_prepared,
            on_moved=self._entries_moved,
            on_failure=self._fail,
        )
        self._groups = {partition: self._replica(node, partition) for partition in range(partitions)}

    @classmethod
    async def open(
        cls,
        directory: Path,
        *,
        identity: NodeIdentity,
        partitions: int,
        options: LogOptions | None = None,
        disk: Disk | None = None,
    ) -> LogNode:
        """Lock the directory, check whose it is, scan the journal. Raises DirectoryInUse, WrongDirectory,
        JournalCorrupted, FormatTooNew, OSError."""
        chosen, on_disk = options or LogOptions(), disk or FileDisk()
        path = str(directory)
        lock = lock_directory(on_disk, path)
        try:
            claim_directory(on_disk, path, identity, partitions)
            journal = await asyncio.to_thread(
                Journal.open,
                f"{path}/journal",
                disk=on_disk,
                identity=identity,
                segment_bytes=chosen.segment_bytes,
                reserve_bytes=chosen.disk_reserve_bytes,
            )
        except BaseException:
            on_disk.close(lock)
            raise
        if journal.torn_bytes:
            logger.warning("cut %d bytes of a flush that a crash had interrupted", journal.torn_bytes)
        return cls(journal, on_disk, lock, identity.node, partitions, chosen)

    def _replica(self, node: str, partition: int) -> Replica:
        index = self.journal.index(partition)
        state = HardState(index.term, index.vote, index.commit)
        raft = Raft(node, Voters(frozenset({node})), state, index.last)
        return Replica(self, partition, raft, index)

    def group(self, partition: int) -> Replica:
        return self._groups[partition]

    @property
    def flushes(self) -> int:
        """How many flushes are durable, each one write and one fdatasync."""
        return self._flusher.flushes

    @property
    def flushed_bytes(self) -> int:
        return self._flusher.flushed_bytes

    @property
    def full(self) -> str | None:
        """Why no further segment can be made, while the disk is full."""
        return self._housekeeper.full

    async def start(self) -> None:
        """Stand for election in every group. Returns when all lead and have handed over what the journal holds; earlier
        only when the disk is too full for an election, which then follows. Raises what `on_fatal` is told."""
        for replica in self._groups.values():
            assert replica.started, "start() of each group comes first"
            replica.raft.campaign()
            self.mark_dirty(replica)
        self._housekeeper.look()
        while not all(replica.raft.serves for replica in self._groups.values()) and not self._stuck():
            await self._wait_for_change()
        if self._failed is not None:
            raise self._failed

    async def close(self) -> None:
        """Make durable what was proposed, say in the journal that all of it is, then release the directory. After a
        failure only the latter."""
        self._closing = True
        while self._failed is None and not self._at_rest() and not self._stuck():
            await self._wait_for_change()
        self._housekeeper.stopped = True
        await asyncio.to_thread(self._flush_thread.stop)
        await asyncio.to_thread(self._segment_thread.stop)
        self._closed = True
        self._release()

    def _release(self) -> None:
        try:
            if self._failed is None and self._flusher.idle:
                flush = self.journal.begin([*self._trims.values(), Record(NO_PARTITION, RecordKind.CLOSED, 0, 0)])
                if flush is not None:
                    self.journal.carry_out(flush)
        finally:
            self.journal.close()
            self._disk.close(self._lock)

    def _at_rest(self) -> bool:
        return self._flusher.idle and not self._dirty and not self._turn_scheduled

    def _stuck(self) -> bool:
        """The disk is so full that not even an election finds room in the journal."""
        return self.full is not None and self._flusher.waits_for_segment

    async def _wait_for_change(self) -> None:
        if self._failed is None:
            self._changed.clear()
            await self._changed.wait()
        if self._failed is not None and not self._closing:
            raise self._failed

    # ------------------------------------------------------------ ReplicaHost

    def busy(self) -> bool:
        return self._flusher.busy or self._flusher.waits_for_segment

    def check_room(self, payload_bytes: int) -> None:
        if self._failed is not None:
            raise LogClosed(f"the log has failed: {self._failed}")
        if self._closing:
            raise LogClosed("the log is closing")
        self._housekeeper.check_room(payload_bytes, self._flusher.gathered_bytes)

    def mark_dirty(self, replica: Replica) -> None:
        self._dirty[replica.partition] = replica
        self._schedule_turn()

    def wants_writable(self, replica: Replica) -> None:
        self._waiting_writable[replica.partition] = replica

    def trim(self, replica: Replica, index: int, term: int) -> None:
        """Written with the next flush; at once only when that may free a segment."""
        self._trims[replica.partition] = Record(replica.partition, RecordKind.TRIM, term, index)
        if self.journal.segment_count > 1:
            self._schedule_turn()

    def read(self, partition: int, start: int, end: int, done: Callable[[Sequence[Entry]], None]) -> None:
        places = self.journal.locate(partition, start, end, self.options.replay_batch_bytes)

        def have(entries: Sequence[Entry] | None, error: BaseException | None) -> None:
            if entries is None:
                assert error is not None
                self._fail(error)
            elif self._failed is None:
                self._guarded(lambda: done(entries))

        self._segment_thread.submit(lambda: self.journal.fetch(places), have)

    # ------------------------------------------------------------ the turn

    def _schedule_turn(self) -> None:
        """Once per turn of the loop, whatever is proposed in it."""
        if not self._turn_scheduled:
            self._turn_scheduled = True
            self._loop.call_soon(self._scheduled_turn)

    def _scheduled_turn(self) -> None:
        self._turn_scheduled = False
        if not self._flusher.busy:  # otherwise the flush that is done first takes the turn, with a larger batch
            self._guarded(self._turn)

    def _turn(self) -> None:
        """To the disk first, so that it works while the consumers do."""
        readies: Batch = []
        dirty, self._dirty = self._dirty, {}
        for partition, replica in dirty.items():
            raft = replica.raft
            ready = raft.ready(self._flusher.room)
            if ready.must_sync:
                self._flusher.gather(replica, ready)
            readies.append((replica, ready))
            if raft.has_ready():
                self._dirty[partition] = replica  # the flush is full; after the next one
        self._add_trims()
        self._flusher.flush()
        if self._flusher.waits_for_segment:
            self._housekeeper.look()
        for replica, ready in readies:
            replica.carry_on(ready)
        if self._waiting_writable:
            self._tell_writable()
        if self._dirty and not self.busy():
            self._schedule_turn()
        self._changed.set()

    def _add_trims(self) -> None:
        if self._trims and (not self._flusher.idle or self.journal.segment_count > 1):
            self._flusher.add(list(self._trims.values()))
            self._trims = {}

    def _durable(self, batch: Batch) -> None:
        """A flush is on the disk."""
        if self._failed is not None:
            return
        self._guarded(lambda: self._after_flush(batch))

    def _after_flush(self, batch: Batch) -> None:
        for replica, ready in batch:
            replica.raft.advance(ready)
            self._dirty[replica.partition] = replica
        self._housekeeper.look()
        self._turn()

    def _tell_writable(self) -> None:
        for partition, replica in list(self._waiting_writable.items()):
            del self._waiting_writable[partition]
            if replica.writable:  # asks to be told again, if not
                replica.tell_writable()

    def _segment_prepared(self) -> None:
        self._guarded(self._turn)

    def _entries_moved(self, records: list[Record]) -> None:
        self._flusher.add(records)
        self._schedule_turn()

    # ------------------------------------------------------------ failure

    def _guarded(self, work: Callable[[], None]) -> None:
        """An exception out of a consumer, or a broken invariant, stops the node: going on could skip entries."""
        if self._failed is not None or self._closed:
            return
        try:
            work()
        except Exception as error:  # noqa: BLE001 - reported by on_fatal, and nothing goes on after it
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        if self._failed is not None:
            return
        self._failed = error
        self._housekeeper.stopped = True
        logger.critical("the log has failed, the node must stop", exc_info=error)
        self._changed.set()
        if self.on_fatal is not None:
            self.on_fatal(error)

"""The journal: every partition's log of a node in one sequence of segments.

A flush goes through three steps, in the order in which the flushes were begun:

1. `begin` (event loop): place and encode it. None when it needs a new segment and that is not prepared yet, or other
   flushes are still on their way to the old one: begin again after the next `adopt` or `finish`.
2. `carry_out` (disk thread): one write, one fdatasync. OSError: the node must stop.
3. `finish` (event loop): its records are durable; the index knows them from here on.

Beside them, in a second thread: `prepare` the next segment, `remove` those that `take_dead` returns, `fetch` entries.

::

      removed      live entries, or none      being written      prepared
    . . . . . .  [ seg 7 ] [ seg 9 ] [ seg 10 ]  [ seg 11 ==>   ]  [ seg 12 ]
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from holdfast_log.entry_files import Place, fetch_entries
from holdfast_log.files import Disk, write_all
from holdfast_log.flush import (
    FLUSH_HEADER_BYTES,
    SECTOR_BYTES,
    FlushHeader,
    encode_flush_header,
    flush_padding,
    flush_span,
)
from holdfast_log.identity import NodeIdentity
from holdfast_log.partition_index import PartitionIndex
from holdfast_log.record import (
    NO_PARTITION,
    RECORD_HEADER_BYTES,
    Record,
    RecordKind,
    bounds_record,
    encode_records,
)
from holdfast_log.recovery import Recovery
from holdfast_log.segment import FORMAT_VERSION, Segment, SegmentHeader, nonce_seed
from holdfast_log.segment_files import SegmentPlan, close_segments, create_segment, open_segments, read_segment
from holdfast_log.types import Entry, Trimmed

SEGMENT_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Flush:
    number: int
    segment: Segment
    offset: int
    span: int
    buffers: list[bytes]
    records: Sequence[Record]
    sizes: list[int]


class Journal:
    def __init__(
        self, directory: str, disk: Disk, identity: NodeIdentity, segment_bytes: int, reserve_bytes: int
    ) -> None:
        self.torn_bytes = 0
        """How many bytes of an unfinished flush the recovery scan cut."""
        self._directory = directory
        self._disk = disk
        self._identity = identity
        self._segment_bytes = _whole_sectors(segment_bytes)
        self._reserve_bytes = reserve_bytes
        self._nonce = b""
        self._seed = 0
        self._segments: dict[int, Segment] = {}  # with content, in the order of their sequences
        self._current: Segment  # the last of them
        self._prepared: Segment | None = None
        self._discarded: list[Segment] = []  # prepared, but then a larger one was needed
        self._head_is_durable = True  # of the segment that is being written: what it repeats needs no older segment
        self._roll_waits = False  # a flush needs a further segment, of ``_wanted_bytes`` at least
        self._wanted_bytes = self._segment_bytes
        self._next_sequence = 1
        self._next_flush = 1
        self._chain = 0  # the checksum of the last record
        self._write_error: OSError | None = None
        self._begun: deque[Flush] = deque()
        self._indexes: dict[int, PartitionIndex] = {}
        self._live_bytes: dict[int, int] = {}

    @classmethod
    def open(
        cls,
        directory: str,
        *,
        disk: Disk,
        identity: NodeIdentity,
        segment_bytes: int = SEGMENT_BYTES,
        reserve_bytes: int = 0,
    ) -> Journal:
        """Scan the segments in ``directory``, make the first one in a fresh one. ``reserve_bytes`` of the disk are left
        free when a segment is made. Raises JournalCorrupted, FormatTooNew, WrongDirectory, OSError."""
        journal = cls(directory, disk, identity, segment_bytes, reserve_bytes)
        disk.make_directory(directory)
        segments, journal._nonce = open_segments(disk, directory, identity.cluster, identity.node)
        try:
            journal._recover(segments)
        except BaseException:
            close_segments(disk, segments)
            raise
        return journal

    def close(self) -> None:
        """Release the files. Say before, with a CLOSED record, that all was durable."""
        prepared = [self._prepared] if self._prepared else []
        close_segments(self._disk, [*self._segments.values(), *prepared, *self._discarded])
        self._segments.clear()

    def index(self, partition: int) -> PartitionIndex:
        index = self._indexes.get(partition)
        if index is None:
            assert 0 <= partition < NO_PARTITION
            index = self._indexes[partition] = PartitionIndex(self._live_bytes)
        return index

    @property
    def segment_count(self) -> int:
        """Segments with content, the one that is being written included."""
        return len(self._segments)

    # ------------------------------------------------------------ writing

    def begin(self, records: Sequence[Record]) -> Flush | None:
        """Give ``records`` their place, as one flush; None: not yet, see above."""
        body_bytes = sum([len(record.payload) for record in records]) + RECORD_HEADER_BYTES * len(records)
        if self._current.position + flush_span(body_bytes) > self._current.size:
            if self._begun:
                return None  # what the new segment's head repeats must be durable
            standing = self._standing_records()
            body_bytes += sum(RECORD_HEADER_BYTES + len(record.payload) for record in standing)
            if not self._roll(flush_span(body_bytes)):
                return None
            records = [*standing, *records]
        return self._place(records, body_bytes)

    def _place(self, records: Sequence[Record], body_bytes: int) -> Flush:
        number, segment, span = self._next_flush, self._current, flush_span(body_bytes)
        parts, sizes, self._chain = encode_records(records, self._chain, self._seed)
        head = encode_flush_header(FlushHeader(number, body_bytes, len(records), self._chain), self._seed)
        buffers = [head, *parts, flush_padding(body_bytes)]
        flush = Flush(number, segment, segment.position, span, buffers, records, sizes)
        segment.position += span
        self._next_flush += 1
        self._begun.append(flush)
        return flush

    def carry_out(self, flush: Flush) -> None:
        """Make it durable (disk thread). Raises OSError: never try again, nobody knows what the disk holds then. A flush
        that waits behind one that failed fails with it: on the disk it would prove that the other was durable."""
        if self._write_error is not None:
            raise self._write_error
        try:
            write_all(self._disk, flush.segment.handle, flush.buffers, flush.offset)
            self._disk.fdatasync(flush.segment.handle)
        except OSError as error:
            self._write_error = error
            raise

    def finish(self, flush: Flush) -> None:
        """``flush`` is durable."""
        oldest = self._begun.popleft()
        assert oldest is flush, "flushes become durable in the order in which they were begun"
        self._head_is_durable = True
        sequence = flush.segment.sequence
        offset = flush.offset + FLUSH_HEADER_BYTES
        for record, size in zip(flush.records, flush.sizes, strict=True):
            if record.partition != NO_PARTITION:
                self.index(record.partition).take(record, sequence, offset, size)
            offset += size

    def write(self, records: Sequence[Record]) -> Flush:
        """All three steps, and a further segment if needed, for those who may block. Raises OSError."""
        while (flush := self.begin(records)) is None:
            assert not self._begun, "this is not mixed with flushes in a thread"
            self.adopt(self.prepare(self.plan_segment()))
        self.carry_out(flush)
        self.finish(flush)
        return flush

    def _standing_records(self) -> list[Record]:
        """What the head of a segment repeats, so that no older segment is needed to know it: the hard state of each
        partition, and which entries it has."""
        records = []
        for partition, index in sorted(self._indexes.items()):
            records += [
                Record(partition, RecordKind.HARD_STATE, index.term, index.commit, index.vote.encode()),
                bounds_record(partition, index.first - 1, index.trimmed_term, index.last),
            ]
        return records

    # ------------------------------------------------------------ segments

    def needs_segment(self) -> bool:
        """The next segment should be prepared: half of this one is used, or a flush waits for it."""
        return self._prepared is None and (self._roll_waits or self._current.position > self._current.size // 2)

    def room(self) -> int:
        """Bytes that can be written without a further segment."""
        return self._current.size - self._current.position + (self._prepared.size if self._prepared else 0)

    def plan_segment(self) -> SegmentPlan:
        identity = self._identity
        header = SegmentHeader(FORMAT_VERSION, self._next_sequence, self._nonce, identity.cluster, identity.node)
        self._next_sequence += 1
        return SegmentPlan(self._directory, header, self._wanted_bytes, self._reserve_bytes)

    def prepare(self, plan: SegmentPlan) -> Segment:
        """Make the segment (any thread). Raises OSError: ENOSPC leaves everything as it was."""
        return create_segment(self._disk, plan)

    def adopt(self, segment: Segment) -> None:
        """``segment`` was prepared and is the next one."""
        assert self._prepared is None
        self._prepared = segment

    def take_dead(self) -> list[Segment]:
        """Segments in which nothing live is left, to be handed to `remove`."""
        dead, self._discarded = self._discarded, []
        if len(self._segments) > 1 and self._head_is_durable:
            for sequence in [number for number in self._segments if not self._live_bytes.get(number)]:
                if sequence != self._current.sequence:
                    dead.append(self._segments.pop(sequence))
                    self._live_bytes.pop(sequence, None)
        return dead

    def remove(self, segments: Iterable[Segment]) -> None:
        """Raises OSError."""
        for segment in segments:
            self._disk.close(segment.handle)
            self._disk.unlink(segment.path)
        self._disk.sync_directory(self._directory)

    def mostly_dead(self, segments_behind: int, live_share_max: float) -> Segment | None:
        """A segment at least so many behind, of which at most this share is live: worth rewriting."""
        for sequence, segment in self._segments.items():
            if sequence > self._current.sequence - segments_behind:
                return None
            if self._live_bytes.get(sequence, 0) <= segment.size * live_share_max:
                return segment
        return None

    def places_in(self, segment: Segment) -> list[Place]:
        """All live entries of a segment."""
        places = []
        for partition, index in sorted(self._indexes.items()):
            places += [self._place_of(partition, number) for number in index.entries_in(segment.sequence)]
        return places

    def _roll(self, span: int) -> bool:
        """Go over to the prepared segment if it has room for ``span`` bytes behind its header."""
        needed = SECTOR_BYTES + span
        self._roll_waits = False
        if self._prepared is not None and self._prepared.size < needed:
            self._discarded.append(self._prepared)
            self._prepared = None
        if self._prepared is None:
            self._roll_waits = True
            self._wanted_bytes = max(self._segment_bytes, _whole_sectors(needed))
            return False
        self._current, self._prepared = self._prepared, None
        self._segments[self._current.sequence] = self._current
        self._head_is_durable = False
        self._wanted_bytes = self._segment_bytes
        return True

    # ------------------------------------------------------------ reading

    def read(self, partition: int, start: int, end: int, bytes_max: int) -> list[Entry]:
        """Entries ``start`` to ``end`` (exclusive), at least one if there is one, then as many as fit ``bytes_max``.
        Blocks. Raises Trimmed, JournalCorrupted, OSError."""
        return self.fetch(self.locate(partition, start, end, bytes_max))

    def locate(self, partition: int, start: int, end: int, bytes_max: int) -> list[Place]:
        """The places of those entries; they stay readable until a later call of `take_dead`. Raises Trimmed."""
        index = self.index(partition)
        if start < index.first:
            raise Trimmed(start, index.first)
        places: list[Place] = []
        size = 0
        for number in range(start, min(end, index.last + 1)):
            place = self._place_of(partition, number)
            size += place.length
            if places and size > bytes_max:
                break
            places.append(place)
        return places

    def _place_of(self, partition: int, index: int) -> Place:
        _, sequence, offset, length = self._indexes[partition].locate(index)
        return Place(partition, index, self._segments[sequence], offset, length)

    def fetch(self, places: Sequence[Place]) -> list[Entry]:
        """Read entries back (any thread). Raises JournalCorrupted, OSError."""
        return fetch_entries(self._disk, places, self._seed)

    # ------------------------------------------------------------ recovery

    def _recover(self, segments: list[Segment]) -> None:
        if not segments:
            self._nonce = os.urandom(16)
            self._seed = nonce_seed(self._nonce)
            segments.append(self.prepare(self.plan_segment()))
            self._current = self._segments[segments[0].sequence] = segments[0]
            return
        self._seed = nonce_seed(self._nonce)
        recovery = Recovery(self._seed)
        for segment in segments:
            data = read_segment(self._disk, segment, segment.size)
            segment.position = recovery.scan(segment.path, segment.sequence, data)
        recovery.finish()
        self._indexes, self._live_bytes = recovery.indexes, recovery.live_bytes
        self._next_flush, self._chain = recovery.next_flush, recovery.chain
        self._next_sequence = segments[-1].sequence + 1
        self._arrange(segments, recovery)

    def _arrange(self, segments: list[Segment], recovery: Recovery) -> None:
        """Which segment is written next: the last with content. One that was prepared behind it keeps its turn."""
        torn = recovery.torn
        begun = [s for s in segments if s.position > SECTOR_BYTES or (torn and torn.sequence == s.sequence)]
        self._current = begun[-1] if begun else segments[0]
        self._head_is_durable = self._current.position > SECTOR_BYTES
        behind = [s for s in segments if s.sequence > self._current.sequence]
        self._segments = {s.sequence: s for s in segments if s not in behind}
        if behind:
            self._prepared, *self._discarded = behind
        if torn is not None:
            # Zeroed, so that it can never be taken for something else, whatever is written there next.
            write_all(self._disk, self._current.handle, [bytes(torn.end - torn.start)], torn.start)
            self._disk.fdatasync(self._current.handle)
            self.torn_bytes = torn.end - torn.start


def _whole_sectors(size: int) -> int:
    return -(-size // SECTOR_BYTES) * SECTOR_BYTES

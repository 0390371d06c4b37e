"""The journal: every partition's log of a node in one sequence of segments.

`Journal.open` scans what is there, cuts a torn tail, and refuses damage of anything that was durable. After that one
flush at a time goes through `write` (in a worker thread); `read` fetches entries back by partition and index.
"""

from __future__ import annotations

import os
import threading
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from holdfast_log import record as rec
from holdfast_log.disk import Disk
from holdfast_log.record import BadRecord, Record, RecordKind
from holdfast_log.types import Entry, EntryKind, LogError, Trimmed

SEGMENT_BYTES = 64 * 1024 * 1024


class JournalCorrupted(LogError):
    """Something that was durable can't be read any more. Nothing was changed on the disk."""

    def __init__(self, path: Path, offset: int, what: str) -> None:
        super().__init__(f"journal segment {path} is damaged at offset {offset}: {what}")
        self.path = path
        self.offset = offset


class FormatTooNew(LogError):
    """A newer release wrote this data."""


@dataclass
class PartitionIndex:
    """Where the entries of one partition lie; entry ``first + i`` is at position i of the arrays."""

    first: int = 1
    terms: array[int] = field(default_factory=lambda: array("Q"))
    segments: array[int] = field(default_factory=lambda: array("Q"))
    offsets: array[int] = field(default_factory=lambda: array("Q"))
    term: int = 0
    commit: int = 0
    vote: str = ""
    trimmed_term: int = 0

    @property
    def last(self) -> int:
        return self.first + len(self.terms) - 1

    def put(self, term: int, index: int, segment: int, offset: int) -> None:
        if index > self.last + 1:
            if self.terms:
                raise BadRecord(f"entry {index} follows entry {self.last}")
            self.first = index  # the segments that held earlier entries were trimmed
        keep = index - self.first
        if keep < 0:
            return
        del self.terms[keep:], self.segments[keep:], self.offsets[keep:]
        self.terms.append(term)
        self.segments.append(segment)
        self.offsets.append(offset)

    def trim(self, index: int, term: int) -> None:
        count = min(index - self.first + 1, len(self.terms))
        if index < self.first:
            return
        del self.terms[:count], self.segments[:count], self.offsets[:count]
        self.first = index + 1
        self.trimmed_term = term


@dataclass
class Segment:
    sequence: int
    path: Path
    descriptor: int
    size: int
    position: int  # where the next flush goes


class Journal:
    def __init__(self, directory: Path, disk: Disk, segment_bytes: int) -> None:
        self._directory = directory
        self._disk = disk
        self._segment_bytes = segment_bytes
        self._nonce = b""
        self._seed = 0
        self._segments: dict[int, Segment] = {}
        self._prepared: Segment | None = None
        self._next_flush = 1
        self._creating = threading.Lock()  # the next segment is made ahead in a thread of its own
        self.partitions: dict[int, PartitionIndex] = {}
        self.torn_bytes = 0
        """How many bytes of an unfinished flush the recovery scan cut."""

    @classmethod
    def open(cls, directory: Path, *, disk: Disk | None = None, segment_bytes: int = SEGMENT_BYTES) -> Journal:
        """Scan the segments below ``directory``. Raises JournalCorrupted, FormatTooNew, OSError."""
        journal = cls(directory, disk or Disk(), segment_bytes)
        directory.mkdir(parents=True, exist_ok=True)
        journal._recover()
        return journal

    def index(self, partition: int) -> PartitionIndex:
        return self.partitions.setdefault(partition, PartitionIndex())

    def write(self, records: list[Record]) -> None:
        """Make ``records`` durable with one write and one fdatasync. Raises OSError: then the caller must stop."""
        encoded = [rec.encode_record(record, self._seed) for record in records]
        span = rec.flush_span(sum(map(len, encoded)))
        segment = self._segments[max(self._segments)]
        if segment.position + span > segment.size:
            segment = self._roll(span)
            repeated = [rec.encode_record(r, self._seed) for r in self._standing_records()]
            encoded = repeated + encoded
            records = list(self._standing_records()) + records
        flush = rec.encode_flush(self._next_flush, encoded, self._seed)
        start = segment.position
        self._disk.write(segment.descriptor, flush, start)
        self._disk.sync(segment.descriptor)
        segment.position = start + len(flush)
        self._next_flush += 1
        offset = start + rec.FLUSH_HEADER_BYTES
        for record, data in zip(records, encoded, strict=True):
            self._note(record, segment.sequence, offset)
            offset += len(data)

    def room(self) -> int:
        """Bytes left in the segment that is being written and in the one that is prepared."""
        segment = self._segments[max(self._segments)]
        spare = self._prepared.size if self._prepared else 0
        return segment.size - segment.position + spare

    def needs_segment(self) -> bool:
        """The last segment is half full and its successor is not there yet."""
        segment = self._segments[max(self._segments)]
        return self._prepared is None and segment.position > segment.size // 2

    def prepare_segment(self) -> None:
        """Create the next segment ahead of need. Raises OSError (ENOSPC: proposals are then refused in time)."""
        with self._creating:
            if self._prepared is None:
                self._prepared = self._create(max(self._segments, default=0) + 1, self._segment_bytes)

    def _roll(self, span: int) -> Segment:
        with self._creating:
            return self._next_segment(span)

    def _next_segment(self, span: int) -> Segment:
        # What the first flush of a segment repeats for every partition fits into one sector per 8 partitions.
        needed = rec.SECTOR_BYTES + span + rec.flush_span(96 * max(1, 2 * len(self.partitions)))
        prepared, self._prepared = self._prepared, None
        if prepared is not None and prepared.size < needed:
            self._disk.close(prepared.descriptor)
            self._disk.unlink(prepared.path)
            prepared = None
        if prepared is None:
            prepared = self._create(max(self._segments) + 1, max(self._segment_bytes, needed))
        self._segments[prepared.sequence] = prepared
        return prepared

    def _create(self, sequence: int, size: int) -> Segment:
        path = self._directory / f"{sequence:016x}.segment"
        head = rec.encode_segment_header(sequence, self._nonce)
        descriptor = self._disk.create_zeroed(path, head, size)
        return Segment(sequence, path, descriptor, size, rec.SECTOR_BYTES)

    def _standing_records(self) -> Iterable[Record]:
        """Hard state and trim point of every partition: repeated at the head of each segment, so that no old segment
        is needed for them."""
        for number in sorted(self.partitions):
            index = self.partitions[number]
            yield Record(number, RecordKind.HARD_STATE, index.term, index.commit, index.vote.encode())
            yield Record(number, RecordKind.TRIM, index.trimmed_term, index.first - 1, b"")

    def remove_dead_segments(self) -> int:
        """Delete segments in which no live entry is left; returns how many. The last one always stays."""
        live = {min(index.segments) for index in self.partitions.values() if index.segments}
        keep = min(live | {max(self._segments)})
        dead = [segment for sequence, segment in sorted(self._segments.items()) if sequence < keep]
        for segment in dead:
            self._disk.close(segment.descriptor)
            self._disk.unlink(segment.path)
            del self._segments[segment.sequence]
        return len(dead)

    def close(self) -> None:
        for segment in [*self._segments.values(), *([self._prepared] if self._prepared else [])]:
            self._disk.close(segment.descriptor)
        self._segments.clear()
        self._prepared = None

    def read(self, partition: int, start: int, end: int, bytes_max: int) -> list[Entry]:
        """Entries ``start`` to ``end`` (exclusive), at least one, then as many as fit ``bytes_max``.
        Raises Trimmed, JournalCorrupted."""
        index = self.index(partition)
        if start < index.first:
            raise Trimmed(start, index.first)
        entries: list[Entry] = []
        size = 0
        for number in range(start, min(end, index.last + 1)):
            place = number - index.first
            entry = self._read_one(partition, index.segments[place], index.offsets[place], number)
            entries.append(entry)
            size += len(entry.payload)
            if size >= bytes_max:
                break
        return entries

    def _read_one(self, partition: int, sequence: int, offset: int, number: int) -> Entry:
        segment = self._segments[sequence]
        head = self._disk.read(segment.descriptor, rec.RECORD_HEADER_BYTES, offset)
        size = int.from_bytes(head[4:8], "little") if len(head) == rec.RECORD_HEADER_BYTES else 0
        if offset + rec.RECORD_HEADER_BYTES + size > segment.size:
            raise JournalCorrupted(segment.path, offset, f"entry {number} of partition {partition} has a bad length")
        data = head + self._disk.read(segment.descriptor, size, offset + rec.RECORD_HEADER_BYTES)
        try:
            found, _ = rec.decode_record(data, 0, self._seed)
        except BadRecord as error:
            what = f"entry {number} of partition {partition}: {error}"
            raise JournalCorrupted(segment.path, offset, what) from error
        if (found.partition, found.index) != (partition, number):
            raise JournalCorrupted(segment.path, offset, f"entry {number} of partition {partition} is misplaced")
        return Entry(found.term, found.index, EntryKind(found.kind), found.payload)

    def _recover(self) -> None:
        for leftover in self._directory.glob("*.new"):
            leftover.unlink()
        paths = sorted(self._directory.glob("*.segment"))
        if not paths:
            self._nonce = os.urandom(16)
            self._seed = rec.nonce_seed(self._nonce)
            first = self._create(1, self._segment_bytes)
            self._segments[1] = first
            return
        for path in paths:
            self._open_segment(path)
        ordered = [self._segments[sequence] for sequence in sorted(self._segments)]
        torn: tuple[Segment, int] | None = None
        for segment in ordered:
            torn = self._scan(segment, torn)
        self._settle_tail(ordered, torn)

    def _open_segment(self, path: Path) -> None:
        descriptor = self._disk.open(path)
        size = self._disk.size(descriptor)
        try:
            version, sequence, nonce = rec.decode_segment_header(self._disk.read(descriptor, rec.SECTOR_BYTES, 0))
        except BadRecord as error:
            raise JournalCorrupted(path, 0, str(error)) from error
        if version > rec.FORMAT_VERSION:
            known = rec.FORMAT_VERSION
            raise FormatTooNew(f"{path} has format {version}, this release knows up to {known}; use a newer release")
        if self._nonce and nonce != self._nonce:
            raise JournalCorrupted(path, 0, "the segment belongs to another journal")
        if f"{sequence:016x}" != path.stem:
            raise JournalCorrupted(path, 0, f"the segment says that it is number {sequence}")
        if self._segments and sequence != max(self._segments) + 1:
            raise JournalCorrupted(path, 0, f"segment {max(self._segments) + 1} is missing before it")
        self._nonce = nonce
        self._seed = rec.nonce_seed(nonce)
        self._segments[sequence] = Segment(sequence, path, descriptor, size, rec.SECTOR_BYTES)

    def _scan(self, segment: Segment, torn: tuple[Segment, int] | None) -> tuple[Segment, int] | None:
        data = self._disk.read(segment.descriptor, segment.size, 0)
        position = rec.SECTOR_BYTES
        while True:
            header = rec.decode_flush_header(data, position, self._seed)
            if header is None or not rec.flush_is_whole(data, position, header[1], header[2], self._seed):
                break
            number, size, _ = header
            if torn is not None:
                raise JournalCorrupted(torn[0].path, torn[1], f"flush {self._next_flush} can't be read, {number} can")
            expected = self._next_flush
            if number != expected and not (expected == 1 and not self.partitions):
                raise JournalCorrupted(segment.path, position, f"flush {number} where {expected} was expected")
            self._index_flush(segment, data, position, size)
            self._next_flush = number + 1
            position += rec.flush_span(size)
        segment.position = position
        self._look_behind(segment, data, position)
        if torn is None and data[position:].count(0) != len(data) - position:
            return segment, position
        return torn

    def _look_behind(self, segment: Segment, data: bytes, position: int) -> None:
        """A whole flush behind one that can't be read means that the latter was durable once."""
        for offset in range(position + rec.SECTOR_BYTES, len(data), rec.SECTOR_BYTES):
            if data[offset] == 0:
                continue
            header = rec.decode_flush_header(data, offset, self._seed)
            if header and header[0] > self._next_flush:
                what = f"flush {self._next_flush} can't be read, but flush {header[0]} behind it was written later"
                raise JournalCorrupted(segment.path, position, what)

    def _index_flush(self, segment: Segment, data: bytes, position: int, size: int) -> None:
        offset = position + rec.FLUSH_HEADER_BYTES
        end = offset + size
        while offset < end:
            try:
                record, following = rec.decode_record(data, offset, self._seed)
                self._note(record, segment.sequence, offset)
            except BadRecord as error:
                raise JournalCorrupted(segment.path, offset, str(error)) from error
            offset = following

    def _note(self, record: Record, sequence: int, offset: int) -> None:
        index = self.index(record.partition)
        if record.kind == RecordKind.HARD_STATE:
            index.term, index.commit, index.vote = record.term, record.index, record.payload.decode()
        elif record.kind == RecordKind.TRIM:
            index.trim(record.index, record.term)
        else:
            index.put(record.term, record.index, sequence, offset)

    def _settle_tail(self, ordered: list[Segment], torn: tuple[Segment, int] | None) -> None:
        """Zero what an unfinished flush left, so that it can never be taken for something else later; a segment that
        was prepared and not begun is kept for its turn."""
        if torn is not None:
            segment, position = torn
            data = self._disk.read(segment.descriptor, segment.size - position, position)
            self.torn_bytes = len(data.rstrip(b"\0"))
            self._disk.write(segment.descriptor, b"\0" * self.torn_bytes, position)
            self._disk.sync(segment.descriptor)
        last = ordered[-1]
        if len(ordered) > 1 and last.position == rec.SECTOR_BYTES and torn is None:
            self._prepared = self._segments.pop(last.sequence)

"""The recovery scan: from the bytes of the segments to what is durable. Pure; `journal` reads the files.

The question that matters is what to do where a flush can't be read. A crash in the middle of a write leaves a *torn
tail*, which nobody was promised and which is cut. *Damage* of something that was durable must never be cut. They are
told apart by what `flush` guarantees: flush n + 1 is begun only after flush n is durable, on space that holds zeros.

* Anything but zeros behind flush n, in its segment or in a later one: flush n was durable, so this is damage.
* Otherwise flush n is the last one. If a sector of it is all zeros, or its very end is: the write did not get there, so
  it is torn. If every sector arrived and it still does not check: damage.

A flush that happens to hold a sector of zeros of its own, is the last one and is then damaged counts as torn; `close`
writes a last empty flush for this reason, so that it can happen only after a crash.
"""

from __future__ import annotations

from dataclasses import dataclass

from holdfast_log.flush import (
    FLUSH_HEADER_BYTES,
    SECTOR_BYTES,
    FlushHeader,
    decode_flush_header,
    flush_span,
)
from holdfast_log.partition_index import PartitionIndex
from holdfast_log.record import (
    ENTRY_KIND_MAX,
    FLAG_MOVED,
    KNOWN_KINDS,
    BadRecord,
    Found,
    RecordKind,
    decode_records,
)
from holdfast_log.types import FormatTooNew, JournalCorrupted

_ZERO_SECTOR = bytes(SECTOR_BYTES)


@dataclass(frozen=True, slots=True)
class TornTail:
    """What an unfinished flush left: not zeros from ``start`` to ``end``."""

    path: str
    sequence: int
    start: int
    end: int


class Recovery:
    """Give `scan` the segments in their order, then call `finish`."""

    def __init__(self, seed: int) -> None:
        self.indexes: dict[int, PartitionIndex] = {}
        self.live_bytes: dict[int, int] = {}
        self.next_flush = 1
        self.chain = 0  # the checksum of the last record
        self.torn: TornTail | None = None
        self._bad: BadRecord | None = None  # where and why the torn flush could not be read
        self._seed = seed
        self._last_sequence = 0

    def scan(self, path: str, sequence: int, data: bytes) -> int:
        """Take in one segment, header included; returns where its last whole flush ends. Raises JournalCorrupted."""
        follows = sequence == self._last_sequence + 1
        position = SECTOR_BYTES
        while True:
            try:
                found, span = self._read_flush(data, position, follows)
            except BadRecord as error:
                self._judge(path, sequence, data, position, error, follows)
                break
            self._take_in(path, sequence, found)
            position += span
            follows = True
        self._last_sequence = sequence
        return position

    def finish(self) -> None:
        """Check that nothing is missing. Raises JournalCorrupted."""
        for partition, index in sorted(self.indexes.items()):
            missing = index.first_missing()
            if missing is not None:
                what = f"entry {missing} of partition {partition} is in no segment; was one removed?"
                raise JournalCorrupted("(all)", 0, what)
            if index.commit > index.last:
                what = f"partition {partition} has committed entry {index.commit}, but ends at {index.last}"
                raise JournalCorrupted("(all)", 0, what)

    # ------------------------------------------------------------ one flush

    def _read_flush(self, data: bytes, position: int, follows: bool) -> tuple[list[Found], int]:
        """The records of the flush at ``position`` and the bytes it takes. Raises BadRecord."""
        header = decode_flush_header(data, position, self._seed)
        if header is None:
            raise BadRecord(position, "there is no flush header")
        if not self._is_next(header, follows):
            raise BadRecord(position, f"this is flush {header.number}, expected was {self.next_flush}")
        span = flush_span(header.body_bytes)
        if position + span > len(data):
            raise BadRecord(position, "the flush reaches beyond the end of the file")
        start = position + FLUSH_HEADER_BYTES
        chain = self.chain if follows else None
        found, last_crc = decode_records(data, start, start + header.body_bytes, chain, self._seed)
        if len(found) != header.records or last_crc != header.last_crc:
            raise BadRecord(position, "the records are not those that the flush header announces")
        self.next_flush = header.number + 1
        self.chain = last_crc
        return found, span

    def _take_in(self, path: str, sequence: int, found: list[Found]) -> None:
        if self.torn is not None:
            raise self._damage_behind_torn()
        indexes = self.indexes
        for item in found:
            record, offset = item.record, item.offset
            if record.kind == RecordKind.CLOSED:
                continue
            if record.kind not in KNOWN_KINDS:
                what = f"{path} holds a record of kind {record.kind} at offset {offset}"
                raise FormatTooNew(f"{what}, which this release does not know; use a newer release")
            index = indexes.get(record.partition)
            if index is None:
                index = indexes[record.partition] = PartitionIndex(self.live_bytes)
            if record.kind <= ENTRY_KIND_MAX and record.index > index.last + 1 and not record.flags & FLAG_MOVED:
                what = f"entry {record.index} of partition {record.partition} follows entry {index.last}"
                raise JournalCorrupted(path, offset, what)
            index.take(record, sequence, offset, item.size)

    # ------------------------------------------------------------ torn or damaged

    def _judge(self, path: str, sequence: int, data: bytes, position: int, error: BadRecord, follows: bool) -> None:
        """No flush can be read at ``position``: the end of what was written, a torn tail, or damage."""
        end = position + len(data[position:].rstrip(b"\0"))
        if end == position:
            return
        if self.torn is not None:
            raise self._damage_behind_torn()
        if not self._is_torn(data, position, end, follows):
            raise JournalCorrupted(path, error.offset, str(error))
        self.torn = TornTail(path, sequence, position, end)
        self._bad = error

    def _is_torn(self, data: bytes, position: int, end: int, follows: bool) -> bool:
        """Whether what lies from ``position`` to ``end``, with zeros behind it, can be an unfinished flush."""
        header = decode_flush_header(data, position, self._seed)
        if header is None:
            return self._header_is_torn(data, position, end)
        flush_end = position + flush_span(header.body_bytes)
        if not self._is_next(header, follows) or end > flush_end or flush_end > len(data):
            return False
        sectors = range(position, flush_end, SECTOR_BYTES)
        return data[flush_end - 1] == 0 or any(data[at : at + SECTOR_BYTES] == _ZERO_SECTOR for at in sectors)

    def _header_is_torn(self, data: bytes, position: int, end: int) -> bool:
        if data[position] != 0:
            return end < position + FLUSH_HEADER_BYTES  # written up to somewhere in the header, and nothing behind it
        # The first sector did not arrive, or a recovery before this one was zeroing it; others are there, which is all
        # right unless one of them begins a later flush.
        behind = range(position + SECTOR_BYTES, end, SECTOR_BYTES)
        return all(decode_flush_header(data, at, self._seed) is None for at in behind)

    def _is_next(self, header: FlushHeader, follows: bool) -> bool:
        """Numbers have no gaps, but for segments in between that were removed."""
        return header.number == self.next_flush or (not follows and header.number > self.next_flush)

    def _damage_behind_torn(self) -> JournalCorrupted:
        assert self.torn is not None
        assert self._bad is not None
        return JournalCorrupted(self.torn.path, self._bad.offset, f"{self._bad}, and a later segment was begun")

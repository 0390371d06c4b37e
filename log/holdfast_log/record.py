"""How one record lies in a segment, and how records are chained.

::

    0      4         8        12          14     15      16     24      32
    +------+---------+--------+-----------+------+-------+------+-------+---------+
    | crc  | crc of  | payload| partition | kind | flags | term | index | payload |
    | u32  | the one | bytes  | u16       | u8   | u8    | u64  | u64   |         |
    |      | before  | u32    |           |      |       |      |       |         |
    +------+---------+--------+-----------+------+-------+------+-------+---------+
      all little-endian; crc = CRC32C of everything behind it, seeded with the journal's nonce

The checksum of the record before is written down rather than only mixed in, so that one record can be checked by itself
when it is read back, and a run of records proves that none is missing, stale or misplaced. The seed keeps a payload
that holds a copy of some journal from being taken for part of this one.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import IntEnum

import google_crc32c
import msgspec

_HEADER = struct.Struct("<IIIHBBQQ")
_CHECKED = struct.Struct("<IIHBBQQ")  # the header behind its own checksum
RECORD_HEADER_BYTES = _HEADER.size
NO_PARTITION = 0xFFFF
"""In records about the whole journal; so there are at most 65,535 partitions."""

FLAG_MOVED = 1
"""The record is a copy of a live entry of a segment that goes away: it says where the entry lies from now on, and
unlike an entry that is appended again it does not cut what follows."""


class RecordKind(IntEnum):
    """The first three are `EntryKind`; the others are about a partition or the journal, not in any log."""

    EMPTY = 0
    NORMAL = 1
    CONFIG = 2
    HARD_STATE = 16  # term; index = commit index; payload = name voted for
    TRIM = 17  # index = last trimmed index; term = its term
    BOUNDS = 18  # as TRIM; payload = last index, u64: all of the log between them was written before this record
    CLOSED = 19  # the node stopped in an orderly way: all before it was durable


ENTRY_KIND_MAX = RecordKind.CONFIG
KNOWN_KINDS = frozenset(int(kind) for kind in RecordKind)


class Record(msgspec.Struct, frozen=True, gc=False):
    partition: int
    kind: int
    term: int
    index: int
    payload: bytes = b""
    flags: int = 0


class Found(msgspec.Struct, frozen=True, gc=False):
    """A record in a segment, as the recovery scan sees it; the payload of an entry stays on the disk."""

    offset: int
    size: int  # header included
    record: Record


class BadRecord(ValueError):
    """Bytes that are not the record that should be there."""

    def __init__(self, offset: int, what: str) -> None:
        super().__init__(what)
        self.offset = offset


def bounds_record(partition: int, trimmed_index: int, trimmed_term: int, last_index: int) -> Record:
    payload = last_index.to_bytes(8, "little")
    return Record(partition, RecordKind.BOUNDS, trimmed_term, trimmed_index, payload)


def bounds_last_index(record: Record) -> int:
    return int.from_bytes(record.payload, "little")


def encode_records(records: Sequence[Record], chain: int, seed: int) -> tuple[list[bytes], list[int], int]:
    """Buffers to write one behind the other, the size of each record, and the last record's checksum.
    ``chain`` is the checksum of the record before the first."""
    parts: list[bytes] = []
    sizes: list[int] = []
    extend, pack = google_crc32c.extend, _CHECKED.pack
    for record in records:
        payload = record.payload
        head = (chain, len(payload), record.partition, record.kind, record.flags, record.term, record.index)
        checked = pack(*head)
        chain = extend(extend(seed, checked), payload)
        parts.append(chain.to_bytes(4, "little") + checked)
        parts.append(payload)
        sizes.append(RECORD_HEADER_BYTES + len(payload))
    return parts, sizes, chain


def decode_records(data: bytes, start: int, end: int, chain: int | None, seed: int) -> tuple[list[Found], int]:
    """The records between ``start`` and ``end`` and the last one's checksum. ``chain`` None: what came before is not
    known (its segment was removed). Raises BadRecord."""
    found: list[Found] = []
    extend, unpack = google_crc32c.extend, _HEADER.unpack_from
    offset, last = start, 0
    while offset < end:
        body = offset + RECORD_HEADER_BYTES
        if body > end:
            raise BadRecord(offset, f"a record header is cut at {end}")
        crc, previous, size, partition, kind, flags, term, index = unpack(data, offset)
        following = body + size
        if following > end:
            raise BadRecord(offset, f"a record of {size} bytes reaches beyond its flush, which ends at {end}")
        if extend(seed, data[offset + 4 : following]) != crc:
            raise BadRecord(offset, "the checksum of a record does not hold")
        if chain is not None and previous != chain:
            raise BadRecord(offset, "a record does not follow the one before it")
        payload = b"" if kind <= ENTRY_KIND_MAX else data[body:following]
        found.append(Found(offset, following - offset, Record(partition, kind, term, index, payload, flags)))
        chain = last = crc
        offset = following
    return found, last


def decode_record(data: bytes, offset: int, seed: int) -> Record:
    """The one record at ``offset`` with its payload. Raises BadRecord."""
    start = offset + RECORD_HEADER_BYTES
    if start > len(data):
        raise BadRecord(offset, "the record header is cut")
    crc, _, size, partition, kind, flags, term, index = _HEADER.unpack_from(data, offset)
    end = start + size
    if end > len(data):
        raise BadRecord(offset, f"the record of {size} bytes is cut")
    if google_crc32c.extend(seed, data[offset + 4 : end]) != crc:
        raise BadRecord(offset, "its checksum does not hold")
    return Record(partition, kind, term, index, data[start:end], flags)

"""How entries lie in a segment: flushes of records, each flush one write and one fdatasync.

::

    segment   | segment header, 512 B | flush | flush | ... | zeros |
    flush     | flush header, 32 B | record | record | ... | zeros up to a multiple of 512 B |
    record    | record header, 32 B | payload |

Flushes begin at multiples of 512 bytes and are numbered without gaps, and one is begun only after the fdatasync of the
one before. So when a flush can't be read, it is a torn tail if no valid flush with a higher number lies behind it, and
damage of something that was durable if there is one. Every checksum is CRC32C and seeded with the journal's random
nonce, so that a payload that looks like a flush is not taken for one. All numbers are little-endian.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

import google_crc32c

SECTOR_BYTES = 512
FORMAT_VERSION = 1

SEGMENT_MAGIC = b"HFSEG\x00\x01\x00"
_SEGMENT_HEADER = struct.Struct("<8sHHIQ16s")  # magic, version, reserved, reserved, sequence, nonce
FLUSH_MAGIC = 0x48_4C_46_46
_FLUSH_HEADER = struct.Struct("<IIQQI")  # magic, body crc, number, body bytes, header crc (seeded)
FLUSH_HEADER_BYTES = 32
_RECORD_HEADER = struct.Struct("<IIQQHBBI")  # crc, payload bytes, term, index, partition, kind, flags, reserved
RECORD_HEADER_BYTES = _RECORD_HEADER.size


class RecordKind(IntEnum):
    """The first three are `EntryKind`; the others are about a partition, not in its log."""

    EMPTY = 0
    NORMAL = 1
    CONFIG = 2
    HARD_STATE = 16  # term, index = commit index, payload = name voted for
    TRIM = 17  # index = last trimmed index, term = its term


@dataclass(frozen=True, slots=True)
class Record:
    partition: int
    kind: int
    term: int
    index: int
    payload: bytes


class BadRecord(ValueError):
    """Bytes that are not a record: a checksum or a length does not hold."""


def encode_segment_header(sequence: int, nonce: bytes) -> bytes:
    head = _SEGMENT_HEADER.pack(SEGMENT_MAGIC, FORMAT_VERSION, 0, 0, sequence, nonce)
    head += struct.pack("<I", google_crc32c.value(head))
    return head.ljust(SECTOR_BYTES, b"\0")


def decode_segment_header(data: bytes) -> tuple[int, int, bytes]:
    """Format version, sequence and nonce. Raises BadRecord."""
    if len(data) < SECTOR_BYTES:
        raise BadRecord(f"segment header has {len(data)} of {SECTOR_BYTES} bytes")
    magic, version, _, _, sequence, nonce = _SEGMENT_HEADER.unpack_from(data)
    size = _SEGMENT_HEADER.size
    (crc,) = struct.unpack_from("<I", data, size)
    if magic != SEGMENT_MAGIC or crc != google_crc32c.value(data[:size]):
        raise BadRecord("segment header is damaged")
    return version, sequence, nonce


def encode_record(record: Record, seed: int) -> bytes:
    payload = record.payload
    rest = _RECORD_HEADER.pack(0, len(payload), record.term, record.index, record.partition, record.kind, 0, 0)[4:]
    crc = int(google_crc32c.extend(google_crc32c.extend(seed, rest), payload))
    return crc.to_bytes(4, "little") + rest + payload


def decode_record(data: bytes, offset: int, seed: int) -> tuple[Record, int]:
    """The record at ``offset`` and where it ends. Raises BadRecord."""
    start = offset + RECORD_HEADER_BYTES
    if start > len(data):
        raise BadRecord(f"record header is cut at {len(data)}")
    crc, size, term, index, partition, kind, _, _ = _RECORD_HEADER.unpack_from(data, offset)
    end = start + size
    if end > len(data):
        raise BadRecord(f"record of {size} bytes is cut at {len(data)}")
    payload = data[start:end]
    if crc != google_crc32c.extend(google_crc32c.extend(seed, data[offset + 4 : start]), payload):
        raise BadRecord("record checksum does not hold")
    return Record(partition, kind, term, index, payload), end


def encode_flush(number: int, records: list[bytes], seed: int) -> bytes:
    """One flush, padded to whole sectors. ``seed`` is the CRC of the journal's nonce."""
    body = b"".join(records)
    head = _FLUSH_HEADER.pack(FLUSH_MAGIC, google_crc32c.extend(seed, body), number, len(body), 0)[:-4]
    head += int(google_crc32c.extend(seed, head)).to_bytes(4, "little") + b"\0" * (FLUSH_HEADER_BYTES - 28)
    size = len(head) + len(body)
    return head + body + b"\0" * (-size % SECTOR_BYTES)


def decode_flush_header(data: bytes, offset: int, seed: int) -> tuple[int, int, int] | None:
    """(number, body bytes, body crc), or None when there is no flush header at ``offset``."""
    if offset + FLUSH_HEADER_BYTES > len(data):
        return None
    magic, body_crc, number, size, crc = _FLUSH_HEADER.unpack_from(data, offset)
    if magic != FLUSH_MAGIC or crc != google_crc32c.extend(seed, data[offset : offset + 24]):
        return None
    return number, size, body_crc


def flush_is_whole(data: bytes, offset: int, size: int, body_crc: int, seed: int) -> bool:
    start = offset + FLUSH_HEADER_BYTES
    if start + size > len(data):
        return False
    return bool(google_crc32c.extend(seed, data[start : start + size]) == body_crc)


def flush_span(size: int) -> int:
    """Bytes that a flush with ``size`` body bytes takes in the segment."""
    whole = FLUSH_HEADER_BYTES + size
    return whole + (-whole % SECTOR_BYTES)


def nonce_seed(nonce: bytes) -> int:
    return int(google_crc32c.value(nonce))

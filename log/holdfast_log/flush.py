"""A flush: the records of one write and one fdatasync, in whole sectors.

::

    0       4     8        16     20        24       28       32
    +-------+-----+--------+------+---------+--------+--------+---------+-----+---------+------+
    | magic | crc | number | body | records | crc of | end    | record  | ... | zeros   | 0xE5 |
    | u32   | u32 | u64    | bytes| u32     | the    | mark   |         |     |         |      |
    |       |     |        | u32  |         | last   | u32    |         |     |         |      |
    +-------+-----+--------+------+---------+--------+--------+---------+-----+---------+------+
    |<- header, in the first sector ------------------------>|<- body --------->|<- to the sector's end

Flushes begin at multiples of a sector, are numbered without gaps, and one is written only after the fdatasync of the
one before. So a crash can damage only the last one, and it can do so in one way only: sectors, or the end of the last
one that was kept, still hold the zeros that the file was filled with. Header and flush end with bytes that are never
zero, so that such a gap shows. `recovery` builds on this.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import google_crc32c

SECTOR_BYTES = 512
_MAGIC = 0x48_46_46_31  # HFF1
_END_MARK = 0xA5A5A5A5
_HEADER = struct.Struct("<IIQIIII")
_CHECKED = struct.Struct("<QIIII")  # the header behind its own checksum
FLUSH_HEADER_BYTES = _HEADER.size
_PADDING = b"\0" * (SECTOR_BYTES - 1) + b"\xe5"


class FlushHeader(NamedTuple):
    number: int
    body_bytes: int
    records: int
    last_crc: int


def flush_span(body_bytes: int) -> int:
    """Bytes that a flush takes in its segment, the header and at least one byte of padding included."""
    return (FLUSH_HEADER_BYTES + body_bytes + SECTOR_BYTES) // SECTOR_BYTES * SECTOR_BYTES


def encode_flush_header(header: FlushHeader, seed: int) -> bytes:
    checked = _CHECKED.pack(*header, _END_MARK)
    return struct.pack("<II", _MAGIC, google_crc32c.extend(seed, checked)) + checked


def flush_padding(body_bytes: int) -> bytes:
    used = FLUSH_HEADER_BYTES + body_bytes
    return _PADDING[used - flush_span(body_bytes) :]


def decode_flush_header(data: bytes, offset: int, seed: int) -> FlushHeader | None:
    """None when there is no flush header at ``offset``."""
    if offset + FLUSH_HEADER_BYTES > len(data):
        return None
    magic, crc, number, body_bytes, records, last_crc, _ = _HEADER.unpack_from(data, offset)
    if magic != _MAGIC or crc != google_crc32c.extend(seed, data[offset + 8 : offset + FLUSH_HEADER_BYTES]):
        return None
    return FlushHeader(number, body_bytes, records, last_crc)

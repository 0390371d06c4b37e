"""Entries read back from the segments: after a restart, and for followers that lag behind."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from holdfast_log.files import Disk
from holdfast_log.record import BadRecord, decode_record
from holdfast_log.segment import Segment
from holdfast_log.types import Entry, EntryKind, JournalCorrupted

READ_WINDOW_BYTES = 256 * 1024
"""Entries are read through a window of this size: those of other partitions lie in between."""


class Place(msgspec.Struct, frozen=True, gc=False):
    """Where to read one entry."""

    partition: int
    index: int
    segment: Segment
    offset: int
    length: int


def fetch_entries(disk: Disk, places: Sequence[Place], seed: int) -> list[Entry]:
    """Read and check the entries at ``places``. Raises JournalCorrupted, OSError."""
    entries = []
    window, start, segment = b"", 0, None
    for place in places:
        offset, end = place.offset, place.offset + place.length
        if place.segment is not segment or not (start <= offset and end <= start + len(window)):
            segment, start = place.segment, offset
            window = disk.read(segment.handle, max(place.length, READ_WINDOW_BYTES), start)
        entries.append(_decode(place, window, offset - start, seed))
    return entries


def _decode(place: Place, window: bytes, at: int, seed: int) -> Entry:
    try:
        found = decode_record(window, at, seed)
        if (found.partition, found.index) != (place.partition, place.index):
            raise BadRecord(at, f"entry {found.index} of partition {found.partition} lies there")
    except BadRecord as error:
        what = f"entry {place.index} of partition {place.partition}: {error}"
        raise JournalCorrupted(place.segment.path, place.offset, what) from error
    return Entry(found.term, found.index, EntryKind(found.kind), found.payload)

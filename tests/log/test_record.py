"""The framing: what is written is read back, and nothing else is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast_log.flush import (
    FLUSH_HEADER_BYTES,
    SECTOR_BYTES,
    FlushHeader,
    decode_flush_header,
    encode_flush_header,
    flush_padding,
    flush_span,
)
from holdfast_log.record import BadRecord, Record, RecordKind, decode_record, decode_records, encode_records
from holdfast_log.segment import BadHeader, SegmentHeader, decode_segment_header, encode_segment_header

SEED = 12345

u64 = st.integers(0, 2**64 - 1)
records = st.builds(
    Record,
    partition=st.integers(0, 0xFFFE),
    kind=st.sampled_from([int(kind) for kind in RecordKind]),
    term=u64,
    index=u64,
    payload=st.binary(max_size=200),
    flags=st.integers(0, 255),
)


@given(st.lists(records, min_size=1, max_size=8), st.integers(0, 2**32 - 1))
def test_records_come_back_as_they_were_written(written: list[Record], chain: int) -> None:
    parts, sizes, last = encode_records(written, chain, SEED)
    data = b"".join(parts)
    found, found_last = decode_records(data, 0, len(data), chain, SEED)
    assert [decode_record(data, item.offset, SEED) for item in found] == written
    assert [item.size for item in found] == sizes
    assert found_last == last


@given(st.lists(records, min_size=1, max_size=4), st.data())
def test_any_flipped_bit_is_found(written: list[Record], data: st.DataObject) -> None:
    body = bytearray(b"".join(encode_records(written, 7, SEED)[0]))
    bit = data.draw(st.integers(0, len(body) * 8 - 1))
    body[bit // 8] ^= 1 << bit % 8
    with pytest.raises(BadRecord):
        decode_records(bytes(body), 0, len(body), 7, SEED)


def test_a_missing_record_breaks_the_chain() -> None:
    parts, sizes, _ = encode_records([Record(0, 1, 1, index, b"payload") for index in (1, 2, 3)], 0, SEED)
    without_second = b"".join(parts[:2] + parts[4:])
    with pytest.raises(BadRecord, match="does not follow") as caught:
        decode_records(without_second, 0, len(without_second), 0, SEED)
    assert caught.value.offset == sizes[0]


def test_records_of_another_journal_are_not_taken_for_ours() -> None:
    data = b"".join(encode_records([Record(0, 1, 1, 1, b"payload")], 0, SEED)[0])
    with pytest.raises(BadRecord):
        decode_record(data, 0, SEED + 1)


@given(st.integers(0, 5 * SECTOR_BYTES))
def test_a_flush_ends_with_its_sector_in_a_byte_that_is_not_zero(body_bytes: int) -> None:
    padding = flush_padding(body_bytes)
    span = flush_span(body_bytes)
    assert span % SECTOR_BYTES == 0
    assert FLUSH_HEADER_BYTES + body_bytes + len(padding) == span
    assert padding[-1] != 0


def test_a_flush_header_is_found_only_with_its_seed_and_whole() -> None:
    header = FlushHeader(number=9, body_bytes=100, records=2, last_crc=77)
    data = encode_flush_header(header, SEED)
    assert decode_flush_header(data, 0, SEED) == header
    assert decode_flush_header(data, 0, SEED + 1) is None
    assert decode_flush_header(data[:-1], 0, SEED) is None
    assert data[-1] != 0


def test_a_segment_header_says_whose_it_is() -> None:
    header = SegmentHeader(version=1, sequence=5, nonce=bytes(range(16)), cluster="Küste", node="node-1")
    sector = encode_segment_header(header)
    assert len(sector) == SECTOR_BYTES
    assert decode_segment_header(sector) == header


@given(st.integers(0, SECTOR_BYTES * 8 - 1))
def test_a_damaged_segment_header_is_refused(bit: int) -> None:
    sector = bytearray(encode_segment_header(SegmentHeader(1, 5, bytes(16), "cluster", "node")))
    sector[bit // 8] ^= 1 << bit % 8
    with pytest.raises(BadHeader):
        decode_segment_header(bytes(sector))

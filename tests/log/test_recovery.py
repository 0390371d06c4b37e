"""What the recovery scan makes of a crash, and of damage: the one is cut, the other refused, neither is confused."""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast_log import FormatTooNew, Journal, JournalCorrupted, NodeIdentity, WrongDirectory
from holdfast_log.files import write_all
from holdfast_log.flush import SECTOR_BYTES, flush_span
from holdfast_log.journal import Flush
from holdfast_log.record import NO_PARTITION, Record, RecordKind
from holdfast_log.simulated_disk import SimulatedDisk, Survival, keep_first, keep_some_sectors
from tests.log.support import contents, entry, open_journal

FIRST = "/journal/0000000000000001.segment"
PAYLOADS = [b"a" * 40, b"b" * 700, bytes(1500), b"d" * 3]
"""The third one is all zeros, as are the places that a torn write leaves."""


def journal_with(payloads: Sequence[bytes], *, segment_bytes: int = 16 * 1024) -> tuple[SimulatedDisk, list[Flush]]:
    """Each payload is an entry in a flush of its own, all durable, the node then killed."""
    disk = SimulatedDisk()
    journal = open_journal(disk, segment_bytes=segment_bytes)
    flushes = [journal.write([entry(index, payload)]) for index, payload in enumerate(payloads, 1)]
    disk.crash()
    return disk, flushes


def crash_in_last_flush(survive: Survival, last: Sequence[bytes]) -> SimulatedDisk:
    """PAYLOADS are durable; one more flush was written, and of it is left what ``survive`` keeps."""
    disk, _ = journal_with(PAYLOADS)
    journal = open_journal(disk)
    start = len(PAYLOADS) + 1
    flush = journal.begin([entry(start + number, payload) for number, payload in enumerate(last)])
    assert flush is not None
    write_all(disk, flush.segment.handle, flush.buffers, flush.offset)
    disk.crash(survive)
    return disk


def check_goes_on(disk: SimulatedDisk, expected: Sequence[bytes]) -> None:
    """The journal opens with ``expected``, takes more, and has all of it after the next start."""
    journal = open_journal(disk)
    assert contents(journal) == list(expected)
    journal.write([entry(len(expected) + 1, b"after the crash")])
    disk.crash()
    assert contents(open_journal(disk)) == [*expected, b"after the crash"]


LAST = [b"x" * 300, bytes(600), b"z" * 500]


def test_a_crash_at_any_byte_of_the_last_flush_loses_that_flush_and_nothing_else() -> None:
    span = flush_span(sum(32 + len(payload) for payload in LAST))
    for count in range(span):
        check_goes_on(crash_in_last_flush(keep_first(count), LAST), PAYLOADS + (LAST if whole(count) else []))


def whole(count: int) -> bool:
    """Only padding is missing."""
    return count >= 32 + sum(32 + len(payload) for payload in LAST)


@pytest.mark.parametrize("seed", range(60))
def test_any_subset_of_the_last_flushs_sectors_is_a_torn_tail_or_all_of_it(seed: int) -> None:
    rng = random.Random(seed)
    last = [rng.randbytes(rng.randrange(2000)) + bytes(rng.randrange(1500)) for _ in range(rng.randrange(1, 5))]
    disk = crash_in_last_flush(keep_some_sectors(rng), last)
    found = contents(open_journal(copy.deepcopy(disk)))
    assert found in (PAYLOADS, PAYLOADS + last)
    check_goes_on(disk, found)


@pytest.mark.parametrize("seed", range(20))
def test_a_crash_while_the_torn_tail_is_cut_is_recovered_from(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(seed)
    disk = crash_in_last_flush(keep_first(rng.randrange(32, 1400)), LAST)
    with monkeypatch.context() as patch:
        patch.setattr(disk, "fdatasync", power_cut)
        with pytest.raises(PowerCut):
            open_journal(disk)
    disk.crash(keep_some_sectors(rng))
    check_goes_on(disk, PAYLOADS)


class PowerCut(Exception):
    pass


def power_cut(handle: int) -> None:
    raise PowerCut


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_flipped_bit_before_the_last_flush_is_refused_with_file_and_offset(data: st.DataObject) -> None:
    disk, flushes = journal_with(PAYLOADS)
    damaged = data.draw(st.sampled_from(flushes[:-1]))
    body_end = damaged.offset + 32 + sum(damaged.sizes)
    offset = data.draw(st.integers(damaged.offset, body_end - 1))
    disk.flip(FIRST, offset, data.draw(st.integers(0, 7)))
    with pytest.raises(JournalCorrupted) as caught:
        open_journal(disk)
    assert caught.value.path == FIRST
    assert damaged.offset <= caught.value.offset < body_end
    assert f"{FIRST} is damaged at offset {caught.value.offset}" in str(caught.value)


@settings(max_examples=300, deadline=None)
@given(st.integers(SECTOR_BYTES, 16 * 1024 - 1), st.integers(0, 7))
def test_a_flipped_bit_anywhere_never_changes_an_entry(offset: int, bit: int) -> None:
    disk, _ = journal_with(PAYLOADS)
    disk.flip(FIRST, offset, bit)
    try:
        found = contents(open_journal(disk))
    except JournalCorrupted:
        return
    assert found == PAYLOADS, "a flip in padding"


@pytest.mark.parametrize("bit", range(8))
def test_after_an_orderly_stop_no_flip_loses_an_entry(bit: int) -> None:
    disk, flushes = journal_with([*PAYLOADS, bytes(4000)])
    open_journal(disk).write([Record(NO_PARTITION, RecordKind.CLOSED, 0, 0)])
    for offset in range(flushes[-1].offset, flushes[-1].offset + flushes[-1].span, 97):
        damaged = copy.deepcopy(disk)
        damaged.flip(FIRST, offset, bit)
        try:
            assert contents(open_journal(damaged)) == [*PAYLOADS, bytes(4000)]
        except JournalCorrupted as error:
            assert error.offset >= flushes[-1].offset  # noqa: PT017 - either is right, a silent loss is not


def zero(disk: SimulatedDisk, path: str, start: int, size: int) -> None:
    handle = disk.open(path)
    disk.pwritev(handle, [bytes(size)], start)
    disk.fdatasync(handle)


def test_a_lost_sector_in_the_middle_is_damage() -> None:
    disk, flushes = journal_with(PAYLOADS)
    zero(disk, FIRST, flushes[1].offset, SECTOR_BYTES)
    with pytest.raises(JournalCorrupted):
        open_journal(disk)


def test_a_lost_flush_in_the_middle_is_damage() -> None:
    disk, flushes = journal_with(PAYLOADS)
    zero(disk, FIRST, flushes[1].offset, flushes[1].span)
    with pytest.raises(JournalCorrupted):
        open_journal(disk)


def test_the_end_of_a_segment_is_damage_when_a_later_one_was_begun() -> None:
    disk, flushes = journal_with([bytes([number]) * 1500 for number in range(1, 12)], segment_bytes=8192)
    last_of_first = [flush for flush in flushes if flush.segment.sequence == 1][-1]
    assert flushes[-1].segment.sequence > 1
    zero(disk, FIRST, last_of_first.offset + SECTOR_BYTES, 2 * SECTOR_BYTES)
    with pytest.raises(JournalCorrupted) as caught:
        open_journal(disk, segment_bytes=8192)
    assert caught.value.path == FIRST


def test_two_flushes_that_changed_places_are_damage() -> None:
    disk, flushes = journal_with([b"a" * 100, b"b" * 100, b"c" * 100])
    content = disk.content(FIRST)
    first, second = (content[flush.offset : flush.offset + flush.span] for flush in flushes[:2])
    handle = disk.open(FIRST)
    disk.pwritev(handle, [second, first], flushes[0].offset)
    with pytest.raises(JournalCorrupted):
        open_journal(disk)


@pytest.mark.parametrize("missing", [1, 2, 3])
def test_a_segment_that_somebody_removed_is_noticed(missing: int) -> None:
    disk, flushes = journal_with([bytes([number]) * 1500 for number in range(1, 20)], segment_bytes=8192)
    assert flushes[-1].segment.sequence > missing
    disk.unlink(f"/journal/{missing:016x}.segment")
    with pytest.raises(JournalCorrupted, match="was one removed"):
        open_journal(disk, segment_bytes=8192)


def test_a_sector_that_the_drive_cant_read_is_damage() -> None:
    disk, _ = journal_with(PAYLOADS)
    disk.fail_next("read", 5)
    with pytest.raises(JournalCorrupted, match="can't read"):
        open_journal(disk)


def test_a_segment_that_was_being_made_is_removed() -> None:
    disk, _ = journal_with(PAYLOADS)
    disk.create("/journal/0000000000000002.segment.new")
    assert contents(open_journal(disk)) == PAYLOADS
    assert disk.paths() == [FIRST]


def test_a_segment_of_another_node_is_refused() -> None:
    disk, _ = journal_with(PAYLOADS)
    with pytest.raises(WrongDirectory, match="'test-cluster'/'node-1', this node is 'test-cluster'/'node-2'"):
        Journal.open("/journal", disk=disk, identity=NodeIdentity("test-cluster", "node-2"))


def test_a_segment_of_another_journal_of_this_node_is_damage() -> None:
    disk, _ = journal_with(PAYLOADS)
    other, _ = journal_with([bytes(10_000), bytes(10_000)])
    second = "/journal/0000000000000002.segment"
    disk.pwritev(disk.create(second), [other.content(second)], 0)
    with pytest.raises(JournalCorrupted, match="another journal"):
        open_journal(disk)


def test_a_segment_of_a_newer_release_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = SimulatedDisk()
    with monkeypatch.context() as patch:
        patch.setattr("holdfast_log.journal.FORMAT_VERSION", 2)
        open_journal(disk)
    with pytest.raises(FormatTooNew, match="has format 2, this release knows up to 1"):
        open_journal(disk)


def test_a_record_of_a_kind_that_is_not_known_is_refused() -> None:
    disk = SimulatedDisk()
    journal = open_journal(disk)
    flush = journal.begin([Record(0, 99, 1, 1)])
    assert flush is not None
    journal.carry_out(flush)
    with pytest.raises(FormatTooNew, match="kind 99"):
        open_journal(disk)

"""Segments that come and go, and what is read back from them."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from holdfast_log import EntryKind, Journal, JournalCorrupted, Trimmed
from holdfast_log.record import FLAG_MOVED, Record, RecordKind
from holdfast_log.simulated_disk import SimulatedDisk
from tests.log.support import contents, entry, open_journal, trim

SEGMENT = 8192


def remove_dead(journal: Journal) -> list[int]:
    dead = journal.take_dead()
    journal.remove(dead)
    return [segment.sequence for segment in dead]


def reopened(disk: SimulatedDisk) -> Journal:
    disk.crash()
    return open_journal(disk, segment_bytes=SEGMENT)


def before_and_after_a_crash(journal: Journal, disk: SimulatedDisk) -> Iterator[Journal]:
    yield journal
    yield reopened(disk)


def fill(journal: Journal, start: int, count: int, *, partition: int = 0, size: int = 1000) -> None:
    for index in range(start, start + count):
        journal.write([entry(index, bytes([index % 256]) * size, partition=partition)])


def test_one_flush_is_one_write_and_one_fdatasync_whatever_is_in_it() -> None:
    disk = SimulatedDisk()
    journal = open_journal(disk)
    before = disk.calls.copy()
    journal.write([entry(1, b"payload", partition=partition) for partition in range(20)])
    assert disk.calls - before == {"pwritev": 1, "fdatasync": 1}


def test_entries_come_back_with_term_index_kind_and_payload() -> None:
    disk = SimulatedDisk()
    journal = open_journal(disk, segment_bytes=SEGMENT)
    journal.write([Record(3, RecordKind.EMPTY, 7, 1), Record(3, RecordKind.NORMAL, 7, 2, b"payload")])
    for each in before_and_after_a_crash(journal, disk):
        found = each.read(3, 1, 3, 1000)
        assert [(e.term, e.index, e.kind, e.payload) for e in found] == [
            (7, 1, EntryKind.EMPTY, b""),
            (7, 2, EntryKind.NORMAL, b"payload"),
        ]


def test_a_read_stops_at_its_limit_but_returns_at_least_one() -> None:
    journal = open_journal(SimulatedDisk())
    journal.write([entry(index, bytes(100)) for index in range(1, 6)])
    assert [found.index for found in journal.read(0, 2, 6, 1)] == [2]
    assert [found.index for found in journal.read(0, 2, 6, 300)] == [2, 3]
    assert [found.index for found in journal.read(0, 2, 4, 10_000)] == [2, 3]
    assert journal.read(0, 6, 9, 10_000) == []


def test_interleaved_partitions_are_read_apart() -> None:
    rng = random.Random(7)
    disk = SimulatedDisk()
    journal = open_journal(disk, segment_bytes=SEGMENT)
    written: dict[int, list[bytes]] = {0: [], 1: [], 2: []}
    for _ in range(40):
        records = []
        for partition in rng.choices((0, 1, 2), k=3):
            written[partition].append(rng.randbytes(rng.randrange(400)))
            records.append(entry(len(written[partition]), written[partition][-1], partition=partition))
        journal.write(records)
    for each in before_and_after_a_crash(journal, disk):
        assert {partition: contents(each, partition) for partition in written} == written


def test_damage_is_found_when_an_entry_is_read() -> None:
    disk = SimulatedDisk()
    journal = open_journal(disk)
    flush = journal.write([entry(1, b"payload")])
    disk.flip(flush.segment.path, flush.offset + 32 + 32 + 3)
    with pytest.raises(JournalCorrupted, match="entry 1 of partition 0") as caught:
        journal.read(0, 1, 2, 1000)
    assert caught.value.offset == flush.offset + 32


def test_trimmed_entries_are_gone_and_stay_gone() -> None:
    disk = SimulatedDisk()
    journal = open_journal(disk, segment_bytes=SEGMENT)
    fill(journal, 1, 3)
    journal.write([trim(2)])
    for each in before_and_after_a_crash(journal, disk):
        assert (each.index(0).first, each.index(0).last) == (3, 3)
        with pytest.raises(Trimmed, match="index 2 was trimmed, the log begins at 3"):
            each.read(0, 2, 4, 1000)


def test_an_entry_that_replaces_another_cuts_what_follows() -> None:
    disk = SimulatedDisk()
    journal = open_journal(disk, segment_bytes=SEGMENT)
    journal.write([entry(index, b"old", term=1) for index in range(1, 6)])
    journal.write([entry(3, b"new", term=2)])
    for each in before_and_after_a_crash(journal, disk):
        assert contents(each) == [b"old", b"old", b"new"]


def test_segments_are_removed_when_nothing_in_them_is_live_and_the_rest_survives_a_crash() -> None:
    disk = SimulatedDisk()
    journal = open_journal(disk, segment_bytes=SEGMENT)
    fill(journal, 1, 20)
    kept = contents(journal)[11:]
    assert remove_dead(journal) == []
    journal.write([trim(11)])
    assert remove_dead(journal) == [1, 2]  # five entries each
    used = disk.used_bytes()
    journal = reopened(disk)
    assert contents(journal) == kept
    assert disk.used_bytes() == used
    journal.write([trim(20), Record(0, RecordKind.HARD_STATE, 4, 20, b"node-1")])
    assert journal.segment_count > 1
    remove_dead(journal)
    assert journal.segment_count == 1
    index = reopened(disk).index(0)
    assert (index.first, index.last, index.term, index.commit, index.vote) == (21, 20, 4, 20, "node-1")


def test_hard_state_and_bounds_of_an_idle_partition_outlive_the_segments_that_held_them() -> None:
    disk = SimulatedDisk()
    journal = open_journal(disk, segment_bytes=SEGMENT)
    journal.write([Record(9, RecordKind.HARD_STATE, 5, 2, b"node-1"), entry(1, partition=9), entry(2, partition=9)])
    journal.write([trim(2, partition=9)])
    fill(journal, 1, 30)
    journal.write([trim(30)])
    assert 1 in remove_dead(journal)
    idle = reopened(disk).index(9)
    assert (idle.first, idle.last, idle.term, idle.commit, idle.vote) == (3, 2, 5, 2, "node-1")


def rewrite_oldest(journal: Journal) -> int:
    segment = journal.mostly_dead(2, 0.3)
    assert segment is not None
    places = journal.places_in(segment)
    entries = journal.fetch(places)
    journal.write(
        [
            Record(place.partition, found.kind, found.term, found.index, found.payload, FLAG_MOVED)
            for place, found in zip(places, entries, strict=True)
        ]
    )
    return segment.sequence


def test_the_few_live_entries_of_an_old_segment_are_moved_to_the_end() -> None:
    disk = SimulatedDisk()
    journal = open_journal(disk, segment_bytes=SEGMENT)
    journal.write([entry(1, b"kept", partition=5), entry(2, b"too", partition=5)])
    fill(journal, 1, 25)
    journal.write([entry(3, b"later", partition=5)])
    journal.write([trim(24)])
    remove_dead(journal)
    old = rewrite_oldest(journal)
    assert remove_dead(journal) == [old]
    for each in before_and_after_a_crash(journal, disk):
        assert contents(each, 5) == [b"kept", b"too", b"later"]
        assert contents(each, 0) == [bytes([25]) * 1000]


def test_a_crash_between_moving_and_removing_does_no_harm() -> None:
    disk = SimulatedDisk()
    journal = open_journal(disk, segment_bytes=SEGMENT)
    journal.write([entry(1, b"kept", partition=5)])
    fill(journal, 1, 25)
    journal.write([trim(25)])
    rewrite_oldest(journal)
    journal = reopened(disk)
    assert contents(journal, 5) == [b"kept"]
    remove_dead(journal)
    assert contents(reopened(disk), 5) == [b"kept"]


def test_a_moved_entry_that_was_trimmed_or_replaced_meanwhile_stays_so() -> None:
    disk = SimulatedDisk()
    journal = open_journal(disk, segment_bytes=SEGMENT)
    journal.write([entry(index, b"old") for index in (1, 2, 3)])
    journal.write([trim(1), entry(2, b"new", term=2)])
    journal.write([Record(0, RecordKind.NORMAL, 1, index, b"old", FLAG_MOVED) for index in (1, 2, 3)])
    for each in before_and_after_a_crash(journal, disk):
        assert (each.index(0).first, contents(each)) == (2, [b"new"])


def test_an_entry_larger_than_a_segment_gets_a_larger_one() -> None:
    disk = SimulatedDisk()
    journal = open_journal(disk, segment_bytes=SEGMENT)
    fill(journal, 1, 5)
    journal.adopt(journal.prepare(journal.plan_segment()))
    large = random.Random(1).randbytes(5 * SEGMENT)
    journal.write([entry(6, large)])
    fill(journal, 7, 2)
    assert contents(journal)[5] == large
    remove_dead(journal)  # the one that was prepared and is too small
    assert contents(reopened(disk))[5] == large
    assert len(disk.paths()) == journal.segment_count


def test_a_prepared_segment_keeps_its_turn_over_a_restart() -> None:
    disk = SimulatedDisk()
    journal = open_journal(disk, segment_bytes=SEGMENT)
    fill(journal, 1, 5)
    assert journal.needs_segment()
    journal.adopt(journal.prepare(journal.plan_segment()))
    journal = reopened(disk)
    assert not journal.needs_segment()
    fill(journal, 6, 5)
    assert len(disk.paths()) == 2
    assert len(contents(reopened(disk))) == 10


def test_a_flush_waits_for_those_before_it_when_a_new_segment_begins() -> None:
    disk = SimulatedDisk()
    journal = open_journal(disk, segment_bytes=SEGMENT)
    journal.adopt(journal.prepare(journal.plan_segment()))
    first = journal.begin([entry(1, bytes(6000))])
    assert first is not None
    assert journal.begin([entry(2, bytes(6000))]) is None
    journal.carry_out(first)
    journal.finish(first)
    assert journal.begin([entry(2, bytes(6000))]) is not None


def test_the_index_takes_twenty_bytes_an_entry() -> None:
    journal = open_journal(SimulatedDisk())
    for start in range(1, 1000, 100):
        journal.write([entry(index, b"x") for index in range(start, start + 100)])
    index = journal.index(0)
    arrays = (index._terms, index._places, index._lengths)
    assert sum(array.itemsize for array in arrays) == 20

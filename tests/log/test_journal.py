"""The journal on a real file system: what was written is read again, tails are cut, damage is refused."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from holdfast_log.journal import Journal, JournalCorrupted
from holdfast_log.record import Record, RecordKind
from holdfast_log.types import Trimmed

SEGMENT = 8 * 1024


def entries(partition: int, first: int, count: int, size: int = 100) -> list[Record]:
    return [Record(partition, RecordKind.NORMAL, 1, first + i, bytes([i % 256]) * size) for i in range(count)]


def filled(directory: Path, flushes: int = 5, segment_bytes: int = SEGMENT) -> Journal:
    journal = Journal.open(directory, segment_bytes=segment_bytes)
    for number in range(flushes):
        journal.write(entries(0, 1 + 3 * number, 3) + entries(1, 1 + number, 1))
    return journal


def test_everything_is_there_again_after_a_restart(tmp_path: Path) -> None:
    journal = filled(tmp_path, flushes=20)
    before = journal.read(0, 1, 61, 1 << 30)
    journal.close()
    again = Journal.open(tmp_path, segment_bytes=SEGMENT)
    assert again.read(0, 1, 61, 1 << 30) == before
    assert [entry.index for entry in again.read(1, 1, 21, 1 << 30)] == list(range(1, 21))
    again.write(entries(0, 61, 1))
    assert again.read(0, 61, 62, 1)[0].index == 61


def test_a_torn_flush_is_cut_at_every_byte(tmp_path: Path) -> None:
    journal = filled(tmp_path / "whole", flushes=4, segment_bytes=1 << 16)
    segment = journal._segments[1]
    end = segment.position
    journal.write(entries(0, 13, 3))
    last = segment.position
    journal.close()
    data = segment.path.read_bytes()
    for cut in random.Random(1).sample(range(end, last - 100), 40):
        directory = tmp_path / str(cut)
        directory.mkdir()
        (directory / segment.path.name).write_bytes(data[:cut] + b"\0" * (len(data) - cut))
        torn = Journal.open(directory, segment_bytes=1 << 16)
        assert torn.index(0).last == 12, cut
        torn.write(entries(0, 13, 1, 7))
        torn.close()
        assert Journal.open(directory, segment_bytes=1 << 16).read(0, 13, 14, 1)[0].payload == b"\0" * 7


def test_a_flipped_bit_in_the_middle_is_refused_with_file_and_offset(tmp_path: Path) -> None:
    journal = filled(tmp_path, flushes=5, segment_bytes=1 << 16)
    path = journal._segments[1].path
    journal.close()
    data = bytearray(path.read_bytes())
    rng = random.Random(2)
    for _ in range(30):
        place = rng.randrange(512, 512 + 3 * 512)
        if data[place] == 0:
            continue  # it may be padding between flushes, which means nothing
        damaged = bytearray(data)
        damaged[place] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(JournalCorrupted, match=f"{path.name} is damaged at offset"):
            Journal.open(tmp_path, segment_bytes=1 << 16)


def test_segments_without_a_live_entry_are_removed(tmp_path: Path) -> None:
    journal = filled(tmp_path, flushes=60)
    many = len(list(tmp_path.glob("*.segment")))
    last = journal.index(0).last
    journal.write([Record(0, RecordKind.TRIM, 1, last - 3, b""), Record(1, RecordKind.TRIM, 1, 59, b"")])
    assert journal.remove_dead_segments() > 0
    assert len(list(tmp_path.glob("*.segment"))) < many
    journal.close()
    again = Journal.open(tmp_path, segment_bytes=SEGMENT)
    assert again.index(0).first == last - 2
    with pytest.raises(Trimmed):
        again.read(0, 1, 2, 1)

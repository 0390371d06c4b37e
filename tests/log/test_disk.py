"""The disk's operations: the real driver and its twin do the same, and what is composed of them is complete."""

from __future__ import annotations

import errno
import random
from pathlib import Path

import pytest

from holdfast_log.disk import FileDisk
from holdfast_log.files import Disk, create_filled, read_file, write_all, write_file
from holdfast_log.simulated_disk import SimulatedDisk, keep_everything, keep_first


@pytest.fixture(params=["file", "simulated"])
def disk(request: pytest.FixtureRequest) -> Disk:
    return FileDisk() if request.param == "file" else SimulatedDisk()


@pytest.fixture
def directory(disk: Disk, tmp_path: Path) -> str:
    path = f"{tmp_path}/a/b"
    disk.make_directory(path)
    return path


def test_a_file_is_written_read_renamed_and_removed(disk: Disk, directory: str) -> None:
    handle = disk.create(f"{directory}/x")
    write_all(disk, handle, [b"hello ", b"", b"world"], 3)
    disk.fdatasync(handle)
    assert disk.size(handle) == 14
    assert disk.read(handle, 100, 0) == b"\0\0\0hello world"
    assert disk.read(handle, 5, 3) == b"hello"
    disk.close(handle)
    disk.rename(f"{directory}/x", f"{directory}/y")
    disk.sync_directory(directory)
    assert disk.list_directory(directory) == ["y"]
    assert read_file(disk, f"{directory}/y") == b"\0\0\0hello world"
    disk.unlink(f"{directory}/y")
    assert disk.list_directory(directory) == []
    with pytest.raises(FileNotFoundError):
        disk.open(f"{directory}/y")


def test_a_lock_is_held_once(disk: Disk, directory: str) -> None:
    held = disk.lock(f"{directory}/lock")
    with pytest.raises(BlockingIOError):
        disk.lock(f"{directory}/lock")
    disk.close(held)
    disk.close(disk.lock(f"{directory}/lock"))


def test_many_and_large_buffers_arrive_in_order(disk: Disk, directory: str) -> None:
    rng = random.Random(3)
    buffers = [rng.randbytes(rng.randrange(2000)) for _ in range(1500)]
    handle = disk.create(f"{directory}/x")
    write_all(disk, handle, buffers, 7)
    assert disk.read(handle, 1 << 30, 7) == b"".join(buffers)


def test_a_short_write_is_continued() -> None:
    disk = SimulatedDisk()
    disk.short_writes = True
    handle = disk.create("/x")
    write_all(disk, handle, [b"hello ", b"world"], 0)
    assert disk.content("/x") == b"hello world"


def test_a_filled_file_is_zeros_behind_its_head(disk: Disk, directory: str) -> None:
    handle = create_filled(disk, f"{directory}/x", b"head", 5_000_000)
    assert disk.read(handle, 1 << 30, 0) == b"head" + bytes(5_000_000 - 4)
    assert disk.list_directory(directory) == ["x"]


def test_a_filled_file_survives_the_crash_right_after_it_was_made() -> None:
    disk = SimulatedDisk()
    create_filled(disk, "/d/x", b"head", 10_000)
    disk.crash()
    assert disk.content("/d/x") == b"head" + bytes(9_996)


def test_nothing_is_left_of_a_filled_file_for_which_there_is_no_room() -> None:
    disk = SimulatedDisk(capacity_bytes=9_999)
    with pytest.raises(OSError, match="full"):
        create_filled(disk, "/d/x", b"head", 10_000)
    assert disk.paths() == []


@pytest.mark.parametrize("failing", ["pwritev", "fdatasync", "rename"])
def test_a_small_file_is_replaced_as_a_whole_or_not_at_all(failing: str) -> None:
    disk = SimulatedDisk()
    write_file(disk, "/d/x", b"old")
    disk.fail_next(failing, errno.EIO)
    with pytest.raises(OSError, match="injected"):
        write_file(disk, "/d/x", b"new content")
    disk.crash(keep_first(3), keep_names=True)
    assert disk.content("/d/x") == b"old"
    write_file(disk, "/d/x", b"new content")
    disk.crash()
    assert disk.content("/d/x") == b"new content"


def test_the_twin_forgets_what_was_not_synced() -> None:
    disk = SimulatedDisk()
    handle = disk.create("/d/x")
    disk.pwritev(handle, [b"durable"], 0)
    disk.fdatasync(handle)
    disk.crash()
    assert disk.paths() == []  # the name was not synced
    handle = disk.create("/d/x")
    disk.sync_directory("/d")
    disk.pwritev(handle, [b"lost"], 0)
    disk.crash()
    assert disk.content("/d/x") == b""
    disk.pwritev(disk.open("/d/x"), [b"kept by luck"], 0)
    disk.crash(keep_everything)
    assert disk.content("/d/x") == b"kept by luck"


def test_the_twin_believes_the_page_cache_after_a_failed_sync() -> None:
    disk = SimulatedDisk()
    handle = disk.create("/d/x")
    disk.sync_directory("/d")
    disk.pwritev(handle, [b"never arrived"], 0)
    disk.fail_next("fdatasync", errno.EIO)
    with pytest.raises(OSError, match="injected"):
        disk.fdatasync(handle)
    disk.fdatasync(handle)
    assert disk.content("/d/x") == b"never arrived"
    disk.crash(keep_everything)
    assert disk.content("/d/x") == b""

"""The disk operations that the log needs, and what is composed of them.

Whatever can lose data in a crash is a call of its own: a write is nothing until `fdatasync`, and a new name, a rename
or a removal is nothing until `sync_directory`. `FileDisk` is the real one; `SimulatedDisk` takes that literally.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

ZERO_CHUNK_BYTES = 4 * 1024 * 1024
"""A new file is filled in pieces of this size, each synced: one big sync would hold up the flushes of the journal."""

IO_VECTORS_MAX = 512  # half of Linux's IOV_MAX
JOINED_BYTES_MAX = 256 * 1024  # below it one copy costs less than many buffers in the system call


class Disk(Protocol):
    """Everything blocks: call it from a worker thread, or before the event loop serves anybody. Raises OSError.

    After a failed `fdatasync` nothing about the file may be believed (the page cache may hold what the disk does not),
    so the caller must stop.
    """

    def make_directory(self, path: str) -> None:
        """And those above it, durably; nothing when it is there."""

    def list_directory(self, path: str) -> list[str]: ...
    def sync_directory(self, path: str) -> None: ...
    def free_bytes(self, path: str) -> int: ...
    def create(self, path: str) -> int:
        """A new empty file, in place of one that may be there; returns its handle."""

    def open(self, path: str) -> int: ...
    def close(self, handle: int) -> None: ...
    def size(self, handle: int) -> int: ...
    def read(self, handle: int, size: int, offset: int) -> bytes:
        """Fewer bytes than asked for only at the end of the file."""

    def pwritev(self, handle: int, buffers: Sequence[bytes], offset: int) -> int:
        """Returns how many bytes were written, which may be fewer than given: see `write_all`."""

    def fdatasync(self, handle: int) -> None: ...
    def rename(self, path: str, new_path: str) -> None: ...
    def unlink(self, path: str) -> None: ...
    def lock(self, path: str) -> int:
        """Take the lock on a file until the handle is closed or the process ends. Raises BlockingIOError."""


def write_all(disk: Disk, handle: int, buffers: Sequence[bytes], offset: int) -> None:
    """All of ``buffers``, one behind the other from ``offset``: with one call as a rule, a short write is continued."""
    size = sum(map(len, buffers))
    if size <= JOINED_BYTES_MAX:
        buffers = [b"".join(buffers)]
    for start in range(0, len(buffers), IO_VECTORS_MAX):
        part = buffers[start : start + IO_VECTORS_MAX]
        wanted = sum(map(len, part))
        written = disk.pwritev(handle, part, offset)
        while written < wanted:
            written += disk.pwritev(handle, [b"".join(part)[written:]], offset + written)
        offset += wanted


def write_file(disk: Disk, path: str, data: bytes) -> None:
    """Replace a small file atomically and durably."""
    scratch = f"{path}.new"
    handle = disk.create(scratch)
    try:
        write_all(disk, handle, [data], 0)
        disk.fdatasync(handle)
    finally:
        disk.close(handle)
    disk.rename(scratch, path)
    disk.sync_directory(parent(path))


def read_file(disk: Disk, path: str) -> bytes:
    handle = disk.open(path)
    try:
        return disk.read(handle, disk.size(handle), 0)
    finally:
        disk.close(handle)


def create_filled(disk: Disk, path: str, head: bytes, size: int) -> int:
    """A file of ``size`` bytes, zeros behind ``head``, that has its name only once all of it is durable. Returns its
    handle. When the disk is too full for it (OSError), nothing is left of it."""
    scratch = f"{path}.new"
    handle = disk.create(scratch)
    try:
        _fill(disk, handle, head, size)
    except OSError:
        disk.close(handle)
        disk.unlink(scratch)
        raise
    disk.rename(scratch, path)
    disk.sync_directory(parent(path))
    return handle


def _fill(disk: Disk, handle: int, head: bytes, size: int) -> None:
    zeros = bytes(min(ZERO_CHUNK_BYTES, size))
    position = len(head)
    write_all(disk, handle, [head], 0)
    while position < size:
        chunk = zeros[: size - position]
        write_all(disk, handle, [chunk], position)
        disk.fdatasync(handle)
        position += len(chunk)


def parent(path: str) -> str:
    return path.rpartition("/")[0] or "/"

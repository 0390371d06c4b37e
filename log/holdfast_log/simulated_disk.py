"""An in-memory twin of `FileDisk` that forgets what a real disk may forget, and fails when it is told to.

Each file has what is on the platter, and writes on the way there until `fdatasync`; a name, rename or removal is on the
way until `sync_directory`. `crash` loses what is on the way, except for what it is told to keep.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol

SECTOR_BYTES = 512

Write = tuple[int, bytes]
Survival = Callable[[list[Write]], list[Write]]
"""Which part of a file's unsynced writes is on the platter after a crash."""


class Chance(Protocol):
    """The part of `random.Random` that is used here."""

    def randrange(self, stop: int, /) -> int: ...


def keep_nothing(writes: list[Write]) -> list[Write]:
    return []


def keep_everything(writes: list[Write]) -> list[Write]:
    return writes


def keep_first(count: int) -> Survival:
    """The first ``count`` bytes, in the order in which they were written: the last write is torn there."""

    def survive(writes: list[Write]) -> list[Write]:
        kept, left = [], count
        for offset, data in writes:
            kept.append((offset, data[: max(0, left)]))
            left -= len(data)
        return kept

    return survive


def keep_some_sectors(chance: Chance) -> Survival:
    """Any subset of the sectors, as a drive that reorders leaves them, the last one perhaps torn at a byte."""

    def survive(writes: list[Write]) -> list[Write]:
        kept = []
        for offset, data in writes:
            pieces = [(offset + at, data[at : at + SECTOR_BYTES]) for at in range(0, len(data), SECTOR_BYTES)]
            chosen = [piece for piece in pieces if chance.randrange(2)]
            if chosen:
                start, last = chosen.pop()
                chosen.append((start, last[: chance.randrange(len(last) + 1)]))
            kept += chosen
        return kept

    return survive


class _File:
    def __init__(self) -> None:
        self.platter = bytearray()
        self.view = bytearray()  # what a read returns: the platter under the writes
        self.unsynced: list[Write] = []


def _put(content: bytearray, offset: int, data: bytes) -> None:
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


class SimulatedDisk:
    def __init__(self, capacity_bytes: int = 1 << 40) -> None:
        self.capacity_bytes = capacity_bytes
        self.calls: Counter[str] = Counter()
        self.short_writes = False
        """Each `pwritev` writes only half of what it is given (but at least one byte)."""
        self._names: dict[str, _File] = {}
        self._synced_names: dict[str, _File] = {}
        self._handles: dict[int, _File] = {}
        self._locks: dict[int, str] = {}
        self._next_handle = 3
        self._faults: dict[str, list[int]] = {}

    # ------------------------------------------------------------ what tests do to it

    def fail_next(self, call: str, error: int, times: int = 1) -> None:
        """The next calls of this name raise OSError with the errno ``error``."""
        self._faults.setdefault(call, []).extend([error] * times)

    def crash(self, survive: Survival = keep_nothing, *, keep_names: bool = False) -> None:
        """The power fails: locks and handles are gone, of what was not synced only what ``survive`` keeps is left."""
        for file in {id(file): file for file in [*self._names.values(), *self._synced_names.values()]}.values():
            for offset, data in survive(file.unsynced):
                _put(file.platter, offset, data)
            file.unsynced = []
            file.view = bytearray(file.platter)
        if keep_names:
            self._synced_names = dict(self._names)
        self._names = dict(self._synced_names)
        self._handles.clear()
        self._locks.clear()

    def flip(self, path: str, offset: int, bit: int = 0) -> None:
        """Damage one bit of a file."""
        for content in (self._names[path].platter, self._names[path].view):
            content[offset] ^= 1 << bit

    def content(self, path: str) -> bytes:
        return bytes(self._names[path].view)

    def paths(self) -> list[str]:
        return sorted(self._names)

    def used_bytes(self) -> int:
        return sum(len(file.view) for file in self._names.values())

    # ------------------------------------------------------------ Disk

    def make_directory(self, path: str) -> None:
        self._begin("make_directory")

    def list_directory(self, path: str) -> list[str]:
        self._begin("list_directory")
        prefix = path.rstrip("/") + "/"
        names = {name[len(prefix) :].partition("/")[0] for name in self._names if name.startswith(prefix)}
        return sorted(names)

    def sync_directory(self, path: str) -> None:
        self._begin("sync_directory")
        inside = {name: file for name, file in self._names.items() if name.rpartition("/")[0] == path}
        others = {name: file for name, file in self._synced_names.items() if name.rpartition("/")[0] != path}
        self._synced_names = {**others, **inside}

    def free_bytes(self, path: str) -> int:
        self._begin("free_bytes")
        return max(0, self.capacity_bytes - self.used_bytes())

    def create(self, path: str) -> int:
        self._begin("create")
        self._names[path] = _File()
        return self._handle(self._names[path])

    def open(self, path: str) -> int:
        self._begin("open")
        if path not in self._names:
            raise FileNotFoundError(errno.ENOENT, "no such simulated file", path)
        return self._handle(self._names[path])

    def close(self, handle: int) -> None:
        self._begin("close")
        if self._locks.pop(handle, None) is None:
            del self._handles[handle]

    def size(self, handle: int) -> int:
        return len(self._handles[handle].view)

    def read(self, handle: int, size: int, offset: int) -> bytes:
        self._begin("read")
        return bytes(self._handles[handle].view[offset : offset + size])

    def pwritev(self, handle: int, buffers: Sequence[bytes], offset: int) -> int:
        self._begin("pwritev")
        file = self._handles[handle]
        data = b"".join(buffers)
        if self.short_writes:
            data = data[: max(1, len(data) // 2)]
        growth = max(0, offset + len(data) - len(file.view))
        if self.used_bytes() + growth > self.capacity_bytes:
            raise OSError(errno.ENOSPC, "the simulated disk is full")
        _put(file.view, offset, data)
        file.unsynced.append((offset, data))
        return len(data)

    def fdatasync(self, handle: int) -> None:
        file = self._handles[handle]
        try:
            self._begin("fdatasync")
        except OSError:
            file.unsynced = []  # as Linux: reported once, then the pages count as clean though they never arrived
            raise
        for offset, data in file.unsynced:
            _put(file.platter, offset, data)
        file.unsynced = []

    def rename(self, path: str, new_path: str) -> None:
        self._begin("rename")
        self._names[new_path] = self._names.pop(path)

    def unlink(self, path: str) -> None:
        self._begin("unlink")
        del self._names[path]

    def lock(self, path: str) -> int:
        self._begin("lock")
        if path in self._locks.values():
            raise BlockingIOError(errno.EWOULDBLOCK, "locked", path)
        handle = self._next_handle
        self._next_handle += 1
        self._locks[handle] = path
        return handle

    # ------------------------------------------------------------

    def _begin(self, call: str) -> None:
        self.calls[call] += 1
        faults = self._faults.get(call)
        if faults:
            raise OSError(faults.pop(0), f"injected into {call}")

    def _handle(self, file: _File) -> int:
        handle = self._next_handle
        self._next_handle += 1
        self._handles[handle] = file
        return handle

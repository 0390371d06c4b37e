"""The real disk, and the thread that does its work while the event loop goes on."""

from __future__ import annotations

import fcntl
import os
import sys
import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any


class FileDisk:
    """A real file system; see `files.Disk`."""

    def make_directory(self, path: str) -> None:
        if not os.path.isdir(path):
            above = os.path.dirname(os.path.abspath(path))
            self.make_directory(above)
            os.mkdir(path)
            self.sync_directory(above)

    def list_directory(self, path: str) -> list[str]:
        return sorted(os.listdir(path))

    def sync_directory(self, path: str) -> None:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def free_bytes(self, path: str) -> int:
        state = os.statvfs(path)
        return state.f_bavail * state.f_frsize

    def create(self, path: str) -> int:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)

    def open(self, path: str) -> int:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def close(self, handle: int) -> None:
        os.close(handle)

    def size(self, handle: int) -> int:
        return os.fstat(handle).st_size

    def read(self, handle: int, size: int, offset: int) -> bytes:
        data = os.pread(handle, size, offset)
        if len(data) == size or not data:
            return data
        return data + self.read(handle, size - len(data), offset + len(data))

    def pwritev(self, handle: int, buffers: Sequence[bytes], offset: int) -> int:
        return os.pwritev(handle, buffers, offset)

    if sys.platform == "darwin":

        def fdatasync(self, handle: int) -> None:
            fcntl.fcntl(handle, fcntl.F_FULLFSYNC)  # fsync there leaves the data in the drive's cache

    else:

        def fdatasync(self, handle: int) -> None:
            os.fdatasync(handle)

    def rename(self, path: str, new_path: str) -> None:
        os.rename(path, new_path)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def lock(self, path: str) -> int:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            raise
        return handle


class DiskThread:
    """Runs jobs one after the other in a thread of its own and reports each to the event loop.

    A `ThreadPoolExecutor` would do, at the price of two futures per flush.
    """

    def __init__(self, name: str, report: Callable[..., object]) -> None:
        """``report(done, result, error)`` is called in the thread; usually the loop's call_soon_threadsafe."""
        self._report = report
        self._jobs: SimpleQueue[tuple[Callable[[], Any], Callable[[Any, BaseException | None], None]] | None]
        self._jobs = SimpleQueue()
        # A daemon: when the disk hangs, the process must still be able to end.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, job: Callable[[], Any], done: Callable[[Any, BaseException | None], None]) -> None:
        self._jobs.put((job, done))

    def stop(self) -> None:
        """After the jobs that were submitted. Blocks."""
        self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (task := self._jobs.get()) is not None:
            job, done = task
            result, error = None, None
            try:
                result = job()
            except BaseException as failure:  # noqa: BLE001 - whatever it is, the loop's thread decides what it means
                error = failure
            self._report(done, result, error)

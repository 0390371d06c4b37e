"""The disk operations that the journal needs, each explicit, and the driver for a real file system."""

from __future__ import annotations

import os
from pathlib import Path

_ZEROS = b"\0" * (1 << 20)


class Disk:
    """Everything blocks: call it from a worker thread, or before the event loop serves anybody.

    Raises OSError. After a failed sync nothing about the file may be believed (the page cache may hold what the disk
    does not), so the caller must stop; see RELIABILITY in docs/ARCHITECTURE.md.
    """

    def create_zeroed(self, path: Path, head: bytes, size: int) -> int:
        """A new file of ``size`` zero bytes behind ``head``, durable with its name, in place under its final name only
        when it is complete. Returns its descriptor."""
        scratch = path.with_suffix(".new")
        descriptor = os.open(scratch, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            self.write(descriptor, head, 0)
            position = len(head)
            while position < size:
                chunk = _ZEROS[: min(len(_ZEROS), size - position)]
                self.write(descriptor, chunk, position)
                position += len(chunk)
            self.sync(descriptor)
            os.rename(scratch, path)
            self.sync_directory(path.parent)
        except OSError:
            os.close(descriptor)
            scratch.unlink(missing_ok=True)
            raise
        return descriptor

    def open(self, path: Path) -> int:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def close(self, descriptor: int) -> None:
        os.close(descriptor)

    def write(self, descriptor: int, data: bytes, offset: int) -> None:
        """All of ``data``: a short write is continued."""
        view = memoryview(data)
        while view:
            written = os.pwrite(descriptor, view, offset)
            view = view[written:]
            offset += written

    def sync(self, descriptor: int) -> None:
        os.fdatasync(descriptor)

    def sync_directory(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def read(self, descriptor: int, size: int, offset: int) -> bytes:
        """Up to ``size`` bytes; fewer only at the end of the file."""
        parts = []
        while size > 0:
            part = os.pread(descriptor, size, offset)
            if not part:
                break
            parts.append(part)
            size -= len(part)
            offset += len(part)
        return b"".join(parts)

    def size(self, descriptor: int) -> int:
        return os.fstat(descriptor).st_size

    def unlink(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self.sync_directory(path.parent)

    def write_file(self, path: Path, data: bytes) -> None:
        """Replace a small file atomically and durably."""
        scratch = path.with_suffix(".new")
        descriptor = os.open(scratch, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            self.write(descriptor, data, 0)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(scratch, path)
        self.sync_directory(path.parent)

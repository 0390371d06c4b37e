"""The file that holds a partition's tables: one LMDB environment. The only module that knows LMDB.

Read on the event loop's thread, through one read transaction that is renewed after each write; written by `write` on a
worker thread, one synced transaction at a time.
"""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path
from typing import Any

import lmdb

from holdfast_partition_processor.overlay import Overlay
from holdfast_partition_processor.row_format import ChecksumMismatch, check_value, encode_value
from holdfast_partition_processor.store_errors import StoreCorrupted, StoreError, StoreFull, WrongStore
from holdfast_partition_processor.stored_table import StoredTable
from holdfast_partition_processor.tables import ALL_TABLES

FORMAT_VERSION = 1

PROBE_BYTES = 256 * 1024
PROBE_BYTES_MAX = 64 * 1024 * 1024
"""Written to find out whether the disk is full: as much as the checkpoint that failed, but no more than this."""

_ABOUT = b"about"  # the named database that says what the file is
_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_DAMAGED = (lmdb.CorruptedError, lmdb.InvalidError, lmdb.PageNotFoundError, lmdb.VersionMismatchError)


class StoreFile:
    def __init__(self, env: lmdb.Environment, path: Path) -> None:
        self.path = path
        self.tables: dict[str, StoredTable] = {}
        self.applied_index = 0
        """The tables are those after this entry of the log."""
        self.reader: Any = None
        self.must_grow = False
        """The last write found the map full: call `grow`, then write again."""
        self._env = env
        self._about: Any = None

    @classmethod
    def open(cls, directory: Path, partition: int, map_bytes_initial: int) -> StoreFile:
        """Make or open it. Raises WrongStore, StoreCorrupted, StoreError, OSError."""
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / "data.mdb"
        map_bytes = max(map_bytes_initial, 2 * path.stat().st_size if path.exists() else 0)
        env: lmdb.Environment | None = None
        try:
            env = lmdb.open(
                str(directory),
                map_size=map_bytes,
                max_dbs=len(ALL_TABLES) + 1,
                max_readers=16,
                readahead=False,
                meminit=False,
            )
            file = cls(env, path)
            file._prepare(partition)
        except BaseException as error:
            if env is not None:
                env.close()
            if isinstance(error, _DAMAGED):
                raise StoreCorrupted(str(path), str(error)) from error
            if isinstance(error, lmdb.Error):
                raise StoreError(f"{path} can't be opened: {error}") from error
            raise
        _sync_directory(directory)
        _sync_directory(directory.parent)
        return file

    def _prepare(self, partition: int) -> None:
        """Check what the file is before anything is written to it, then open its tables."""
        with self._env.begin(write=True) as writer:
            self._about = self._env.open_db(_ABOUT, txn=writer)
            version = self._read_number(writer, b"format")
            owner = self._read_number(writer, b"partition")
            if version is not None and version > FORMAT_VERSION:
                raise WrongStore(f"{self.path} has format {version}, this release knows up to {FORMAT_VERSION}")
            if owner is not None and owner != partition:
                raise WrongStore(f"{self.path} holds partition {owner}, not {partition}")
            if version is None:
                self._write_number(writer, b"format", FORMAT_VERSION)
                self._write_number(writer, b"partition", partition)
            self.applied_index = self._read_number(writer, b"applied index") or 0
            for table in ALL_TABLES:
                handle = self._env.open_db(table.name.encode(), txn=writer)
                self.tables[table.name] = StoredTable(table, handle, str(self.path), lmdb.Error)
        self._env.reader_check()  # places of readers that were killed would keep pages from being used again
        self.reader = self._env.begin()

    def write(self, overlay: Overlay, applied_index: int) -> None:
        """All of ``overlay`` and the index, or nothing. Raises StoreFull; lmdb.Error or OSError when the disk fails,
        or with `must_grow` set."""
        try:
            with self._env.begin(write=True) as writer:
                for name, groups in overlay.tables.items():
                    table = self.tables[name]
                    for group, rows in groups.items():
                        table.write(writer, group, rows)
                self._write_number(writer, b"applied index", applied_index)
        except lmdb.MapFullError:
            self.must_grow = True
            raise
        except (lmdb.Error, OSError) as error:
            if _is_about_space(error, self.path.parent, overlay.bytes):
                raise StoreFull(f"{self.path}: no room for a checkpoint ({error}); free some space") from error
            raise

    def renew_reader(self) -> None:
        """See what was written. An old reader would also keep pages from being used again: the file would grow."""
        self.reader.abort()
        self.reader = self._env.begin()

    def grow(self) -> None:
        """Map twice as much. No transaction may be open, for the map moves: so not while a write is under way, and on
        the thread that reads."""
        self.must_grow = False
        self.reader.abort()
        self._env.set_mapsize(2 * self._env.info()["map_size"])
        self.reader = self._env.begin()

    def close(self) -> None:
        self.reader.abort()
        self._env.close()

    def _read_number(self, reader: Any, name: bytes) -> int | None:
        value = reader.get(name, db=self._about)
        if value is None:
            return None
        try:
            return int.from_bytes(check_value(name, value), "big")
        except ChecksumMismatch:
            raise StoreCorrupted(str(self.path), "checksum mismatch", "about", name) from None

    def _write_number(self, writer: Any, name: bytes, number: int) -> None:
        writer.put(name, encode_value(name, b"", b"", number.to_bytes(8, "big")), db=self._about)


def _is_about_space(error: BaseException, directory: Path, size: int) -> bool:
    """LMDB turns a short write, which is how most full disks show themselves first, into EIO: so ask the disk."""
    codes = [code for code in (*_SPACE, errno.EIO) if os.strerror(code) in str(error)]
    if isinstance(error, lmdb.DiskError) or any(code in _SPACE for code in codes):
        return True
    return isinstance(error, lmdb.Error) and errno.EIO in codes and not _has_room(directory, size)


def _has_room(directory: Path, size: int) -> bool:
    try:
        with tempfile.TemporaryFile(dir=directory) as probe:
            for _ in range(max(1, min(size, PROBE_BYTES_MAX) // PROBE_BYTES)):
                probe.write(bytes(PROBE_BYTES))
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        return error.errno not in _SPACE
    return True


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""What can be wrong with the tables of a partition. The messages are for people."""

from __future__ import annotations


class StoreError(Exception):
    """The tables of a partition can't be used as asked."""


class WrongStore(StoreError):
    """The directory belongs to another partition, or a newer release wrote it."""


class StoreCorrupted(StoreError):
    """What was read is not what was written. ``table`` and ``key`` are empty when it is the file as a whole."""

    def __init__(self, path: str, what: str, table: str = "", key: bytes = b"") -> None:
        where = f"table {table}, key {key.hex()}: " if table else ""
        super().__init__(f"{path}: {where}{what}; it can't be trusted")
        self.table = table
        self.key = key


class StoreFull(StoreError):
    """The disk has no room for a checkpoint; it is tried again until there is."""


class StoreFailed(StoreError):
    """The disk failed. Nothing more is written; the process must end, and the log brings back what is missing."""

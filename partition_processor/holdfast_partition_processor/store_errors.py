"""What can be wrong with the tables of a partition. The messages are for people."""

from __future__ import annotations


class StoreError(Exception):
    """The tables of a partition can't be used as asked. The message is for people."""


class StoreCorrupted(StoreError):
    """What was read is not what was written."""

    def __init__(self, path: str, table: str, key: bytes, what: str) -> None:
        super().__init__(f"{path}: table {table}, key {key.hex()}: {what}; the row can't be trusted")
        self.table = table
        self.key = key


class WrongStore(StoreError):
    """The directory belongs to another partition, or a newer release wrote it."""


class StoreFull(StoreError):
    """The disk has no room for a checkpoint; it is tried again until there is."""


class StoreFailed(StoreError):
    """The disk failed. Nothing more is written; the process must end, and the log brings back what is missing."""

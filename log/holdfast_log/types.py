"""The nouns of the log, and the seam between a log group and whoever consumes it.

A *partition* of the log is one Raft group. Its log is a sequence of entries, each with the *term* of the leader
that appended it and an *index* that counts from 1 without gaps::

      trimmed          first_index            commit_index      last_index
    ....................|=======================|----------------|
                          handed to the consumer  not yet durable on a quorum

The consumer proposes payloads on the leader and is handed every committed entry, in order, exactly once per run
of the process, on every replica. It says what may be trimmed once it has made the effects durable elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

PAYLOAD_BYTES_MAX = 40 * 1024 * 1024
"""Largest payload of one entry: a journal frame of 32 MiB with what surrounds it."""


class EntryKind(IntEnum):
    EMPTY = 0  # a new leader's first entry, no payload; by committing it the leader commits what came before
    NORMAL = 1
    CONFIG = 2  # membership of the group


@dataclass(frozen=True, slots=True)
class Entry:
    term: int
    index: int
    kind: EntryKind
    payload: bytes


class LogError(Exception):
    """A proposal or read that the log refuses. The message is for people; nothing was changed."""


class NotLeader(LogError):
    def __init__(self, partition: int, leader: str | None) -> None:
        where = f"its leader is {leader}" if leader else "its leader is not known"
        super().__init__(f"this node does not lead partition {partition}; {where}")
        self.partition = partition
        self.leader = leader


class LogFull(LogError):
    """The disk is (nearly) full: proposals are refused until space returns, reads go on."""


class Overloaded(LogError):
    """More uncommitted bytes than the group's limit; try again when the consumer is told so."""


class PayloadTooLarge(LogError):
    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"payload of {size} bytes, the limit is {limit} (PAYLOAD_BYTES_MAX)")


class Trimmed(LogError):
    def __init__(self, index: int, first_index: int) -> None:
        super().__init__(f"index {index} was trimmed, the log begins at {first_index}")
        self.first_index = first_index


class LogBehind(LogError):
    """The consumer has applied entries that the log does not hold: the log's directory was replaced or is older."""

    def __init__(self, partition: int, applied_index: int, last_index: int) -> None:
        super().__init__(
            f"the tables of partition {partition} have applied entry {applied_index}, but the log ends at "
            f"{last_index}: the journal was removed or is an older copy"
        )


class LogClosed(LogError):
    """The log is closing or has failed; nothing is taken any more."""


class JournalCorrupted(LogError):
    """Something that was durable can't be read any more. Nothing was changed on the disk."""

    def __init__(self, path: str, offset: int, what: str) -> None:
        super().__init__(f"journal segment {path} is damaged at offset {offset}: {what}")
        self.path = path
        self.offset = offset


class FormatTooNew(LogError):
    """A newer release wrote this data."""


class WrongDirectory(LogError):
    """The directory belongs to another node or cluster, or has another number of partitions."""


class DirectoryInUse(LogError):
    """Another process works on the directory."""


class LogConsumer(Protocol):
    """What a log group calls, always on the event loop's thread and never from inside `propose`."""

    def on_committed(self, entries: Sequence[Entry]) -> None:
        """The next committed entries, in order. On the first call they follow the index given to `start`."""

    def on_leader(self, term: int) -> None:
        """This replica leads from now on. Its EMPTY entry of ``term`` is committed later: only when `on_committed`
        has handed that over does the consumer know everything that earlier leaders acknowledged."""

    def on_follower(self, term: int, leader: str | None) -> None:
        """This replica does not lead (any more). What it proposed may or may not be committed by others."""

    def on_writable(self) -> None:
        """Proposals are taken again after `PartitionLog.writable` was False."""


class PartitionLog(Protocol):
    """One replica of one log group."""

    @property
    def partition(self) -> int: ...
    @property
    def term(self) -> int: ...
    @property
    def is_leader(self) -> bool: ...
    @property
    def first_index(self) -> int: ...
    @property
    def last_index(self) -> int: ...
    @property
    def commit_index(self) -> int: ...

    @property
    def writable(self) -> bool:
        """Back-pressure: False while two flushes are on their way to the disk or the uncommitted bytes are at
        their limit. A consumer gathers what arrives meanwhile and proposes it as one payload when told
        `on_writable`; proposing all the same is allowed up to the hard limit, then raises Overloaded."""

    def start(self, consumer: LogConsumer, applied_index: int) -> None:
        """Begin handing over committed entries after ``applied_index``. Raises Trimmed when they are gone, LogBehind
        when the log ends before that index."""

    def propose(self, payload: bytes) -> tuple[int, int]:
        """Append on the leader; returns (term, index) at once. It is acknowledged when `on_committed` hands over
        that index with that term; another term at that index means that it was lost.
        Raises NotLeader, LogFull, Overloaded, PayloadTooLarge, LogClosed; then nothing was taken."""

    def trim(self, up_to_index: int) -> None:
        """Entries up to and including this index are durable elsewhere and may be dropped (they need not be)."""

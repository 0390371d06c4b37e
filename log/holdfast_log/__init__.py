"""The log: partitions, each a sequence of entries that is durable before anybody is told that it is there.

What it promises: entries of one partition are handed to their consumer in order, once per run of the process, and only
when they are on the disk (fdatasync) of a quorum. What it asks of the caller, in this order: `LogNode.open`, for each
group `group(partition).start(consumer, applied_index)`, `LogNode.start`, then `propose` at will; `trim` when the
effects of entries are durable elsewhere; `close`. When `on_fatal` is called the process must end.
"""

from holdfast_log.identity import DirectoryInUse, NodeIdentity, WrongDirectory
from holdfast_log.journal import FormatTooNew, Journal, JournalCorrupted
from holdfast_log.multi_raft import LogNode, LogOptions, Replica
from holdfast_log.types import (
    Entry,
    EntryKind,
    LogConsumer,
    LogError,
    LogFull,
    NotLeader,
    Overloaded,
    PartitionLog,
    PayloadTooLarge,
    Trimmed,
)

__all__ = [
    "DirectoryInUse",
    "Entry",
    "EntryKind",
    "FormatTooNew",
    "Journal",
    "JournalCorrupted",
    "LogConsumer",
    "LogError",
    "LogFull",
    "LogNode",
    "LogOptions",
    "NodeIdentity",
    "NotLeader",
    "Overloaded",
    "PartitionLog",
    "PayloadTooLarge",
    "Replica",
    "Trimmed",
    "WrongDirectory",
]

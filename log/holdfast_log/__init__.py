"""The log: partitions, each a sequence of entries that is durable before anybody is told that it is there.

What it promises
----------------
* The entries of a partition are handed to its consumer in order, without gaps, each once per run of the process, and
  only when they are on the disk (fdatasync) of a quorum; in this release that is this node.
* What was handed over is handed over again after any crash, with the same term and index, until it was trimmed.
* Of an unfinished write nothing is seen after a crash. Damage of anything durable is found, and refused with file and
  offset; it is never cut off.
* After a failed write or fdatasync nothing is acknowledged any more. Nothing is tried again.

What the caller does, in this order
-----------------------------------
1. ``node = await LogNode.open(directory, identity=..., partitions=...)``; set ``node.on_fatal``: when it is called, the
   process must end with an error.
2. ``node.group(p).start(consumer, applied_index)`` for each partition: the consumer is handed what follows that index.
3. ``await node.start()``: it has been handed all that was committed before, and each group leads.
4. ``node.group(p).propose(payload)`` at will; the entry counts when `on_committed` hands it over. Gather what arrives
   while ``writable`` is False and propose it as one payload when told `on_writable`.
5. ``trim(index)`` when the effects of the entries up to there are durable elsewhere. Without it the disk fills.
6. ``await node.close()``.

Everything is called, and calls back, on the event loop's thread; only the disk's work is done in threads of its own.

Where to read on: `types` has the nouns and the seam to the consumer; `raft` is the consensus core, which does no IO,
with `quorum`, `progress`, `unstable` and `message`; `record`, `flush` and `segment` draw the format of the journal,
`recovery` tells a torn tail from damage, `journal` is the whole of it on a disk (`files`; `disk` is the real one,
`simulated_disk` its twin for tests); `multi_raft` drives all groups of a node (`replica`, `flusher`, `housekeeper`).
"""

from holdfast_log.identity import NodeIdentity
from holdfast_log.journal import Journal
from holdfast_log.multi_raft import LogNode
from holdfast_log.options import LogOptions
from holdfast_log.replica import Replica
from holdfast_log.types import (
    PAYLOAD_BYTES_MAX,
    DirectoryInUse,
    Entry,
    EntryKind,
    FormatTooNew,
    JournalCorrupted,
    LogBehind,
    LogClosed,
    LogConsumer,
    LogError,
    LogFull,
    NotLeader,
    Overloaded,
    PartitionLog,
    PayloadTooLarge,
    Trimmed,
    WrongDirectory,
)

__all__ = [
    "PAYLOAD_BYTES_MAX",
    "DirectoryInUse",
    "Entry",
    "EntryKind",
    "FormatTooNew",
    "Journal",
    "JournalCorrupted",
    "LogBehind",
    "LogClosed",
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

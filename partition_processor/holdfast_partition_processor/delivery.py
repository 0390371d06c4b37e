"""Messages between partitions, each applied once.

::

    source partition                                     target partition
    OUTBOX | 4 | 5 | 6 |  ── Ship ─▶ Ingest(source, 5) ─▶ DEDUP[source] = 4 < 5: apply, and remember 5
             ▲                                            an Ingest that comes again finds 5 and is ignored
             OutboxShipped(target, 4) removes what the target has in its log

A source counts all its messages with one counter, and its leader ships them in order per target; so for one target the
numbers rise, with gaps.
"""

from __future__ import annotations

from holdfast_partition_processor import command as c
from holdfast_partition_processor import tables as t
from holdfast_partition_processor.turn import Turn

PARTITIONS_MAX = 1 << 16


def apply_ingest(turn: Turn, command: c.Ingest) -> None:
    if not 0 <= command.source < PARTITIONS_MAX:
        return
    source = command.source.to_bytes(2, "big")
    if command.sequence <= (turn.storage.get(t.DEDUP, b"", source) or 0):
        return
    turn.storage.put(t.DEDUP, b"", source, command.sequence)
    turn.queue.append(command.message)


def apply_outbox_shipped(turn: Turn, command: c.OutboxShipped) -> None:
    if not 0 <= command.target < PARTITIONS_MAX:
        return
    group = command.target.to_bytes(2, "big")
    shipped = []
    for sub, _ in turn.storage.scan(t.OUTBOX, group):
        if int.from_bytes(sub, "big") > command.sequence:
            break
        shipped.append(sub)
    for sub in shipped:
        turn.storage.delete(t.OUTBOX, group, sub)

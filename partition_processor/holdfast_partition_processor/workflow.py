"""What a workflow key has beside its run: state and promises. They live as long as the run's result answers calls."""

from __future__ import annotations

from holdfast_partition_processor import tables as t
from holdfast_partition_processor.command import Failure
from holdfast_partition_processor.turn import Turn

ALREADY_INVOKED = Failure(409, "the workflow method was already invoked")
PURGED = Failure(410, "the workflow was purged before this promise was completed")


def purge_object(turn: Turn, group: bytes) -> None:
    """Forget state and promises. Handlers that still wait for a promise are told, they would wait for ever."""
    turn.storage.delete_group(t.STATE, group)
    for _, promise in list(turn.storage.scan(t.PROMISES, group)):
        for sink in promise.waiting:
            turn.respond(sink, None, PURGED)
    turn.storage.delete_group(t.PROMISES, group)

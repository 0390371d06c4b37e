"""A result that comes back to the invocation that asked for it."""

from __future__ import annotations

from holdfast_partition_processor import command as c
from holdfast_partition_processor import lifecycle
from holdfast_partition_processor.invocation import Status
from holdfast_partition_processor.live import load
from holdfast_partition_processor.turn import Turn, is_well_formed


def apply_response(turn: Turn, command: c.InvocationResponse) -> None:
    """Dropped when whoever asked is done, or is another by now under the same id."""
    sink = command.sink
    live = load(turn, sink.caller)
    if live is None or live.row.status is Status.COMPLETED or not is_well_formed(sink):
        return
    if sink.incarnation and sink.incarnation != live.row.incarnation:
        return
    live.complete(turn, sink.notification, sink.completion_id, command.notification)
    lifecycle.settle(turn, live)

"""The stored result of an invocation, for whoever asks later."""

from __future__ import annotations

from holdfast_partition_processor import tables as t
from holdfast_partition_processor.action import InvocationCompleted
from holdfast_partition_processor.invocation import Invocation, Status
from holdfast_partition_processor.tables import Storage


def result_of(storage: Storage, row: Invocation) -> InvocationCompleted | None:
    """None while it is not completed."""
    if row.status is not Status.COMPLETED:
        return None
    if row.failure is not None:
        return InvocationCompleted(row.id, None, row.failure)
    value = storage.get(t.OUTPUT, b"", t.sortable_id(row.id))
    assert value is not None, "a completed invocation has a failure or a value"
    return InvocationCompleted(row.id, value, None)

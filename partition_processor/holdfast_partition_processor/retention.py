"""How long what is left of a completed invocation is kept.

::

    completed                 journal retention is over        completion retention is over
        |--------------------------------|------------------------------------|
        | result, journal, status        | result, status                     | nothing (workflow: nor state, promises)

The two may come in the other order; the row is kept until the later one, and its result can be read until then, so that
whoever asked and lost the leader finds it. After its own retention a result answers no *later* call, though: the next
call with that idempotency key or workflow key begins anew (`is_expired`).
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from holdfast_partition_processor import tables as t
from holdfast_partition_processor import timer_key, workflow
from holdfast_partition_processor.command import HandlerType
from holdfast_partition_processor.invocation import Invocation, Status
from holdfast_partition_processor.live import Live
from holdfast_partition_processor.timer_key import TimerKind
from holdfast_partition_processor.turn import Turn


def is_kept(row: Invocation) -> bool:
    return row.completion_retention_ms > 0 or row.journal_retention_ms > 0


def keep(turn: Turn, live: Live, value: bytes | None) -> None:
    """``live`` was just completed and is kept: store its result, and say when what is forgotten."""
    row = live.row
    if value is not None:
        turn.storage.put(t.OUTPUT, b"", t.sortable_id(row.id), value)
    turn.set_timer(purge_due_ms(row), timer_key.encode(TimerKind.PURGE, row.id))
    if row.journal_retention_ms <= 0:
        purge_journal(turn, live)
    elif row.journal_retention_ms < row.completion_retention_ms:
        turn.set_timer(journal_due_ms(row), timer_key.encode(TimerKind.PURGE_JOURNAL, row.id))
    if is_workflow(row) and row.completion_retention_ms <= 0:
        purge_object(turn, live)
    elif is_workflow(row) and row.completion_retention_ms < row.journal_retention_ms:
        turn.set_timer(completion_due_ms(row), timer_key.encode(TimerKind.PURGE_OBJECT, row.id))


def is_workflow(row: Invocation) -> bool:
    return row.target.type is HandlerType.WORKFLOW_RUN


def is_expired(row: Invocation, now_ms: int) -> bool:
    """It is kept for its journal only; a call that would find it by key begins anew. An id that was made for one call
    alone is never called again, only asked for again."""
    may_be_called_again = is_workflow(row) or row.idempotency_key is not None
    return row.status is Status.COMPLETED and may_be_called_again and now_ms >= completion_due_ms(row)


def completion_due_ms(row: Invocation) -> int:
    return timer_key.in_range(row.completed_ms + max(row.completion_retention_ms, 0))


def journal_due_ms(row: Invocation) -> int:
    return timer_key.in_range(row.completed_ms + max(row.journal_retention_ms, 0))


def purge_due_ms(row: Invocation) -> int:
    return max(completion_due_ms(row), journal_due_ms(row))


def purge_journal(turn: Turn, live: Live) -> None:
    """Forget how it came to its result."""
    _delete_journal(turn, live)
    _mark(turn, live, journal_purged=True, journal_length=0, commands=0, output_index=0)


def purge_object(turn: Turn, live: Live) -> None:
    """The workflow's result answers no calls any more: its state and promises go."""
    workflow.purge_object(turn, live.object)
    _mark(turn, live, object_purged=True)


def purge(turn: Turn, live: Live) -> None:
    """Forget it, at the end of its retention or before."""
    row = live.row
    for due_ms, kind in (
        (purge_due_ms(row), TimerKind.PURGE),
        (journal_due_ms(row), TimerKind.PURGE_JOURNAL),
        (completion_due_ms(row), TimerKind.PURGE_OBJECT),
    ):
        turn.drop_timer(due_ms, timer_key.encode(kind, row.id))
    turn.storage.delete(t.OUTPUT, b"", t.sortable_id(row.id))
    remove(turn, live)


def remove(turn: Turn, live: Live) -> None:
    """Delete the rows that any invocation has."""
    turn.storage.delete(t.INVOCATIONS, b"", t.sortable_id(live.id))
    if not live.row.journal_purged:
        _delete_journal(turn, live)
    if is_workflow(live.row) and not live.row.object_purged:
        workflow.purge_object(turn, live.object)


def _delete_journal(turn: Turn, live: Live) -> None:
    turn.storage.delete_group(t.JOURNAL, live.id)
    if live.length > live.commands:  # each call and each completion is a notification
        turn.storage.delete_group(t.COMPLETED_COMMANDS, live.id)
        turn.storage.delete_group(t.CHILDREN, live.id)


def _mark(turn: Turn, live: Live, **changes: Any) -> None:
    live.row = replace(live.row, modified_ms=turn.now_ms, **changes)
    turn.storage.put(t.INVOCATIONS, b"", t.sortable_id(live.id), live.row)

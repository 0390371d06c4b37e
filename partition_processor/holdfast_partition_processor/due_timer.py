"""A timer that is due: what its row asks for, if that still makes sense.

The leader may fire a timer twice, or one that was dropped: its row is gone then.
"""

from __future__ import annotations

from holdfast_partition_processor import command as c
from holdfast_partition_processor import lifecycle, retention, timer_key
from holdfast_partition_processor import tables as t
from holdfast_partition_processor.invocation import Status
from holdfast_partition_processor.live import Live, load
from holdfast_partition_processor.notification import completion
from holdfast_partition_processor.timer_key import TimerKind
from holdfast_partition_processor.turn import Turn
from holdfast_proto.framing import MessageType


def apply_timer_fired(turn: Turn, command: c.TimerFired) -> None:
    key = timer_key.row_key(command.due_ms, command.timer)
    if turn.storage.get(t.TIMERS, b"", key) is None:
        return
    turn.storage.delete(t.TIMERS, b"", key)
    kind, invocation_id, extra = timer_key.decode(command.timer)
    live = load(turn, invocation_id)
    if live is None:
        return
    row = live.row
    match kind:
        case TimerKind.SLEEP if row.status is not Status.COMPLETED:
            _wake(turn, live, extra)
        case TimerKind.START if row.status is Status.SCHEDULED:
            lifecycle.admit(turn, live)
        case TimerKind.RETRY if row.status is Status.BACKING_OFF and row.attempt == extra:
            lifecycle.start_attempt(turn, live)
        case TimerKind.PURGE | TimerKind.PURGE_JOURNAL | TimerKind.PURGE_OBJECT if row.status is Status.COMPLETED:
            _forget(turn, live, kind)


def _wake(turn: Turn, live: Live, completion_id: int) -> None:
    live.sleeps -= 1
    live.complete(turn, MessageType.SLEEP_COMPLETION, completion_id, completion(completion_id, None, None))
    lifecycle.settle(turn, live)


def _forget(turn: Turn, live: Live, kind: TimerKind) -> None:
    if kind is TimerKind.PURGE:
        retention.purge(turn, live)
    elif kind is TimerKind.PURGE_JOURNAL:
        retention.purge_journal(turn, live)
    else:
        retention.purge_object(turn, live)

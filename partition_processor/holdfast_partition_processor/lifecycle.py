"""The steps of an invocation's life: begin, run, suspend, fail, complete. See `invocation` for the picture."""

from __future__ import annotations

from holdfast_partition_processor import retention, suspension, timer_key, virtual_object
from holdfast_partition_processor import tables as t
from holdfast_partition_processor.action import AbortAttempt, InvocationCompleted, StartAttempt
from holdfast_partition_processor.command import Failure, HandlerType, Invoke, Kill
from holdfast_partition_processor.invocation import Invocation, LastFailure, Status, Waiting
from holdfast_partition_processor.live import Live, load
from holdfast_partition_processor.tables import Frame
from holdfast_partition_processor.timer_key import TimerKind
from holdfast_partition_processor.turn import Turn
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import HEADER_BYTES, MessageType, encode_frame

CANCELLED = Failure(409, "cancelled")
KILLED = Failure(409, "killed")
NOT_STARTED = frozenset({Status.SCHEDULED, Status.INBOXED})
_INDEX_0 = bytes(4)


def begin(turn: Turn, command: Invoke) -> None:
    """A fresh invocation. Its input is journal entry 0. It runs now, when its object is free, or at its time."""
    target = command.target
    status, inbox_sequence = Status.INVOKED, 0
    if command.execute_at_ms > turn.now_ms:
        status = Status.SCHEDULED
        turn.set_timer(command.execute_at_ms, timer_key.encode(TimerKind.START, command.id))
    elif target.type is HandlerType.EXCLUSIVE:
        place = virtual_object.enter(turn, t.object_group(target.service, target.key or ""), command.id)
        if place is not None:
            status, inbox_sequence = Status.INBOXED, place
    runs = status is Status.INVOKED
    row = Invocation(
        id=command.id,
        target=target,
        status=status,
        created_ms=turn.now_ms,
        modified_ms=turn.now_ms,
        by=command.by,
        by_id=command.by_id,
        sinks=() if command.sink is None else (command.sink,),
        idempotency_key=command.idempotency_key,
        execute_at_ms=command.execute_at_ms,
        completion_retention_ms=command.completion_retention_ms,
        journal_retention_ms=command.journal_retention_ms,
        attempt=1 if runs else 0,
        journal_length=1,
        commands=1,
        last_progress_ms=turn.now_ms,
        inbox_sequence=inbox_sequence,
        incarnation=turn.index,
        replayed=1 if runs else 0,
    )
    raw = encode_frame(MessageType.INPUT, command.input)
    turn.storage.put(t.JOURNAL, command.id, _INDEX_0, Frame(raw, turn.now_ms))
    turn.storage.put(t.INVOCATIONS, b"", t.sortable_id(command.id), row)
    if runs:
        turn.storage.put(t.RUNNING, b"", command.id, b"")
        turn.actions.append(StartAttempt(row, raw))


def admit(turn: Turn, live: Live) -> None:
    """A delayed invocation's time has come: run it, or let it wait until its virtual object is free."""
    if live.row.target.type is HandlerType.EXCLUSIVE:
        place = virtual_object.enter(turn, live.object, live.id)
        if place is not None:
            live.save(turn, Status.INBOXED, inbox_sequence=place)
            return
    start_attempt(turn, live)


def start_attempt(turn: Turn, live: Live) -> None:
    attempt = live.row.attempt + 1
    live.save(turn, Status.INVOKED, attempt=attempt, waiting=None, next_retry_ms=0, replayed=live.length)
    turn.actions.append(StartAttempt(live.row))


def suspend(turn: Turn, live: Live, waiting: Waiting) -> None:
    """Park it until one of the things that it waits for is in its journal; run it again at once if one is already."""
    if suspension.is_over(turn, live, waiting):
        start_attempt(turn, live)
    else:
        live.save(turn, Status.SUSPENDED, waiting=waiting)


def settle(turn: Turn, live: Live) -> None:
    """Notifications were appended: store them, and wake the invocation if it waits for one."""
    waiting = live.row.waiting
    if live.row.status is Status.SUSPENDED and waiting is not None and suspension.is_ended_by(waiting, live.fresh_keys):
        start_attempt(turn, live)
    else:
        live.save(turn, live.row.status)


def back_off(turn: Turn, live: Live, last: LastFailure, retry_at_ms: int) -> None:
    due_ms = timer_key.in_range(retry_at_ms)
    count = live.retry_count + 1
    live.save(turn, Status.BACKING_OFF, last_failure=last, retry_count=count, next_retry_ms=due_ms)
    turn.set_timer(due_ms, timer_key.encode(TimerKind.RETRY, live.id, live.row.attempt))


def retry_now(turn: Turn, live: Live) -> None:
    """Begin the next attempt of what backs off or is paused, whatever its timer says."""
    _drop_retry(turn, live.row)
    start_attempt(turn, live)


def pause(turn: Turn, live: Live, last: LastFailure) -> None:
    live.save(turn, Status.PAUSED, last_failure=last, retry_count=live.retry_count + 1)


def finish(turn: Turn, live: Live, value: bytes | None, failure: Failure | None) -> None:
    """It has its result: tell everybody who waits, free its object, start the retention."""
    row = live.row
    turn.actions.append(InvocationCompleted(row.id, value, failure))
    for sink in row.sinks:
        turn.respond(sink, value, failure)
    _drop_pending(turn, live)
    if retention.is_kept(row):
        live.save(
            turn, Status.COMPLETED,
            completed_ms=turn.now_ms, failure=failure, sinks=(), waiting=None, next_retry_ms=0,
        )  # fmt: skip
        retention.keep(turn, live, value)
    else:
        if row.status is Status.INVOKED:
            turn.storage.delete(t.RUNNING, b"", row.id)
        retention.remove(turn, live)
    if row.target.type is HandlerType.EXCLUSIVE and row.status not in NOT_STARTED:
        _pass_on(turn, live)


def _pass_on(turn: Turn, live: Live) -> None:
    successor_id = virtual_object.leave(turn, live.object, live.id)
    if successor_id is not None:
        successor = load(turn, successor_id)
        assert successor is not None, "whoever is in an inbox has a row"
        start_attempt(turn, successor)


def kill(turn: Turn, live: Live) -> None:
    """End it now, without its code, and everything that it called, delayed or not."""
    if live.row.status is Status.INVOKED:
        turn.actions.append(AbortAttempt(live.id))
    for _, child in turn.storage.scan(t.CHILDREN, live.id):
        turn.send(Kill(child, parent=live.id))
    finish(turn, live, None, KILLED)


def _drop_pending(turn: Turn, live: Live) -> None:
    """Nothing that was to happen to it later may meet a later invocation with the same id."""
    row = live.row
    if row.status is Status.SCHEDULED:
        turn.drop_timer(row.execute_at_ms, timer_key.encode(TimerKind.START, row.id))
    elif row.status is Status.INBOXED:
        virtual_object.leave_inbox(turn, live.object, row.inbox_sequence)
    elif row.status is Status.BACKING_OFF:
        _drop_retry(turn, row)
    if live.sleeps > 0:
        _drop_sleeps(turn, live)


def _drop_retry(turn: Turn, row: Invocation) -> None:
    if row.status is Status.BACKING_OFF:
        turn.drop_timer(row.next_retry_ms, timer_key.encode(TimerKind.RETRY, row.id, row.attempt))


def _drop_sleeps(turn: Turn, live: Live) -> None:
    for _, frame in turn.storage.scan(t.JOURNAL, live.id):
        if int.from_bytes(frame.raw[:2], "big") == MessageType.SLEEP:
            sleep = pb.SleepCommandMessage.FromString(frame.raw[HEADER_BYTES:])
            turn.drop_timer(sleep.wake_up_time, timer_key.encode(TimerKind.SLEEP, live.id, sleep.result_completion_id))
    live.sleeps = 0

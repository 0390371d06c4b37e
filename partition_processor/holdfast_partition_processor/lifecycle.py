"""The steps of an invocation's life: begin, wait for the object, run, suspend, fail, complete, be purged."""

from __future__ import annotations

from holdfast_partition_processor import tables as t
from holdfast_partition_processor import timer_key
from holdfast_partition_processor.action import AbortAttempt, InvocationCompleted, StartAttempt
from holdfast_partition_processor.command import Failure, HandlerType, InvocationResponse, Invoke, Kill, ResponseSink
from holdfast_partition_processor.invocation import Invocation, Status, Waiting
from holdfast_partition_processor.timer_key import TimerKind
from holdfast_partition_processor.turn import Live, Turn, completion
from holdfast_proto.framing import MessageType, encode_frame

CANCELLED = Failure(409, "cancelled")
KILLED = Failure(409, "killed")


def create(turn: Turn, command: Invoke) -> None:
    """A fresh invocation: its input is journal entry 0. It starts now, when its object is free, or at its time."""
    delayed = command.execute_at_ms > turn.now_ms
    row = Invocation(
        id=command.id,
        target=command.target,
        status=Status.SCHEDULED,
        created_ms=turn.now_ms,
        modified_ms=turn.now_ms,
        by=command.by,
        by_id=command.by_id,
        sinks=() if command.sink is None else (command.sink,),
        idempotency_key=command.idempotency_key,
        execute_at_ms=command.execute_at_ms,
        completion_retention_ms=command.completion_retention_ms,
        journal_retention_ms=command.journal_retention_ms,
        last_progress_ms=turn.now_ms,
    )
    live = Live(row)
    raw = encode_frame(MessageType.INPUT, command.input)
    live.append(turn, raw)
    live.commands = 1
    if delayed:
        live.save(turn)
        turn.set_timer(command.execute_at_ms, timer_key.encode(TimerKind.START, command.id))
    else:
        admit(turn, live, raw)


def admit(turn: Turn, live: Live, journal: bytes | None = None) -> None:
    """Run it, or let it wait until its virtual object is free."""
    target = live.row.target
    if target.type is not HandlerType.EXCLUSIVE:
        start_attempt(turn, live, journal)
        return
    group = t.object_group(target.service, target.key or "")
    holder = turn.storage.get(t.LOCKS, b"", group)
    if holder is None:
        turn.storage.put(t.LOCKS, b"", group, live.id)
        start_attempt(turn, live, journal)
        return
    sequence = turn.next_number(b"inbox")
    turn.storage.put(t.INBOX, group, sequence.to_bytes(8, "big"), live.id)
    live.save(turn, Status.INBOXED, inbox_sequence=sequence)


def start_attempt(turn: Turn, live: Live, journal: bytes | None = None) -> None:
    live.save(turn, Status.INVOKED, attempt=live.row.attempt + 1, waiting=None, next_retry_ms=0)
    turn.actions.append(StartAttempt(live.row, journal))


def suspend(turn: Turn, live: Live, waiting: Waiting) -> None:
    """Park it until one of what it waits for is in its journal; run it again at once when one is there already."""
    if any(turn.storage.get(t.COMPLETED_COMMANDS, live.id, key) is not None for key in waiting_keys(waiting)):
        start_attempt(turn, live)
    else:
        live.save(turn, Status.SUSPENDED, waiting=waiting)


def waiting_keys(waiting: Waiting) -> list[bytes]:
    keys = [number.to_bytes(4, "big") for number in waiting.completions]
    keys += [b"s" + number.to_bytes(4, "big") for number in waiting.signals]
    keys += [b"named" + name.encode() for name in waiting.named_signals]
    return keys


def settle(turn: Turn, live: Live) -> None:
    """After notifications were appended: store, and wake the invocation if that is what it waits for."""
    waiting = live.row.waiting
    if live.row.status is Status.SUSPENDED and waiting is not None:
        suspend_again = all(
            turn.storage.get(t.COMPLETED_COMMANDS, live.id, key) is None for key in waiting_keys(waiting)
        )
        if not suspend_again:
            start_attempt(turn, live)
            return
    live.save(turn)


def respond(turn: Turn, sink: ResponseSink, value: bytes | None, failure: Failure | None) -> None:
    body = completion(sink.completion_id, value, failure).SerializeToString()
    turn.send(InvocationResponse(sink, body))


def finish(turn: Turn, live: Live, value: bytes | None, failure: Failure | None) -> None:
    """The invocation has its result: tell everybody who waits, free the object, start the retention."""
    row = live.row
    if row.status is Status.INBOXED:
        group = t.object_group(row.target.service, row.target.key or "")
        turn.storage.delete(t.INBOX, group, row.inbox_sequence.to_bytes(8, "big"))
    turn.actions.append(InvocationCompleted(row.id, value, failure))
    for sink in row.sinks:
        respond(turn, sink, value, failure)
    held = row.status not in (Status.INBOXED, Status.SCHEDULED)
    kept = max(row.completion_retention_ms, row.journal_retention_ms)
    live.save(turn, Status.COMPLETED, completed_ms=turn.now_ms, failure=failure, sinks=(), waiting=None)
    if held and row.target.type is HandlerType.EXCLUSIVE:
        _free_object(turn, live)
    if kept == 0:
        purge(turn, live)
        return
    if value is not None:
        turn.storage.put(t.OUTPUT, b"", t.sortable_id(row.id), value)
    turn.set_timer(turn.now_ms + kept, timer_key.encode(TimerKind.PURGE, row.id))
    if row.journal_retention_ms < kept:
        if row.journal_retention_ms == 0:
            purge_journal(turn, live)
        else:
            due = turn.now_ms + row.journal_retention_ms
            turn.set_timer(due, timer_key.encode(TimerKind.PURGE_JOURNAL, row.id))


def _free_object(turn: Turn, live: Live) -> None:
    target = live.row.target
    group = t.object_group(target.service, target.key or "")
    first = next(iter(turn.storage.scan(t.INBOX, group, limit=1)), None)
    if first is None:
        turn.storage.delete(t.LOCKS, b"", group)
        return
    sequence, successor_id = first
    turn.storage.delete(t.INBOX, group, sequence)
    turn.storage.put(t.LOCKS, b"", group, successor_id)
    successor = turn.load(successor_id)
    assert successor is not None, "whoever is in an inbox has a row"
    start_attempt(turn, successor)


def kill(turn: Turn, live: Live) -> None:
    """End it now, without its code, and everything that it called."""
    turn.actions.append(AbortAttempt(live.id))
    for _, child in list(turn.storage.scan(t.CHILDREN, live.id)):
        turn.send(Kill(child))
    finish(turn, live, None, KILLED)


def purge_journal(turn: Turn, live: Live) -> None:
    for table in (t.JOURNAL, t.COMPLETED_COMMANDS, t.CHILDREN):
        turn.storage.delete_group(table, live.id)
    live.length = 0
    live.save(turn, journal_purged=True)


def purge(turn: Turn, live: Live) -> None:
    """Forget a completed invocation; with a workflow's run its state and promises go."""
    row = live.row
    for table in (t.JOURNAL, t.COMPLETED_COMMANDS, t.CHILDREN):
        turn.storage.delete_group(table, row.id)
    turn.storage.delete(t.OUTPUT, b"", t.sortable_id(row.id))
    turn.storage.delete(t.INVOCATIONS, b"", t.sortable_id(row.id))
    if row.target.type is HandlerType.WORKFLOW_RUN:
        group = t.object_group(row.target.service, row.target.key or "")
        turn.storage.delete_group(t.STATE, group)
        turn.storage.delete_group(t.PROMISES, group)

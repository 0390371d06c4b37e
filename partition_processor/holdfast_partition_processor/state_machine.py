"""`apply`: the one function that changes state, the same on every replica.

It is total: whatever a decodable batch holds, it ends with rows and actions, never with an exception. A command that
makes no sense any more (an old attempt's effects, a timer whose row is gone, a message that came before) is ignored.
"""

from __future__ import annotations

from google.protobuf.message import DecodeError
from msgspec.structs import replace

from holdfast_partition_processor import command as c
from holdfast_partition_processor import lifecycle, timer_key
from holdfast_partition_processor import tables as t
from holdfast_partition_processor.action import (
    Action,
    DeploymentsChanged,
    EffectsStored,
    InvocationCompleted,
    Outcome,
    Reply,
)
from holdfast_partition_processor.entries import EFFECTS, propose_run_completion
from holdfast_partition_processor.invocation import LastFailure, Status, Waiting
from holdfast_partition_processor.tables import Storage
from holdfast_partition_processor.timer_key import TimerKind
from holdfast_partition_processor.turn import Live, Turn, completion, failure_of
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import HEADER_BYTES, SIGNAL_CANCEL, MessageType, is_command
from holdfast_proto.identifiers import MalformedIdentifier

PROTOCOL_VIOLATION = 571
MALFORMED_RETRY_MS = 1_000
NOT_STARTED = (Status.SCHEDULED, Status.INBOXED)


class StateMachine:
    def __init__(self, storage: Storage, partition: int, partitions: int) -> None:
        self._storage = storage
        self._partition = partition
        self._partitions = partitions

    def apply(self, index: int, batch: c.Batch) -> list[Action]:
        """Apply all commands of one log entry. ``index`` is its place in the log."""
        turn = Turn(self._storage, self._partition, self._partitions, batch.now_ms)
        for command in batch.commands:
            self._apply_one(turn, command)
            while turn.queue:
                self._apply_one(turn, turn.queue.popleft())
        return turn.actions

    def _apply_one(self, turn: Turn, command: c.Command) -> None:
        match command:
            case c.Effects():
                _effects(turn, command)
            case c.Invoke():
                _invoke(turn, command)
            case c.InvocationResponse():
                _response(turn, command)
            case c.Ingest():
                _ingest(turn, command)
            case c.OutboxShipped():
                _outbox_shipped(turn, command)
            case c.TimerFired():
                _timer_fired(turn, command)
            case c.AttemptFailed():
                _attempt_failed(turn, command)
            case c.NotifySignal():
                _notify_signal(turn, command)
            case c.Cancel():
                _cancel(turn, command)
            case c.Kill():
                _kill(turn, command)
            case c.Purge():
                _purge(turn, command)
            case c.Attach():
                _attach(turn, command)
            case c.EditState():
                _edit_state(turn, command)
            case c.RegisterDeployment():
                deployment = command.deployment
                turn.storage.put(t.DEPLOYMENTS, b"", deployment.id.encode(), deployment)
                turn.actions.append(DeploymentsChanged())
                turn.reply(command.request, Reply(command.request, Outcome.DONE, deployment.id))
            case c.RemoveDeployment():
                known = turn.storage.get(t.DEPLOYMENTS, b"", command.id.encode()) is not None
                turn.storage.delete(t.DEPLOYMENTS, b"", command.id.encode())
                turn.actions.append(DeploymentsChanged())
                outcome = Outcome.DONE if known else Outcome.NOT_FOUND
                turn.reply(command.request, Reply(command.request, outcome))


def _invoke(turn: Turn, command: c.Invoke) -> None:
    live = turn.load(command.id)
    if live is None:
        lifecycle.create(turn, command)
        turn.reply(command.request, Reply(command.request, Outcome.ACCEPTED))
        return
    conflict = command.target.type is c.HandlerType.WORKFLOW_RUN
    outcome = Outcome.CONFLICT if conflict else Outcome.PREVIOUSLY_ACCEPTED
    turn.reply(command.request, Reply(command.request, outcome))
    if command.sink is not None and conflict:
        failure = c.Failure(409, "the workflow method was already invoked")
        lifecycle.respond(turn, command.sink, None, failure)
    elif command.sink is not None:
        _join(turn, live, command.sink)
    elif live.row.status is Status.COMPLETED and not conflict:
        turn.actions.append(InvocationCompleted(live.id, output_of(turn.storage, live), live.row.failure))


def output_of(storage: Storage, live: Live) -> bytes | None:
    if live.row.failure is not None:
        return None
    return storage.get(t.OUTPUT, b"", t.sortable_id(live.id))


def _join(turn: Turn, live: Live, sink: c.ResponseSink) -> None:
    """``sink`` gets the result too: now if it is there, else with the others."""
    if live.row.status is Status.COMPLETED:
        lifecycle.respond(turn, sink, output_of(turn.storage, live), live.row.failure)
    else:
        live.save(turn, sinks=(*live.row.sinks, sink))


def _attach(turn: Turn, command: c.Attach) -> None:
    live = turn.load(command.id)
    if live is None:
        failure = c.Failure(404, "invocation not found") if command.wait else None
        lifecycle.respond(turn, command.sink, None, failure)
    elif command.wait or live.row.status is Status.COMPLETED:
        _join(turn, live, command.sink)
    else:
        lifecycle.respond(turn, command.sink, None, None)


def _response(turn: Turn, command: c.InvocationResponse) -> None:
    live = turn.load(command.sink.caller)
    if live is None or live.row.status is Status.COMPLETED:
        return
    live.complete(turn, command.sink.notification, pb.Notification.FromString(command.notification))
    lifecycle.settle(turn, live)


def _effects(turn: Turn, command: c.Effects) -> None:
    live = turn.load(command.id)
    size = sum(len(frame.body) + HEADER_BYTES for frame in command.frames)
    turn.actions.append(EffectsStored(command.id, command.attempt, size))
    if live is None or live.row.status is not Status.INVOKED or live.row.attempt != command.attempt:
        return
    if command.deployment and not live.row.deployment:
        live.row = replace(live.row, deployment=command.deployment)
    try:
        for frame in command.frames:
            if _frame(turn, live, frame):
                return
    except (DecodeError, MalformedIdentifier, AssertionError) as error:
        failure = c.Failure(PROTOCOL_VIOLATION, f"the endpoint sent a frame that can't be applied: {error}")
        _back_off(turn, live, failure, turn.now_ms + MALFORMED_RETRY_MS, live.row.last_failure)
        return
    live.save(turn)


def _frame(turn: Turn, live: Live, frame: c.StoredFrame) -> bool:
    """True when the attempt is over with this frame."""
    code = frame.type
    if is_command(code):
        live.append_command(turn, code, frame.body)
        EFFECTS[code](turn, live, frame)
        return False
    if code == MessageType.PROPOSE_RUN_COMPLETION:
        propose_run_completion(turn, live, frame)
        return False
    if code == MessageType.SUSPENSION:
        message = pb.SuspensionMessage.FromString(frame.body)
        waiting = Waiting(
            tuple(message.waiting_completions), tuple(message.waiting_signals), tuple(message.waiting_named_signals)
        )
        lifecycle.suspend(turn, live, waiting)
        return True
    assert code == MessageType.END, f"message type 0x{code:04x}"
    _end(turn, live)
    return True


def _end(turn: Turn, live: Live) -> None:
    """The result is the last Output command; it stands near the end of the journal."""
    for number in range(live.length - 1, 0, -1):
        frame = turn.storage.get(t.JOURNAL, live.id, number.to_bytes(4, "big"))
        assert frame is not None, "a journal has no gaps"
        if int.from_bytes(frame.raw[:2], "big") == MessageType.OUTPUT:
            output = pb.OutputCommandMessage.FromString(frame.raw[HEADER_BYTES:])
            failed = output.WhichOneof("result") == "failure"
            failure = failure_of(output.failure) if failed else None
            lifecycle.finish(turn, live, None if failed else output.value.content, failure)
            return
    raise AssertionError("the endpoint ended the invocation without an output")


def _attempt_failed(turn: Turn, command: c.AttemptFailed) -> None:
    live = turn.load(command.id)
    if live is None or live.row.status is not Status.INVOKED or live.row.attempt != command.attempt:
        return
    if command.deployment and not live.row.deployment and live.commands > 1:
        live.row = replace(live.row, deployment=command.deployment)
    last = LastFailure(command.failure, turn.now_ms, command.related_index, command.related_name, command.related_type)
    match command.then:
        case c.Retry(at_ms=at_ms):
            _back_off(turn, live, command.failure, at_ms, last)
        case c.Pause():
            live.save(turn, Status.PAUSED, last_failure=last, retry_count=live.row.retry_count + 1)
        case c.GiveUp():
            live.row = replace(live.row, last_failure=last)
            lifecycle.finish(turn, live, None, command.failure)


def _back_off(turn: Turn, live: Live, failure: c.Failure, at_ms: int, last: LastFailure | None) -> None:
    shown = last if last is not None and last.failure == failure else LastFailure(failure, turn.now_ms)
    count = live.row.retry_count + 1
    live.save(turn, Status.BACKING_OFF, last_failure=shown, retry_count=count, next_retry_ms=at_ms)
    turn.set_timer(at_ms, timer_key.encode(TimerKind.RETRY, live.id, live.row.attempt))


def _timer_fired(turn: Turn, command: c.TimerFired) -> None:
    key = command.due_ms.to_bytes(8, "big") + command.timer
    if turn.storage.get(t.TIMERS, b"", key) is None:
        return
    turn.storage.delete(t.TIMERS, b"", key)
    kind, invocation_id, extra = timer_key.decode(command.timer)
    live = turn.load(invocation_id)
    if live is None:
        return
    status = live.row.status
    match kind:
        case TimerKind.SLEEP if status is not Status.COMPLETED:
            live.complete(turn, MessageType.SLEEP_COMPLETION, completion(extra, None, None))
            lifecycle.settle(turn, live)
        case TimerKind.START if status is Status.SCHEDULED:
            lifecycle.admit(turn, live)
        case TimerKind.RETRY if status is Status.BACKING_OFF and live.row.attempt == extra:
            lifecycle.start_attempt(turn, live)
        case TimerKind.PURGE if status is Status.COMPLETED:
            lifecycle.purge(turn, live)
        case TimerKind.PURGE_JOURNAL if status is Status.COMPLETED:
            lifecycle.purge_journal(turn, live)


def _ingest(turn: Turn, command: c.Ingest) -> None:
    source = command.source.to_bytes(2, "big")
    if command.sequence <= (turn.storage.get(t.DEDUP, b"", source) or 0):
        return
    turn.storage.put(t.DEDUP, b"", source, command.sequence)
    turn.queue.append(command.message)


def _outbox_shipped(turn: Turn, command: c.OutboxShipped) -> None:
    group = command.target.to_bytes(2, "big")
    for sub, _ in list(turn.storage.scan(t.OUTBOX, group)):
        if int.from_bytes(sub, "big") > command.sequence:
            break
        turn.storage.delete(t.OUTBOX, group, sub)


def _notify_signal(turn: Turn, command: c.NotifySignal) -> None:
    live = turn.load(command.id)
    if live is None or live.row.status in (*NOT_STARTED, Status.COMPLETED):
        outcome = Outcome.NOT_FOUND if live is None else Outcome.ALREADY_COMPLETED
        turn.reply(command.request, Reply(command.request, outcome))
        return
    notification = pb.Notification.FromString(command.notification)
    turn.reply(command.request, Reply(command.request, Outcome.APPENDED))
    if notification.WhichOneof("id") == "signal_id":
        key = b"s" + notification.signal_id.to_bytes(4, "big")
        if turn.storage.get(t.COMPLETED_COMMANDS, live.id, key) is not None:
            return  # an awakeable is completed once
    live.signal(turn, notification)
    lifecycle.settle(turn, live)


def _cancel(turn: Turn, command: c.Cancel) -> None:
    live = turn.load(command.id)
    if live is None or live.row.status is Status.COMPLETED:
        outcome = Outcome.NOT_FOUND if live is None else Outcome.ALREADY_COMPLETED
        turn.reply(command.request, Reply(command.request, outcome))
        return
    if live.row.status in NOT_STARTED:
        lifecycle.finish(turn, live, None, lifecycle.CANCELLED)
        turn.reply(command.request, Reply(command.request, Outcome.DONE))
        return
    turn.reply(command.request, Reply(command.request, Outcome.APPENDED))
    live.signal(turn, pb.Notification(signal_id=SIGNAL_CANCEL, void=pb.Void()))
    if live.row.status in (Status.BACKING_OFF, Status.PAUSED):
        lifecycle.start_attempt(turn, live)
    else:
        lifecycle.settle(turn, live)


def _kill(turn: Turn, command: c.Kill) -> None:
    live = turn.load(command.id)
    if live is None or live.row.status is Status.COMPLETED:
        outcome = Outcome.NOT_FOUND if live is None else Outcome.ALREADY_COMPLETED
        turn.reply(command.request, Reply(command.request, outcome))
        return
    lifecycle.kill(turn, live)
    turn.reply(command.request, Reply(command.request, Outcome.DONE))


def _purge(turn: Turn, command: c.Purge) -> None:
    live = turn.load(command.id)
    if live is None or live.row.status is not Status.COMPLETED:
        outcome = Outcome.NOT_FOUND if live is None else Outcome.NOT_COMPLETED
        turn.reply(command.request, Reply(command.request, outcome))
        return
    lifecycle.purge(turn, live)
    turn.reply(command.request, Reply(command.request, Outcome.DONE))


def _edit_state(turn: Turn, command: c.EditState) -> None:
    group = t.object_group(command.service, command.key)
    if command.replace:
        turn.storage.delete_group(t.STATE, group)
    for name in command.clear:
        turn.storage.delete(t.STATE, group, name)
    for name, value in command.set:
        turn.storage.put(t.STATE, group, name, value)
    turn.reply(command.request, Reply(command.request, Outcome.DONE))

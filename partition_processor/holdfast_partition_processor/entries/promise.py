"""Durable promises of a workflow key: completed once, awaited by any of its handlers."""

from __future__ import annotations

from holdfast_partition_processor import tables as t
from holdfast_partition_processor.command import Failure, ResponseSink, StoredFrame
from holdfast_partition_processor.entries.state import group_of
from holdfast_partition_processor.lifecycle import respond
from holdfast_partition_processor.tables import Promise
from holdfast_partition_processor.turn import Live, Turn, completion, failure_of
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import MessageType

ALREADY_COMPLETED = Failure(409, "the promise was already completed")


def _done(promise: Promise | None) -> bool:
    return promise is not None and (promise.value is not None or promise.failure is not None)


def get(turn: Turn, live: Live, frame: StoredFrame) -> None:
    command = pb.GetPromiseCommandMessage.FromString(frame.body)
    name = command.key.encode()
    promise = turn.storage.get(t.PROMISES, group_of(live), name) or Promise()
    code = MessageType.GET_PROMISE_COMPLETION
    if _done(promise):
        live.complete(turn, code, completion(command.result_completion_id, promise.value, promise.failure))
        return
    waiting = (*promise.waiting, ResponseSink(live.id, command.result_completion_id, code))
    turn.storage.put(t.PROMISES, group_of(live), name, Promise(waiting=waiting))


def peek(turn: Turn, live: Live, frame: StoredFrame) -> None:
    command = pb.PeekPromiseCommandMessage.FromString(frame.body)
    promise = turn.storage.get(t.PROMISES, group_of(live), command.key.encode()) or Promise()
    found = completion(command.result_completion_id, promise.value, promise.failure)
    live.complete(turn, MessageType.PEEK_PROMISE_COMPLETION, found)


def complete(turn: Turn, live: Live, frame: StoredFrame) -> None:
    command = pb.CompletePromiseCommandMessage.FromString(frame.body)
    name = command.key.encode()
    promise = turn.storage.get(t.PROMISES, group_of(live), name)
    code = MessageType.COMPLETE_PROMISE_COMPLETION
    if promise is not None and _done(promise):
        live.complete(turn, code, completion(command.result_completion_id, None, ALREADY_COMPLETED))
        return
    failed = command.WhichOneof("completion") == "completion_failure"
    failure = failure_of(command.completion_failure) if failed else None
    value = None if failed else command.completion_value.content
    turn.storage.put(t.PROMISES, group_of(live), name, Promise(value, failure))
    for sink in promise.waiting if promise else ():
        respond(turn, sink, value, failure)
    live.complete(turn, code, completion(command.result_completion_id, None, None))

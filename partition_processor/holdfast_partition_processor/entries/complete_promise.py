"""CompletePromise: once; whoever waits gets the result, a second completion gets a failure."""

from __future__ import annotations

from holdfast_partition_processor.command import Failure, StoredFrame
from holdfast_partition_processor.entries import promise_row
from holdfast_partition_processor.frame_body import InvalidFrame, decode
from holdfast_partition_processor.live import Live
from holdfast_partition_processor.notification import completion, failure_of
from holdfast_partition_processor.tables import Promise
from holdfast_partition_processor.turn import Turn
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import MessageType

ALREADY_COMPLETED = Failure(409, "the promise was already completed")


def parse(body: bytes) -> pb.CompletePromiseCommandMessage:
    """Raises InvalidFrame."""
    message = decode(pb.CompletePromiseCommandMessage, "CompletePromise", body)
    promise_row.check_name("CompletePromise", message.key)
    if message.WhichOneof("completion") is None:
        raise InvalidFrame("CompletePromise: neither value nor failure is set")
    return message


def apply(turn: Turn, live: Live, frame: StoredFrame) -> None:
    command = parse(frame.body)
    live.append_command(turn, MessageType.COMPLETE_PROMISE, frame.body)
    number = command.result_completion_id
    promise = promise_row.read(turn, live, command.key)
    refused: Failure | None = ALREADY_COMPLETED
    if not promise_row.is_completed(promise):
        refused = None
        completed = _completed(command)
        promise_row.write(turn, live, command.key, completed)
        for sink in promise.waiting:
            turn.respond(sink, completed.value, completed.failure)
    live.complete(turn, MessageType.COMPLETE_PROMISE_COMPLETION, number, completion(number, None, refused))


def _completed(command: pb.CompletePromiseCommandMessage) -> Promise:
    if command.WhichOneof("completion") == "completion_failure":
        return Promise(failure=failure_of(command.completion_failure))
    return Promise(value=command.completion_value.content)

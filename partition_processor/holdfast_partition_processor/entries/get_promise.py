"""GetPromise: wait until a promise of this workflow key is completed."""

from __future__ import annotations

from holdfast_partition_processor.command import ResponseSink, StoredFrame
from holdfast_partition_processor.entries import promise_row
from holdfast_partition_processor.frame_body import decode
from holdfast_partition_processor.live import Live
from holdfast_partition_processor.notification import completion
from holdfast_partition_processor.tables import Promise
from holdfast_partition_processor.turn import Turn
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import MessageType


def parse(body: bytes) -> pb.GetPromiseCommandMessage:
    """Raises InvalidFrame."""
    message = decode(pb.GetPromiseCommandMessage, "GetPromise", body)
    promise_row.check_name("GetPromise", message.key)
    return message


def apply(turn: Turn, live: Live, frame: StoredFrame) -> None:
    command = parse(frame.body)
    live.append_command(turn, MessageType.GET_PROMISE, frame.body)
    number, code = command.result_completion_id, MessageType.GET_PROMISE_COMPLETION
    promise = promise_row.read(turn, live, command.key)
    if promise_row.is_completed(promise):
        live.complete(turn, code, number, completion(number, promise.value, promise.failure))
        return
    sink = ResponseSink(live.id, number, code, live.row.incarnation)
    promise_row.write(turn, live, command.key, Promise(waiting=(*promise.waiting, sink)))

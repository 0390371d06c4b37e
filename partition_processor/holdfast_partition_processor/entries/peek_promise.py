"""PeekPromise: the promise's result if it has one, void while it is pending."""

from __future__ import annotations

from holdfast_partition_processor.command import StoredFrame
from holdfast_partition_processor.entries import promise_row
from holdfast_partition_processor.frame_body import decode
from holdfast_partition_processor.live import Live
from holdfast_partition_processor.notification import completion
from holdfast_partition_processor.turn import Turn
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import MessageType


def parse(body: bytes) -> pb.PeekPromiseCommandMessage:
    """Raises InvalidFrame."""
    message = decode(pb.PeekPromiseCommandMessage, "PeekPromise", body)
    promise_row.check_name("PeekPromise", message.key)
    return message


def apply(turn: Turn, live: Live, frame: StoredFrame) -> None:
    command = parse(frame.body)
    live.append_command(turn, MessageType.PEEK_PROMISE, frame.body)
    number = command.result_completion_id
    promise = promise_row.read(turn, live, command.key)
    found = completion(number, promise.value, promise.failure)
    live.complete(turn, MessageType.PEEK_PROMISE_COMPLETION, number, found)

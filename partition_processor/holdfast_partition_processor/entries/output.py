"""Output: the handler's result. It counts once the attempt ends with End; until then a later Output replaces it."""

from __future__ import annotations

from holdfast_partition_processor.command import Failure, StoredFrame
from holdfast_partition_processor.frame_body import InvalidFrame, decode
from holdfast_partition_processor.live import Live
from holdfast_partition_processor.notification import failure_of
from holdfast_partition_processor.turn import Turn
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import MessageType


def parse(body: bytes) -> pb.OutputCommandMessage:
    """Raises InvalidFrame."""
    message = decode(pb.OutputCommandMessage, "Output", body)
    if message.WhichOneof("result") is None:
        raise InvalidFrame("Output: neither value nor failure is set")
    return message


def apply(turn: Turn, live: Live, frame: StoredFrame) -> None:
    live.output = parse(frame.body)
    live.output_index = live.length
    live.append_command(turn, MessageType.OUTPUT, frame.body)


def result_of(message: pb.OutputCommandMessage) -> tuple[bytes | None, Failure | None]:
    """Value or failure, the other is None."""
    if message.WhichOneof("result") == "failure":
        return None, failure_of(message.failure)
    return message.value.content, None

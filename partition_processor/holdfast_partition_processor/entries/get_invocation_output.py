"""GetInvocationOutput: the result of an invocation if it is there, void otherwise."""

from __future__ import annotations

from holdfast_partition_processor.command import Attach, ResponseSink, StoredFrame
from holdfast_partition_processor.entries import attach_target
from holdfast_partition_processor.frame_body import decode
from holdfast_partition_processor.live import Live
from holdfast_partition_processor.turn import Turn
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import MessageType


def parse(body: bytes) -> pb.GetInvocationOutputCommandMessage:
    """Raises InvalidFrame."""
    message = decode(pb.GetInvocationOutputCommandMessage, "GetInvocationOutput", body)
    attach_target.resolve("GetInvocationOutput", message)
    return message


def apply(turn: Turn, live: Live, frame: StoredFrame) -> None:
    command = parse(frame.body)
    target = attach_target.resolve("GetInvocationOutput", command)
    live.append_command(turn, MessageType.GET_INVOCATION_OUTPUT, frame.body)
    sink = ResponseSink(
        live.id, command.result_completion_id, MessageType.GET_INVOCATION_OUTPUT_COMPLETION, live.row.incarnation
    )
    turn.send(Attach(target, sink, wait=False))

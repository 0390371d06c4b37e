"""AttachInvocation: wait for the result of an invocation that somebody else began."""

from __future__ import annotations

from holdfast_partition_processor.command import Attach, ResponseSink, StoredFrame
from holdfast_partition_processor.entries import attach_target
from holdfast_partition_processor.frame_body import decode
from holdfast_partition_processor.live import Live
from holdfast_partition_processor.turn import Turn
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import MessageType


def parse(body: bytes) -> pb.AttachInvocationCommandMessage:
    """Raises InvalidFrame."""
    message = decode(pb.AttachInvocationCommandMessage, "AttachInvocation", body)
    attach_target.resolve("AttachInvocation", message)
    return message


def apply(turn: Turn, live: Live, frame: StoredFrame) -> None:
    command = parse(frame.body)
    target = attach_target.resolve("AttachInvocation", command)
    live.append_command(turn, MessageType.ATTACH_INVOCATION, frame.body)
    sink = ResponseSink(
        live.id, command.result_completion_id, MessageType.ATTACH_INVOCATION_COMPLETION, live.row.incarnation
    )
    turn.send(Attach(target, sink, wait=True))

"""Call: another handler runs, and its result completes the command."""

from __future__ import annotations

from holdfast_partition_processor.command import ResponseSink, StoredFrame
from holdfast_partition_processor.entries import callee
from holdfast_partition_processor.frame_body import decode
from holdfast_partition_processor.live import Live
from holdfast_partition_processor.turn import Turn
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import MessageType


def parse(body: bytes) -> pb.CallCommandMessage:
    """Raises InvalidFrame."""
    message = decode(pb.CallCommandMessage, "Call", body)
    callee.check("Call", message)
    return message


def apply(turn: Turn, live: Live, frame: StoredFrame) -> None:
    command = parse(frame.body)
    resolved = callee.resolved_of("Call", turn, live, frame, command)
    live.append_command(turn, MessageType.CALL, frame.body)
    sink = ResponseSink(live.id, command.result_completion_id, MessageType.CALL_COMPLETION, live.row.incarnation)
    callee.invoke(turn, live, command, resolved, sink, execute_at_ms=0)

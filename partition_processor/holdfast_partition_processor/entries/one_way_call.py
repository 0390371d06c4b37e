"""OneWayCall: another handler runs, at once or later, and nobody waits for its result."""

from __future__ import annotations

from holdfast_partition_processor.command import StoredFrame
from holdfast_partition_processor.entries import callee
from holdfast_partition_processor.frame_body import decode
from holdfast_partition_processor.live import Live
from holdfast_partition_processor.turn import Turn
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import MessageType


def parse(body: bytes) -> pb.OneWayCallCommandMessage:
    """Raises InvalidFrame."""
    message = decode(pb.OneWayCallCommandMessage, "OneWayCall", body)
    callee.check("OneWayCall", message)
    return message


def apply(turn: Turn, live: Live, frame: StoredFrame) -> None:
    command = parse(frame.body)
    resolved = callee.resolved_of("OneWayCall", turn, live, frame, command)
    live.append_command(turn, MessageType.ONE_WAY_CALL, frame.body)
    callee.invoke(turn, live, command, resolved, sink=None, execute_at_ms=command.invoke_time)

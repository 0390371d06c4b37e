"""ClearState: one value of the object goes."""

from __future__ import annotations

from holdfast_partition_processor import tables as t
from holdfast_partition_processor.command import StoredFrame
from holdfast_partition_processor.entries import state_key
from holdfast_partition_processor.frame_body import decode
from holdfast_partition_processor.live import Live
from holdfast_partition_processor.turn import Turn
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import MessageType


def parse(body: bytes) -> pb.ClearStateCommandMessage:
    """Raises InvalidFrame."""
    message = decode(pb.ClearStateCommandMessage, "ClearState", body)
    state_key.check("ClearState", message.key)
    return message


def apply(turn: Turn, live: Live, frame: StoredFrame) -> None:
    command = parse(frame.body)
    live.append_command(turn, MessageType.CLEAR_STATE, frame.body)
    turn.storage.delete(t.STATE, live.object, command.key)

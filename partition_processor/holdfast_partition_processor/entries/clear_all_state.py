"""ClearAllState: all values of the object go."""

from __future__ import annotations

from holdfast_partition_processor import tables as t
from holdfast_partition_processor.command import StoredFrame
from holdfast_partition_processor.frame_body import decode
from holdfast_partition_processor.live import Live
from holdfast_partition_processor.turn import Turn
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import MessageType


def parse(body: bytes) -> pb.ClearAllStateCommandMessage:
    """Raises InvalidFrame."""
    return decode(pb.ClearAllStateCommandMessage, "ClearAllState", body)


def apply(turn: Turn, live: Live, frame: StoredFrame) -> None:
    parse(frame.body)
    live.append_command(turn, MessageType.CLEAR_ALL_STATE, frame.body)
    turn.storage.delete_group(t.STATE, live.object)

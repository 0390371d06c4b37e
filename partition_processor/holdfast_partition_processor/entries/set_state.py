"""SetState: in force as soon as it is in the journal; a later failure of the handler does not undo it."""

from __future__ import annotations

from holdfast_partition_processor import tables as t
from holdfast_partition_processor.command import StoredFrame
from holdfast_partition_processor.entries import state_key
from holdfast_partition_processor.frame_body import decode
from holdfast_partition_processor.live import Live
from holdfast_partition_processor.turn import Turn
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import MessageType


def parse(body: bytes) -> pb.SetStateCommandMessage:
    """Raises InvalidFrame."""
    message = decode(pb.SetStateCommandMessage, "SetState", body)
    state_key.check("SetState", message.key)
    return message


def apply(turn: Turn, live: Live, frame: StoredFrame) -> None:
    command = parse(frame.body)
    live.append_command(turn, MessageType.SET_STATE, frame.body)
    turn.storage.put(t.STATE, live.object, command.key, command.value.content)

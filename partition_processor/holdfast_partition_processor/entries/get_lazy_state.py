"""GetLazyState: one value of the object, as it is when the command is applied."""

from __future__ import annotations

from holdfast_partition_processor import tables as t
from holdfast_partition_processor.command import StoredFrame
from holdfast_partition_processor.entries import state_key
from holdfast_partition_processor.frame_body import decode
from holdfast_partition_processor.live import Live
from holdfast_partition_processor.notification import completion
from holdfast_partition_processor.turn import Turn
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import MessageType


def parse(body: bytes) -> pb.GetLazyStateCommandMessage:
    """Raises InvalidFrame."""
    message = decode(pb.GetLazyStateCommandMessage, "GetLazyState", body)
    state_key.check("GetLazyState", message.key)
    return message


def apply(turn: Turn, live: Live, frame: StoredFrame) -> None:
    command = parse(frame.body)
    live.append_command(turn, MessageType.GET_LAZY_STATE, frame.body)
    number = command.result_completion_id
    value = turn.storage.get(t.STATE, live.object, command.key)
    live.complete(turn, MessageType.GET_LAZY_STATE_COMPLETION, number, completion(number, value, None))

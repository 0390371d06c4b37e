"""GetLazyStateKeys: the names of the object's values, in order."""

from __future__ import annotations

from holdfast_partition_processor import tables as t
from holdfast_partition_processor.command import StoredFrame
from holdfast_partition_processor.frame_body import decode
from holdfast_partition_processor.live import Live
from holdfast_partition_processor.turn import Turn
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import MessageType


def parse(body: bytes) -> pb.GetLazyStateKeysCommandMessage:
    """Raises InvalidFrame."""
    return decode(pb.GetLazyStateKeysCommandMessage, "GetLazyStateKeys", body)


def apply(turn: Turn, live: Live, frame: StoredFrame) -> None:
    command = parse(frame.body)
    live.append_command(turn, MessageType.GET_LAZY_STATE_KEYS, frame.body)
    number = command.result_completion_id
    names = pb.StateKeys(keys=[name for name, _ in turn.storage.scan(t.STATE, live.object)])
    found = pb.Notification(completion_id=number, state_keys=names).SerializeToString()
    live.complete(turn, MessageType.GET_LAZY_STATE_KEYS_COMPLETION, number, found)

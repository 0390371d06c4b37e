"""GetEagerState: the endpoint read a value that came with the start of the attempt; kept for replay."""

from __future__ import annotations

from holdfast_partition_processor.command import StoredFrame
from holdfast_partition_processor.entries import state_key
from holdfast_partition_processor.frame_body import decode
from holdfast_partition_processor.live import Live
from holdfast_partition_processor.turn import Turn
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import MessageType


def parse(body: bytes) -> pb.GetEagerStateCommandMessage:
    """Raises InvalidFrame."""
    message = decode(pb.GetEagerStateCommandMessage, "GetEagerState", body)
    state_key.check("GetEagerState", message.key)
    return message


def apply(turn: Turn, live: Live, frame: StoredFrame) -> None:
    parse(frame.body)
    live.append_command(turn, MessageType.GET_EAGER_STATE, frame.body)

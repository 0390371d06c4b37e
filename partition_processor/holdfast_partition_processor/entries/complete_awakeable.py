"""CompleteAwakeable: a signal, numbered from 17, to the invocation that is in the awakeable's id."""

from __future__ import annotations

from holdfast_partition_processor.command import NotifySignal, StoredFrame
from holdfast_partition_processor.entries.identifier import awakeable_id
from holdfast_partition_processor.frame_body import InvalidFrame, decode
from holdfast_partition_processor.live import Live
from holdfast_partition_processor.turn import Turn
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import MessageType


def parse(body: bytes) -> pb.CompleteAwakeableCommandMessage:
    """Raises InvalidFrame."""
    message = decode(pb.CompleteAwakeableCommandMessage, "CompleteAwakeable", body)
    if message.WhichOneof("result") is None:
        raise InvalidFrame("CompleteAwakeable: neither value nor failure is set")
    awakeable_id("CompleteAwakeable", message.awakeable_id)
    return message


def apply(turn: Turn, live: Live, frame: StoredFrame) -> None:
    command = parse(frame.body)
    target, signal = awakeable_id("CompleteAwakeable", command.awakeable_id)
    live.append_command(turn, MessageType.COMPLETE_AWAKEABLE, frame.body)
    if command.WhichOneof("result") == "failure":
        notification = pb.Notification(signal_id=signal, failure=command.failure)
    else:
        notification = pb.Notification(signal_id=signal, value=command.value)
    turn.send(NotifySignal(target, notification.SerializeToString()))

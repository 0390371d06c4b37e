"""Signals to other invocations; signal 1 cancels."""

from __future__ import annotations

from holdfast_partition_processor.command import Cancel, NotifySignal, StoredFrame
from holdfast_partition_processor.turn import Live, Turn
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import SIGNAL_CANCEL
from holdfast_proto.identifiers import decode_invocation_id


def send(turn: Turn, live: Live, frame: StoredFrame) -> None:
    command = pb.SendSignalCommandMessage.FromString(frame.body)
    target = decode_invocation_id(command.target_invocation_id)
    if command.WhichOneof("signal_id") == "idx" and command.idx == SIGNAL_CANCEL:
        turn.send(Cancel(target))
        return
    notification = pb.Notification()
    if command.WhichOneof("signal_id") == "name":
        notification.signal_name = command.name
    else:
        notification.signal_id = command.idx
    match command.WhichOneof("result"):
        case "value":
            notification.value.CopyFrom(command.value)
        case "failure":
            notification.failure.CopyFrom(command.failure)
        case _:
            notification.void.SetInParent()
    turn.send(NotifySignal(target, notification.SerializeToString()))

"""Completing an awakeable: a signal, numbered from 17, to the invocation that is in its id."""

from __future__ import annotations

from holdfast_partition_processor.command import NotifySignal, StoredFrame
from holdfast_partition_processor.turn import Live, Turn
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.identifiers import decode_awakeable_id


def complete(turn: Turn, live: Live, frame: StoredFrame) -> None:
    command = pb.CompleteAwakeableCommandMessage.FromString(frame.body)
    target, index = decode_awakeable_id(command.awakeable_id)
    notification = pb.Notification(signal_id=index)
    if command.WhichOneof("result") == "failure":
        notification.failure.CopyFrom(command.failure)
    else:
        notification.value.CopyFrom(command.value)
    turn.send(NotifySignal(target, notification.SerializeToString()))

"""SendSignal: a signal to another invocation, by number or name; signal 1 cancels it."""

from __future__ import annotations

from holdfast_partition_processor.command import Cancel, NotifySignal, StoredFrame
from holdfast_partition_processor.entries.identifier import invocation_id
from holdfast_partition_processor.frame_body import InvalidFrame, check_length, decode
from holdfast_partition_processor.live import Live
from holdfast_partition_processor.turn import Turn
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import SIGNAL_CANCEL, MessageType

SIGNAL_NAME_BYTES_MAX = 1_024


def parse(body: bytes) -> pb.SendSignalCommandMessage:
    """Raises InvalidFrame."""
    message = decode(pb.SendSignalCommandMessage, "SendSignal", body)
    if message.WhichOneof("signal_id") is None:
        raise InvalidFrame("SendSignal: neither number nor name of the signal is set")
    if message.WhichOneof("signal_id") == "name":
        check_length("SendSignal", "the signal's name", len(message.name.encode()), SIGNAL_NAME_BYTES_MAX)
    invocation_id("SendSignal", message.target_invocation_id)
    return message


def apply(turn: Turn, live: Live, frame: StoredFrame) -> None:
    command = parse(frame.body)
    target = invocation_id("SendSignal", command.target_invocation_id)
    live.append_command(turn, MessageType.SEND_SIGNAL, frame.body)
    if command.WhichOneof("signal_id") == "idx" and command.idx == SIGNAL_CANCEL:
        turn.send(Cancel(target))
    else:
        turn.send(NotifySignal(target, _notification(command).SerializeToString()))


def _notification(command: pb.SendSignalCommandMessage) -> pb.Notification:
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
    return notification

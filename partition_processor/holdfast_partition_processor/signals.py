"""Signals: what others tell an invocation that runs. By number (1 cancels, from 17 on awakeables) or by name.

Those to an invocation that has not started are dropped, save the cancellation, which ends it at once.
"""

from __future__ import annotations

from google.protobuf.message import DecodeError

from holdfast_partition_processor import command as c
from holdfast_partition_processor import lifecycle
from holdfast_partition_processor import tables as t
from holdfast_partition_processor.action import Outcome
from holdfast_partition_processor.invocation import Status
from holdfast_partition_processor.live import Live, load
from holdfast_partition_processor.notification import named_signal_key, signal_key
from holdfast_partition_processor.turn import Turn
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import SIGNAL_CANCEL, SIGNAL_FIRST_AWAKEABLE, MessageType

_CANCEL = pb.Notification(signal_id=SIGNAL_CANCEL, void=pb.Void()).SerializeToString()


def apply_notify(turn: Turn, command: c.NotifySignal) -> None:
    try:
        notification = pb.Notification.FromString(command.notification)
    except DecodeError as error:
        turn.reply(command.request, Outcome.INVALID, f"the signal can't be decoded: {error}")
        return
    match notification.WhichOneof("id"):
        case "signal_id" if notification.signal_id == SIGNAL_CANCEL:
            apply_cancel(turn, c.Cancel(command.id, command.request))
        case "signal_id":
            index = notification.signal_id
            _notify(turn, command, signal_key(index), only_once=index >= SIGNAL_FIRST_AWAKEABLE)
        case "signal_name":
            _notify(turn, command, named_signal_key(notification.signal_name), only_once=False)
        case _:
            turn.reply(command.request, Outcome.INVALID, "the signal has neither number nor name")


def _notify(turn: Turn, command: c.NotifySignal, key: bytes, only_once: bool) -> None:
    live = _recipient(turn, command)
    if live is None:
        return
    if live.row.status in lifecycle.NOT_STARTED:
        turn.reply(command.request, Outcome.NOT_FOUND, "the invocation has not started")
        return
    turn.reply(command.request, Outcome.APPENDED)
    if only_once and turn.storage.get(t.COMPLETED_COMMANDS, live.id, key) is not None:
        return  # whoever completes an awakeable may do so twice, for want of an answer; the first counts
    live.notify(turn, key, MessageType.SIGNAL, command.notification)
    lifecycle.settle(turn, live)


def apply_cancel(turn: Turn, command: c.Cancel) -> None:
    live = _recipient(turn, command)
    if live is None:
        return
    if live.row.status in lifecycle.NOT_STARTED:
        lifecycle.finish(turn, live, None, lifecycle.CANCELLED)
        turn.reply(command.request, Outcome.DONE)
        return
    turn.reply(command.request, Outcome.APPENDED)
    live.notify(turn, signal_key(SIGNAL_CANCEL), MessageType.SIGNAL, _CANCEL)
    if live.row.status in (Status.BACKING_OFF, Status.PAUSED):
        lifecycle.retry_now(turn, live)
    else:
        lifecycle.settle(turn, live)


def _recipient(turn: Turn, command: c.NotifySignal | c.Cancel) -> Live | None:
    """None when it is gone or done, which is then replied."""
    live = load(turn, command.id)
    if live is None:
        turn.reply(command.request, Outcome.NOT_FOUND)
    elif live.row.status is Status.COMPLETED:
        turn.reply(command.request, Outcome.ALREADY_COMPLETED)
        return None
    return live

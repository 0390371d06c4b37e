"""Sleep: a timer that outlives every process; its completion comes when the wall clock reaches it."""

from __future__ import annotations

from holdfast_partition_processor import timer_key
from holdfast_partition_processor.command import StoredFrame
from holdfast_partition_processor.frame_body import decode
from holdfast_partition_processor.live import Live
from holdfast_partition_processor.notification import completion
from holdfast_partition_processor.timer_key import TimerKind
from holdfast_partition_processor.turn import Turn
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import MessageType


def parse(body: bytes) -> pb.SleepCommandMessage:
    """Raises InvalidFrame."""
    return decode(pb.SleepCommandMessage, "Sleep", body)


def apply(turn: Turn, live: Live, frame: StoredFrame) -> None:
    command = parse(frame.body)
    live.append_command(turn, MessageType.SLEEP, frame.body)
    number = command.result_completion_id
    if command.wake_up_time <= turn.now_ms:
        live.complete(turn, MessageType.SLEEP_COMPLETION, number, completion(number, None, None))
        return
    live.sleeps += 1
    turn.set_timer(command.wake_up_time, timer_key.encode(TimerKind.SLEEP, live.id, number))

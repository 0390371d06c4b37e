"""A durable timer."""

from __future__ import annotations

from holdfast_partition_processor import timer_key
from holdfast_partition_processor.command import StoredFrame
from holdfast_partition_processor.timer_key import TimerKind
from holdfast_partition_processor.turn import Live, Turn
from holdfast_proto import protocol_pb2 as pb


def sleep(turn: Turn, live: Live, frame: StoredFrame) -> None:
    command = pb.SleepCommandMessage.FromString(frame.body)
    timer = timer_key.encode(TimerKind.SLEEP, live.id, command.result_completion_id)
    turn.set_timer(command.wake_up_time, timer)

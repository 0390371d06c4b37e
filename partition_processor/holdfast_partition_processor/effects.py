"""What an attempt sent, and how it ended.

Only the current attempt of the current incarnation counts: whatever an aborted attempt or an earlier leader's endpoint
still sends finds another number in the row.
"""

from __future__ import annotations

from msgspec.structs import replace

from holdfast_partition_processor import command as c
from holdfast_partition_processor import lifecycle, suspension
from holdfast_partition_processor import tables as t
from holdfast_partition_processor.action import AbortAttempt, EffectsStored
from holdfast_partition_processor.entries import ENTRIES, output, run
from holdfast_partition_processor.frame_body import InvalidFrame
from holdfast_partition_processor.invocation import LastFailure, Status
from holdfast_partition_processor.live import Live, load
from holdfast_partition_processor.turn import Turn
from holdfast_proto.framing import HEADER_BYTES, MessageType

PROTOCOL_VIOLATION = 571
REFUSED_RETRY_MS = 1_000
REFUSED_RETRY_MS_MAX = 60_000
"""Apply can't ask the service's retry policy. It is asked for all that the leader finds wrong, which is nearly all."""


def apply_effects(turn: Turn, command: c.Effects) -> None:
    size = 0
    for frame in command.frames:
        size += HEADER_BYTES + len(frame.body)
    turn.actions.append(EffectsStored(command.id, command.attempt, size))
    live = _current(turn, command)
    if live is None:
        return
    try:
        for frame in command.frames:
            if _apply_frame(turn, live, frame):
                return
    except InvalidFrame as error:
        _refuse(turn, live, str(error))
        return
    live.save(turn, Status.INVOKED)


def _current(turn: Turn, command: c.Effects | c.AttemptFailed) -> Live | None:
    live = load(turn, command.id)
    if live is None:
        return None
    row = live.row
    if row.status is not Status.INVOKED or row.attempt != command.attempt:
        return None
    if command.incarnation and command.incarnation != row.incarnation:
        return None
    if command.deployment and not row.deployment:
        live.deployment = command.deployment
    return live


def _apply_frame(turn: Turn, live: Live, frame: c.StoredFrame) -> bool:
    """True when the attempt is over with this frame. Raises InvalidFrame, and then nothing of the frame is stored."""
    entry = ENTRIES.get(frame.type)
    if entry is not None:
        if live.row.target.type not in entry.handlers:
            raise InvalidFrame(f"{MessageType(frame.type).name}: {entry.refusal}")
        entry.apply(turn, live, frame)
        return False
    match frame.type:
        case MessageType.PROPOSE_RUN_COMPLETION:
            run.apply_proposal(turn, live, frame)
            return False
        case MessageType.SUSPENSION:
            lifecycle.suspend(turn, live, suspension.waiting_of(suspension.parse(frame.body)))
            return True
        case MessageType.END:
            _end(turn, live)
            return True
        case _:
            raise InvalidFrame(f"message type 0x{frame.type:04x} is not one that an endpoint may send")


def _end(turn: Turn, live: Live) -> None:
    """The result is the last Output, which came with this End or in an earlier record."""
    message = live.output
    if message is None:
        if live.output_index == 0:
            raise InvalidFrame("End: there was no Output before it")
        stored = turn.storage.get(t.JOURNAL, live.id, live.output_index.to_bytes(4, "big"))
        assert stored is not None, "a journal has no gaps"
        message = output.parse(stored.raw[HEADER_BYTES:])
    value, failure = output.result_of(message)
    lifecycle.finish(turn, live, value, failure)


def _refuse(turn: Turn, live: Live, problem: str) -> None:
    """A frame that can't be applied came through all the same. What came before it counts; the attempt fails."""
    failure = c.Failure(PROTOCOL_VIOLATION, f"the endpoint sent a frame that can't be applied: {problem}")
    delay_ms = min(REFUSED_RETRY_MS << min(live.retry_count, 16), REFUSED_RETRY_MS_MAX)
    turn.actions.append(AbortAttempt(live.id))
    lifecycle.back_off(turn, live, LastFailure(failure, turn.now_ms), turn.now_ms + delay_ms)


def apply_attempt_failed(turn: Turn, command: c.AttemptFailed) -> None:
    live = _current(turn, command)
    if live is None:
        return
    last = LastFailure(command.failure, turn.now_ms, command.related_index, command.related_name, command.related_type)
    match command.then:
        case c.Retry(at_ms=at_ms):
            lifecycle.back_off(turn, live, last, at_ms)
        case c.Pause():
            lifecycle.pause(turn, live, last)
        case c.GiveUp():
            live.row = replace(live.row, last_failure=last)
            lifecycle.finish(turn, live, None, command.failure)

"""What a suspended invocation waits for, and when that is there.

Any one of the things listed ends the suspension. A completion is there once its notification is stored. A signal may be
sent more than once, and each is taken once: one that the endpoint got with the start of the attempt that now suspends
was taken by it, otherwise it would not wait. (A handler that catches its cancellation goes on to list signal 1 in every
suspension; to count the old one would run it again for ever.)
"""

from __future__ import annotations

from collections.abc import Iterator

from holdfast_partition_processor import tables as t
from holdfast_partition_processor.frame_body import InvalidFrame, decode
from holdfast_partition_processor.invocation import Waiting
from holdfast_partition_processor.live import Live
from holdfast_partition_processor.notification import completion_key, named_signal_key, signal_key
from holdfast_partition_processor.turn import Turn
from holdfast_proto import protocol_pb2 as pb


def parse(body: bytes) -> pb.SuspensionMessage:
    """Raises InvalidFrame."""
    message = decode(pb.SuspensionMessage, "Suspension", body)
    if not (message.waiting_completions or message.waiting_signals or message.waiting_named_signals):
        raise InvalidFrame("Suspension: it names nothing that it waits for")
    return message


def waiting_of(message: pb.SuspensionMessage) -> Waiting:
    return Waiting(
        tuple(message.waiting_completions), tuple(message.waiting_signals), tuple(message.waiting_named_signals)
    )


def is_over(turn: Turn, live: Live, waiting: Waiting) -> bool:
    """Is one of these stored already?"""
    for number in waiting.completions:
        if turn.storage.get(t.COMPLETED_COMMANDS, live.id, completion_key(number)) is not None:
            return True
    for key in _signal_keys(waiting):
        index = turn.storage.get(t.COMPLETED_COMMANDS, live.id, key)
        if index is not None and index >= live.row.replayed:
            return True
    return False


def is_ended_by(waiting: Waiting, keys: list[bytes]) -> bool:
    """Is one of these ``keys`` of notifications waited for?"""
    awaited = {completion_key(number) for number in waiting.completions}
    awaited.update(_signal_keys(waiting))
    return any(key in awaited for key in keys)


def _signal_keys(waiting: Waiting) -> Iterator[bytes]:
    for index in waiting.signals:
        yield signal_key(index)
    for name in waiting.named_signals:
        yield named_signal_key(name)

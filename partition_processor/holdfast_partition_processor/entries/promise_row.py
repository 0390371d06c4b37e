"""The row of a durable promise, as get, peek and complete use it."""

from __future__ import annotations

from holdfast_partition_processor import tables as t
from holdfast_partition_processor.frame_body import check_length
from holdfast_partition_processor.live import Live
from holdfast_partition_processor.tables import Promise
from holdfast_partition_processor.turn import Turn

PROMISE_NAME_BYTES_MAX = 1_024
_PENDING = Promise()


def check_name(command: str, name: str) -> None:
    """Raises InvalidFrame."""
    check_length(command, "the promise's name", len(name.encode()), PROMISE_NAME_BYTES_MAX)


def read(turn: Turn, live: Live, name: str) -> Promise:
    """A promise that nobody named before is pending."""
    return turn.storage.get(t.PROMISES, live.object, name.encode()) or _PENDING


def write(turn: Turn, live: Live, name: str, promise: Promise) -> None:
    turn.storage.put(t.PROMISES, live.object, name.encode(), promise)


def is_completed(promise: Promise) -> bool:
    return promise.value is not None or promise.failure is not None

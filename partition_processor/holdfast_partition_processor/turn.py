"""One entry of the log being applied: what all its commands share."""

from __future__ import annotations

from collections import deque

from holdfast_partition_processor import tables as t
from holdfast_partition_processor import timer_key
from holdfast_partition_processor.action import Action, Outcome, Reply, SetTimer, Ship
from holdfast_partition_processor.command import Failure, InvocationResponse, Message, ResponseSink
from holdfast_partition_processor.ids import partition_of_id
from holdfast_partition_processor.notification import completion
from holdfast_partition_processor.tables import Storage


class Turn:
    """``now_ms`` is the leader's clock as it stands in the log. Messages to this partition wait in ``queue`` until the
    command that sends them is done, all others go through the outbox."""

    __slots__ = ("actions", "index", "now_ms", "partition", "partitions", "queue", "storage")

    def __init__(self, storage: Storage, partition: int, partitions: int, index: int, now_ms: int) -> None:
        self.storage = storage
        self.partition = partition
        self.partitions = partitions
        self.index = index
        self.now_ms = timer_key.in_range(now_ms)
        self.actions: list[Action] = []
        self.queue: deque[Message] = deque()

    def reply(self, request: int, outcome: Outcome, detail: str = "") -> None:
        if request:
            self.actions.append(Reply(request, outcome, detail))

    def send(self, message: Message) -> None:
        """To the partition that the message belongs to, exactly once."""
        target = partition_of_id(_recipient(message), self.partitions)
        if target == self.partition:
            self.queue.append(message)
            return
        sequence = self.next_number(b"outbox")
        self.storage.put(t.OUTBOX, target.to_bytes(2, "big"), sequence.to_bytes(8, "big"), message)
        self.actions.append(Ship(target, sequence, message))

    def respond(self, sink: ResponseSink, value: bytes | None, failure: Failure | None) -> None:
        if is_well_formed(sink):
            self.send(InvocationResponse(sink, completion(sink.completion_id, value, failure)))

    def set_timer(self, due_ms: int, timer: bytes) -> None:
        due_ms = timer_key.in_range(due_ms)
        self.storage.put(t.TIMERS, b"", timer_key.row_key(due_ms, timer), b"")
        self.actions.append(SetTimer(due_ms, timer))

    def drop_timer(self, due_ms: int, timer: bytes) -> None:
        """The leader may still fire it; without its row that means nothing."""
        self.storage.delete(t.TIMERS, b"", timer_key.row_key(due_ms, timer))

    def next_number(self, name: bytes) -> int:
        number = (self.storage.get(t.META, b"", name) or 0) + 1
        self.storage.put(t.META, b"", name, number)
        return number


def is_well_formed(sink: ResponseSink) -> bool:
    """Its numbers fit where they are to be stored. Those that we made do; a log may hold any."""
    return 0 <= sink.completion_id < 1 << 32 and 0 <= sink.notification < 1 << 16


def _recipient(message: Message) -> bytes:
    """The invocation whose partition ``message`` belongs to."""
    return message.sink.caller if isinstance(message, InvocationResponse) else message.id

"""One entry of the log being applied: where effects write to, and the invocation that they are about."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from msgspec.structs import replace

from holdfast_partition_processor import tables as t
from holdfast_partition_processor.action import Action, ForwardNotifications, Reply, SetTimer, Ship
from holdfast_partition_processor.command import Attach, Failure, InvocationResponse, Invoke, Message
from holdfast_partition_processor.ids import partition_of_id
from holdfast_partition_processor.invocation import MAY_FOLLOW, Invocation, Status
from holdfast_partition_processor.tables import Frame, Storage
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import MessageType, encode_frame


@dataclass(slots=True)
class Turn:
    """``now_ms`` is the leader's clock as written in the log. Messages to this partition go through ``queue`` in the
    same turn, all others through the outbox."""

    storage: Storage
    partition: int
    partitions: int
    now_ms: int
    actions: list[Action] = field(default_factory=list)
    queue: deque[Message] = field(default_factory=deque)

    def load(self, invocation_id: bytes) -> Live | None:
        row = self.storage.get(t.INVOCATIONS, b"", t.sortable_id(invocation_id))
        return None if row is None else Live(row)

    def reply(self, request: int, reply: Reply) -> None:
        if request:
            self.actions.append(reply)

    def send(self, message: Message) -> None:
        """To the partition that the message belongs to, exactly once."""
        target = partition_of_id(recipient(message), self.partitions)
        if target == self.partition:
            self.queue.append(message)
            return
        sequence = self.next_number(b"outbox")
        self.storage.put(t.OUTBOX, target.to_bytes(2, "big"), sequence.to_bytes(8, "big"), message)
        self.actions.append(Ship(target, sequence, message))

    def set_timer(self, due_ms: int, timer: bytes) -> None:
        self.storage.put(t.TIMERS, b"", due_ms.to_bytes(8, "big") + timer, b"")
        self.actions.append(SetTimer(due_ms, timer))

    def next_number(self, name: bytes) -> int:
        number = (self.storage.get(t.META, b"", name) or 0) + 1
        self.storage.put(t.META, b"", name, number)
        return number


def recipient(message: Message) -> bytes:
    """The invocation whose partition ``message`` belongs to."""
    match message:
        case InvocationResponse(sink=sink):
            return sink.caller
        case Invoke() | Attach():
            return message.id
        case _:
            return message.id


class Live:
    """The row of an invocation while a command works on it, with what is appended to its journal."""

    __slots__ = ("commands", "fresh", "length", "row")

    def __init__(self, row: Invocation) -> None:
        self.row = row
        self.length = row.journal_length
        self.commands = row.commands
        self.fresh: list[bytes] = []  # notifications appended in this turn

    @property
    def id(self) -> bytes:
        return self.row.id

    def append(self, turn: Turn, raw: bytes) -> None:
        turn.storage.put(t.JOURNAL, self.row.id, self.length.to_bytes(4, "big"), Frame(raw, turn.now_ms))
        self.length += 1

    def append_command(self, turn: Turn, code: int, body: bytes) -> None:
        self.append(turn, encode_frame(code, body))
        self.commands += 1

    def complete(self, turn: Turn, code: int, notification: pb.Notification) -> None:
        """Append the completion of a command, unless it is completed already."""
        key = notification.completion_id.to_bytes(4, "big")
        if turn.storage.get(t.COMPLETED_COMMANDS, self.row.id, key) is None:
            self._notify(turn, key, encode_frame(code, notification.SerializeToString()))

    def signal(self, turn: Turn, notification: pb.Notification) -> None:
        raw = encode_frame(MessageType.SIGNAL, notification.SerializeToString())
        self._notify(turn, signal_key(notification), raw)

    def _notify(self, turn: Turn, key: bytes, raw: bytes) -> None:
        turn.storage.put(t.COMPLETED_COMMANDS, self.row.id, key, self.length)
        self.append(turn, raw)
        self.fresh.append(raw)

    def save(self, turn: Turn, status: Status | None = None, **changes: object) -> None:
        """Write the row. Notifications of this turn go to the attempt that is under way, if there is one."""
        before = self.row
        after = before.status if status is None else status
        assert status is None or after in MAY_FOLLOW[before.status], (before.status, after)
        if self.commands != before.commands:
            changes.setdefault("retry_count", 0)
            changes["last_progress_ms"] = turn.now_ms
        self.row = replace(
            before, status=after, modified_ms=turn.now_ms, journal_length=self.length, commands=self.commands, **changes
        )
        turn.storage.put(t.INVOCATIONS, b"", t.sortable_id(before.id), self.row)
        if (before.status is Status.INVOKED) != (after is Status.INVOKED):
            if after is Status.INVOKED:
                turn.storage.put(t.RUNNING, b"", before.id, b"")
            else:
                turn.storage.delete(t.RUNNING, b"", before.id)
        if self.fresh:
            if before.status is Status.INVOKED and after is Status.INVOKED and self.row.attempt == before.attempt:
                turn.actions.append(ForwardNotifications(before.id, before.attempt, b"".join(self.fresh)))
            self.fresh = []


def signal_key(notification: pb.Notification) -> bytes:
    """Sub key in COMPLETED_COMMANDS: completions have 4 bytes, signals begin with a letter and have another length."""
    if notification.WhichOneof("id") == "signal_name":
        return b"named" + notification.signal_name.encode()
    return b"s" + notification.signal_id.to_bytes(4, "big")


def failure_message(failure: Failure) -> pb.Failure:
    metadata = [pb.FailureMetadata(key=key, value=value) for key, value in failure.metadata]
    return pb.Failure(code=failure.code, message=failure.message, metadata=metadata)


def failure_of(message: pb.Failure) -> Failure:
    return Failure(message.code or 500, message.message, tuple((m.key, m.value) for m in message.metadata))


def completion(completion_id: int, value: bytes | None, failure: Failure | None) -> pb.Notification:
    if failure is not None:
        return pb.Notification(completion_id=completion_id, failure=failure_message(failure))
    if value is None:
        return pb.Notification(completion_id=completion_id, void=pb.Void())
    return pb.Notification(completion_id=completion_id, value=pb.Value(content=value))

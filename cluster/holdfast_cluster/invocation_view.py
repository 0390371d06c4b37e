"""Invocations as admin.proto shows them: the row in the words of an operator, and what an invocation waits for.

The words come in two depths. A list must cost the same however long the journals are, so it names completions by their
number; the detail of one invocation looks into the journal for the commands that they belong to.
"""

from __future__ import annotations

from collections.abc import Callable

from holdfast_cluster.journal_view import describe, signal_words, type_name
from holdfast_cluster.words import shortened, time_words
from holdfast_partition_processor import tables as t
from holdfast_partition_processor.command import HandlerType, InvokedBy
from holdfast_partition_processor.invocation import Invocation, Status, Waiting
from holdfast_partition_processor.tables import Storage
from holdfast_proto import admin_pb2
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import HEADER, HEADER_BYTES, SIGNAL_CANCEL, MessageType, is_command
from holdfast_proto.identifiers import encode_invocation_id

STATUS: dict[Status, admin_pb2.InvocationStatus.ValueType] = {
    Status.SCHEDULED: admin_pb2.SCHEDULED,
    Status.INBOXED: admin_pb2.PENDING,
    Status.INVOKED: admin_pb2.RUNNING,
    Status.BACKING_OFF: admin_pb2.BACKING_OFF,
    Status.SUSPENDED: admin_pb2.SUSPENDED,
    Status.PAUSED: admin_pb2.PAUSED,
    Status.COMPLETED: admin_pb2.COMPLETED,
}
_INVOKED_BY = {InvokedBy.INGRESS: "ingress", InvokedBy.SERVICE: "service", InvokedBy.RESTART: "restart"}

LOOK_BACK_FRAMES_MAX = 2_000
"""How much of a journal is read to find what an invocation waits for: what is not completed is near its end."""

_VERBS: dict[int, str] = {
    MessageType.SLEEP: "sleep",
    MessageType.CALL: "call of",
    MessageType.RUN: "step",
    MessageType.GET_PROMISE: "promise",
    MessageType.ATTACH_INVOCATION: "result of",
    MessageType.ONE_WAY_CALL: "id of the call of",
}


def invocation_message(row: Invocation, partition: int, waiting_for: list[str]) -> admin_pb2.Invocation:
    last = row.last_failure if row.status is not Status.COMPLETED else None
    return admin_pb2.Invocation(
        id=encode_invocation_id(row.id),
        service=row.target.service,
        handler=row.target.handler,
        key=row.target.key,
        status=STATUS[row.status],
        created_at_ms=row.created_ms,
        modified_at_ms=row.modified_ms,
        completed_at_ms=row.completed_ms,
        scheduled_for_ms=row.execute_at_ms,
        invoked_by=_INVOKED_BY[row.by],
        invoked_by_id=encode_invocation_id(row.by_id) if row.by_id else "",
        deployment_id=row.deployment,
        attempt=row.attempt,
        retry_count=row.retry_count,
        next_retry_at_ms=row.next_retry_ms if row.status is Status.BACKING_OFF else 0,
        last_failure=last.failure.message if last is not None else "",
        last_failure_code=last.failure.code if last is not None else 0,
        journal_size=row.journal_length,
        idempotency_key=row.idempotency_key or "",
        partition=partition,
        failed=row.failure is not None,
        failure=_failure(row),
        waiting_for=waiting_for,
    )


def waiting_briefly(row: Invocation, storage: Storage) -> list[str]:
    """Reads at most one more row."""
    return _waiting(row, storage, lambda waiting: [f"completion {number}" for number in waiting.completions])


def waiting_in_words(row: Invocation, storage: Storage) -> list[str]:
    """Reads the end of the journal."""
    return _waiting(row, storage, lambda waiting: _completions_in_words(row, storage, waiting.completions))


def _waiting(row: Invocation, storage: Storage, completions: Callable[[Waiting], list[str]]) -> list[str]:
    match row.status:
        case Status.SCHEDULED:
            return [f"its start at {time_words(row.execute_at_ms)}"]
        case Status.INBOXED:
            return [_lock_words(row, storage)]
        case Status.BACKING_OFF:
            return [f"its next attempt at {time_words(row.next_retry_ms)}"]
        case Status.PAUSED:
            return ["somebody who resumes, cancels or kills it"]
        case Status.SUSPENDED if row.waiting is not None:
            signals = [signal_words(row.id, number) for number in row.waiting.signals if number != SIGNAL_CANCEL]
            named = [f"signal {name!r}" for name in row.waiting.named_signals]
            return completions(row.waiting) + signals + named
        case _:
            return []


def _lock_words(row: Invocation, storage: Storage) -> str:
    """Who is in its way. An inboxed invocation is one of an exclusive handler, so its object has a lock."""
    assert row.target.type is HandlerType.EXCLUSIVE, row.target
    lock = storage.get(t.LOCKS, b"", t.object_group(row.target.service, row.target.key or ""))
    holder = encode_invocation_id(lock.holder) if lock is not None else "another invocation"
    return f"its turn: {holder} holds {row.target.service}/{row.target.key}"


def _completions_in_words(row: Invocation, storage: Storage, completions: tuple[int, ...]) -> list[str]:
    found: dict[int, str] = {}
    first = max(0, row.journal_length - LOOK_BACK_FRAMES_MAX)
    for index in range(row.journal_length - 1, first - 1, -1):
        if len(found) == len(completions):
            break
        frame = storage.get(t.JOURNAL, row.id, index.to_bytes(4, "big"))
        if frame is None:
            continue
        code = HEADER.unpack_from(frame.raw)[0]
        if is_command(code):
            shown = describe(code, frame.raw[HEADER_BYTES:])
            if shown.completion_id in completions:
                found[shown.completion_id] = _command_words(code, shown.name, shown.detail)
    return [found.get(number, f"completion {number}") for number in completions]


def _command_words(code: int, name: str, detail: str) -> str:
    verb = _VERBS.get(code, type_name(code))
    about = f"{name!r}" if name and not detail else f"{name!r}, {detail}" if name else detail
    return shortened(f"{verb} {about}".strip())


def _failure(row: Invocation) -> pb.Failure | None:
    if row.failure is None:
        return None
    metadata = [pb.FailureMetadata(key=key, value=value) for key, value in row.failure.metadata]
    return pb.Failure(code=row.failure.code, message=row.failure.message, metadata=metadata)

"""Calls of other handlers: the callee's id is known at once, its result comes as a completion (or never, one-way)."""

from __future__ import annotations

from holdfast_partition_processor import tables as t
from holdfast_partition_processor.command import Invoke, InvokedBy, ResponseSink, StoredFrame
from holdfast_partition_processor.ids import derived_fresh_id, invocation_id_of
from holdfast_partition_processor.turn import Live, Turn
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import MessageType
from holdfast_proto.identifiers import encode_invocation_id


def call(turn: Turn, live: Live, frame: StoredFrame) -> None:
    command = pb.CallCommandMessage.FromString(frame.body)
    sink = ResponseSink(live.id, command.result_completion_id, MessageType.CALL_COMPLETION)
    _invoke(turn, live, frame, command, sink, 0)


def one_way_call(turn: Turn, live: Live, frame: StoredFrame) -> None:
    command = pb.OneWayCallCommandMessage.FromString(frame.body)
    _invoke(turn, live, frame, command, None, command.invoke_time)


def _invoke(
    turn: Turn,
    live: Live,
    frame: StoredFrame,
    command: pb.CallCommandMessage | pb.OneWayCallCommandMessage,
    sink: ResponseSink | None,
    execute_at_ms: int,
) -> None:
    resolved = frame.resolved
    assert resolved is not None, "the leader resolves each call before it proposes it"
    key = command.idempotency_key if command.HasField("idempotency_key") else None
    number = command.invocation_id_notification_idx
    callee = invocation_id_of(resolved.target, key, derived_fresh_id(live.id, number))
    turn.storage.put(t.CHILDREN, live.id, number.to_bytes(4, "big"), callee)
    known = pb.Notification(completion_id=number, invocation_id=encode_invocation_id(callee))
    live.complete(turn, MessageType.CALL_INVOCATION_ID_COMPLETION, known)
    body = pb.InputCommandMessage(headers=command.headers, value=pb.Value(content=command.parameter))
    turn.send(
        Invoke(
            id=callee,
            target=resolved.target,
            input=body.SerializeToString(),
            by=InvokedBy.SERVICE,
            by_id=live.id,
            sink=sink,
            idempotency_key=key,
            execute_at_ms=execute_at_ms,
            completion_retention_ms=resolved.completion_retention_ms,
            journal_retention_ms=resolved.journal_retention_ms,
        )
    )

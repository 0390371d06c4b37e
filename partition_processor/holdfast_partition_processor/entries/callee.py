"""What Call and OneWayCall share: the callee's id is made here and known to the caller at once."""

from __future__ import annotations

from holdfast_partition_processor import tables as t
from holdfast_partition_processor.command import HandlerType, Invoke, InvokedBy, ResolvedCall, ResponseSink, StoredFrame
from holdfast_partition_processor.frame_body import InvalidFrame
from holdfast_partition_processor.ids import derived_fresh_id, invocation_id_of
from holdfast_partition_processor.live import Live
from holdfast_partition_processor.notification import completion_key
from holdfast_partition_processor.turn import Turn
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import MessageType
from holdfast_proto.identifiers import encode_invocation_id

CallMessage = pb.CallCommandMessage | pb.OneWayCallCommandMessage


def check(name: str, message: CallMessage) -> None:
    """Raises InvalidFrame. Whether the target exists is for the catalog to say."""
    if not message.service_name or not message.handler_name:
        raise InvalidFrame(f"{name}: service and handler must be named")
    if message.HasField("idempotency_key") and not message.idempotency_key:
        raise InvalidFrame(f"{name}: the idempotency key is empty")


def resolved_of(name: str, turn: Turn, live: Live, frame: StoredFrame, message: CallMessage) -> ResolvedCall:
    """What the leader looked up. Raises InvalidFrame when it did not, or when the call can't be made."""
    number = message.invocation_id_notification_idx
    if turn.storage.get(t.CHILDREN, live.id, completion_key(number)) is not None:
        raise InvalidFrame(f"{name}: completion id {number} belongs to an earlier call")
    resolved = frame.resolved
    if resolved is None:
        raise InvalidFrame(f"{name}: {message.service_name}/{message.handler_name} was not resolved")
    if resolved.target.type is HandlerType.WORKFLOW_RUN and message.HasField("idempotency_key"):
        raise InvalidFrame(f"{name}: a workflow runs once per key, a call to it takes no idempotency key")
    return resolved


def invoke(
    turn: Turn, live: Live, message: CallMessage, resolved: ResolvedCall, sink: ResponseSink | None, execute_at_ms: int
) -> None:
    """The command is in the journal: tell the caller whom it called, and call."""
    idempotency_key = message.idempotency_key if message.HasField("idempotency_key") else None
    number = message.invocation_id_notification_idx
    fresh = derived_fresh_id(live.id, number, live.row.incarnation)
    callee = invocation_id_of(resolved.target, idempotency_key, fresh)
    turn.storage.put(t.CHILDREN, live.id, completion_key(number), callee)
    known = pb.Notification(completion_id=number, invocation_id=encode_invocation_id(callee)).SerializeToString()
    live.complete(turn, MessageType.CALL_INVOCATION_ID_COMPLETION, number, known)
    body = pb.InputCommandMessage(headers=message.headers, value=pb.Value(content=message.parameter))
    turn.send(
        Invoke(
            id=callee,
            target=resolved.target,
            input=body.SerializeToString(),
            by=InvokedBy.SERVICE,
            by_id=live.id,
            sink=sink,
            idempotency_key=idempotency_key,
            execute_at_ms=execute_at_ms,
            completion_retention_ms=resolved.completion_retention_ms,
            journal_retention_ms=resolved.journal_retention_ms,
        )
    )

"""Results of other invocations: attach waits for one, get output looks once."""

from __future__ import annotations

from holdfast_partition_processor.command import Attach, HandlerType, ResponseSink, StoredFrame, Target
from holdfast_partition_processor.ids import invocation_id_of
from holdfast_partition_processor.turn import Live, Turn
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import MessageType
from holdfast_proto.identifiers import decode_invocation_id


def attach(turn: Turn, live: Live, frame: StoredFrame) -> None:
    command = pb.AttachInvocationCommandMessage.FromString(frame.body)
    sink = ResponseSink(live.id, command.result_completion_id, MessageType.ATTACH_INVOCATION_COMPLETION)
    turn.send(Attach(target_id(command), sink, True))


def get_output(turn: Turn, live: Live, frame: StoredFrame) -> None:
    command = pb.GetInvocationOutputCommandMessage.FromString(frame.body)
    sink = ResponseSink(live.id, command.result_completion_id, MessageType.GET_INVOCATION_OUTPUT_COMPLETION)
    turn.send(Attach(target_id(command), sink, False))


def target_id(command: pb.AttachInvocationCommandMessage | pb.GetInvocationOutputCommandMessage) -> bytes:
    match command.WhichOneof("target"):
        case "workflow_target":
            workflow = command.workflow_target
            return workflow_id(workflow.workflow_name, workflow.workflow_key)
        case "idempotent_request_target":
            request = command.idempotent_request_target
            key = request.service_key if request.HasField("service_key") else None
            return idempotent_id(request.service_name, key, request.handler_name, request.idempotency_key)
        case _:
            return decode_invocation_id(command.invocation_id)


def workflow_id(name: str, key: str) -> bytes:
    return invocation_id_of(Target(name, "", key, HandlerType.WORKFLOW_RUN), None, b"")


def idempotent_id(service: str, key: str | None, handler: str, idempotency_key: str) -> bytes:
    kind = HandlerType.SERVICE if key is None else HandlerType.EXCLUSIVE
    return invocation_id_of(Target(service, handler, key, kind), idempotency_key, b"\0" * 24)

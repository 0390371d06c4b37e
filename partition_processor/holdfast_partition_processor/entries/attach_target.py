"""Which invocation AttachInvocation and GetInvocationOutput mean: by id, by workflow, or by idempotency key."""

from __future__ import annotations

from holdfast_partition_processor.entries.identifier import invocation_id
from holdfast_partition_processor.frame_body import InvalidFrame
from holdfast_partition_processor.ids import idempotent_id, workflow_id
from holdfast_proto import protocol_pb2 as pb

AttachMessage = pb.AttachInvocationCommandMessage | pb.GetInvocationOutputCommandMessage


def resolve(name: str, message: AttachMessage) -> bytes:
    """The invocation's id. Raises InvalidFrame."""
    match message.WhichOneof("target"):
        case "invocation_id":
            return invocation_id(name, message.invocation_id)
        case "workflow_target":
            workflow = message.workflow_target
            return workflow_id(workflow.workflow_name, workflow.workflow_key)
        case "idempotent_request_target":
            request = message.idempotent_request_target
            key = request.service_key if request.HasField("service_key") else None
            if not request.idempotency_key:
                raise InvalidFrame(f"{name}: the idempotency key is empty")
            return idempotent_id(request.service_name, key, request.handler_name, request.idempotency_key)
        case _:
            raise InvalidFrame(f"{name}: no target is set")

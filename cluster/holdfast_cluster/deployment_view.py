"""Deployments and services as admin.proto shows them."""

from __future__ import annotations

from holdfast_partition_processor.catalog import Catalog, RegisteredService, revisions_of
from holdfast_partition_processor.command import Deployment, Handler, HandlerOptions, HandlerType, PayloadRule, Service
from holdfast_proto import admin_pb2
from holdfast_proto import endpoint_pb2 as ep

_HANDLER_TYPES: dict[HandlerType, ep.HandlerType.ValueType] = {
    HandlerType.SERVICE: ep.HANDLER_TYPE_UNSPECIFIED,
    HandlerType.EXCLUSIVE: ep.EXCLUSIVE,
    HandlerType.SHARED: ep.SHARED,
    HandlerType.WORKFLOW_RUN: ep.WORKFLOW_RUN,
    HandlerType.WORKFLOW_SHARED: ep.SHARED,
}
_ON_MAX_ATTEMPTS = {"pause": ep.PAUSE, "kill": ep.KILL}


def deployment_message(catalog: Catalog, deployment: Deployment) -> admin_pb2.Deployment:
    """``latest`` of a service revision is told by the catalog."""
    return admin_pb2.Deployment(
        id=deployment.id,
        address=deployment.address,
        created_at_ms=deployment.created_at_ms,
        sdk=deployment.sdk,
        min_protocol_version=deployment.min_protocol_version,
        max_protocol_version=deployment.max_protocol_version,
        services=[
            admin_pb2.ServiceRevision(
                name=service.name, revision=revision, latest=_is_latest(catalog, deployment, service)
            )
            for service, revision in zip(deployment.services, revisions_of(deployment), strict=True)
        ],
        metadata=dict(deployment.metadata),
    )


def service_message(registered: RegisteredService) -> admin_pb2.Service:
    return admin_pb2.Service(
        manifest=_manifest(registered.service),
        deployment_id=registered.deployment.id,
        revision=registered.revision,
        public=not registered.service.options.ingress_private,
    )


def _is_latest(catalog: Catalog, deployment: Deployment, service: Service) -> bool:
    registered = catalog.services.get(service.name)
    return registered is not None and registered.deployment.id == deployment.id


def _manifest(service: Service) -> ep.ServiceManifest:
    return ep.ServiceManifest(
        name=service.name,
        type=ep.ServiceType.ValueType(service.type),
        handlers=[_handler(handler) for handler in service.handlers],
        documentation=service.documentation,
        metadata=dict(service.metadata),
        options=_options(service.options),
    )


def _handler(handler: Handler) -> ep.HandlerManifest:
    return ep.HandlerManifest(
        name=handler.name,
        type=_HANDLER_TYPES[handler.type],
        input=_payload(handler.input),
        output=_payload(handler.output),
        documentation=handler.documentation,
        metadata=dict(handler.metadata),
        options=_options(handler.options),
    )


def _payload(rule: PayloadRule) -> ep.Payload:
    return ep.Payload(
        required=rule.required,
        content_type=rule.content_type,
        json_schema=rule.json_schema,
        set_content_type_if_empty=rule.set_content_type_if_empty,
    )


def _options(options: HandlerOptions) -> ep.Options:
    """Only what the endpoint itself set: an absent field means the node's default."""
    message = ep.Options()
    for name in HandlerOptions.__struct_fields__:
        value = getattr(options, name)
        if value is None:
            continue
        if name == "retry_on_max_attempts":
            message.retry_on_max_attempts = _ON_MAX_ATTEMPTS[value]
        else:
            setattr(message, name, value)
    return message

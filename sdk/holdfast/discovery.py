"""What an endpoint tells a node about itself: its services and handlers, their types, limits and JSON schemas."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version

from holdfast._registration import ServiceBase
from holdfast.errors import DefinitionError
from holdfast.handler import HandlerDefinition, HandlerOptions, HandlerType, ServiceType
from holdfast.retry_policy import Duration, to_ms
from holdfast.serde import Serde, schema_text
from holdfast_proto import endpoint_pb2 as ep
from holdfast_proto.framing import PROTOCOL_VERSION

_SERVICE_TYPES = {
    ServiceType.SERVICE: ep.SERVICE,
    ServiceType.VIRTUAL_OBJECT: ep.VIRTUAL_OBJECT,
    ServiceType.WORKFLOW: ep.WORKFLOW,
}
_HANDLER_TYPES = {
    HandlerType.SERVICE: ep.HANDLER_TYPE_UNSPECIFIED,
    HandlerType.EXCLUSIVE: ep.EXCLUSIVE,
    HandlerType.SHARED: ep.SHARED,
    HandlerType.WORKFLOW_RUN: ep.WORKFLOW_RUN,
}
_DURATIONS = (
    "inactivity_timeout",
    "abort_timeout",
    "journal_retention",
    "idempotency_retention",
    "workflow_completion_retention",
)


def sdk_name() -> str:
    """Name and version of this SDK, as nodes log it."""
    try:
        return f"holdfast-python/{version('holdfast')}"
    except PackageNotFoundError:
        return "holdfast-python"


def check_services(services: Iterable[ServiceBase]) -> list[ServiceBase]:
    """Raises DefinitionError for what can't be served: the same name twice, no handlers, a workflow without main."""
    checked: dict[str, ServiceBase] = {}
    for service in services:
        if not isinstance(service, ServiceBase):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise DefinitionError(f"a Service, VirtualObject or Workflow is needed, not {service!r}")
        if checked.get(service.name, service) is not service:
            raise DefinitionError(f"two services are called {service.name!r}")
        if not service.handlers:
            raise DefinitionError(f"{service.type.value} {service.name} has no handlers")
        mains = [handler for handler in service.handlers.values() if handler.type is HandlerType.WORKFLOW_RUN]
        if service.type is ServiceType.WORKFLOW and len(mains) != 1:
            raise DefinitionError(f"workflow {service.name} needs exactly one main handler, it has {len(mains)}")
        for handler in service.handlers.values():
            handler.resolved()
        checked[service.name] = service
    if not checked:
        raise DefinitionError("there is nothing to serve: give a list of services")
    return list(checked.values())


def manifest(services: Iterable[ServiceBase]) -> ep.DiscoverResponse:
    return ep.DiscoverResponse(
        min_protocol_version=PROTOCOL_VERSION,
        max_protocol_version=PROTOCOL_VERSION,
        sdk=sdk_name(),
        services=[_service(service) for service in services],
    )


def _service(service: ServiceBase) -> ep.ServiceManifest:
    return ep.ServiceManifest(
        name=service.name,
        type=_SERVICE_TYPES[service.type],
        handlers=[_handler(handler) for handler in service.handlers.values()],
        documentation=service.documentation,
        metadata=service.options.get("metadata", {}),
        options=_options(service.options),
    )


def _handler(handler: HandlerDefinition) -> ep.HandlerManifest:
    parameters, output = handler.resolved()
    return ep.HandlerManifest(
        name=handler.name,
        type=_HANDLER_TYPES[handler.type],
        input=ep.Payload(
            required=parameters.required,
            content_type=parameters.content_type or None,
            json_schema=parameters.schema(),
        ),
        output=_output(output),
        documentation=handler.documentation,
        metadata=handler.options.get("metadata", {}),
        options=_options(handler.options),
    )


def _output(serde: Serde[object]) -> ep.Payload:
    return ep.Payload(content_type=serde.content_type or None, json_schema=schema_text(serde))


def _options(options: HandlerOptions) -> ep.Options:
    message = ep.Options()
    for name in _DURATIONS:
        if name in options:
            duration: Duration = options[name]  # type: ignore[literal-required]
            setattr(message, f"{name}_ms", to_ms(duration, name))
    if "lazy_state" in options:
        message.enable_lazy_state = options["lazy_state"]
    if "private" in options:
        message.ingress_private = options["private"]
    if "retry" in options:
        policy = options["retry"]
        message.retry_initial_interval_ms = to_ms(policy.initial_interval)
        message.retry_max_interval_ms = to_ms(policy.max_interval)
        message.retry_factor = policy.factor
        if policy.max_attempts is not None:
            message.retry_max_attempts = policy.max_attempts
    if "on_max_attempts" in options:
        message.retry_on_max_attempts = ep.KILL if options["on_max_attempts"] == "kill" else ep.PAUSE
    return message

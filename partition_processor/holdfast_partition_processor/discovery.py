"""Asks an endpoint what it runs, and believes nothing that does not hold."""

from __future__ import annotations

import re
from dataclasses import dataclass

import grpc
import grpc.aio

from holdfast_partition_processor.command import Handler, HandlerOptions, HandlerType, PayloadRule, Service, ServiceType
from holdfast_proto import endpoint_pb2 as ep
from holdfast_proto.endpoint_pb2_grpc import EndpointStub
from holdfast_proto.framing import PROTOCOL_VERSION

_SERVICE_NAME = re.compile(r"^([a-zA-Z]|_[a-zA-Z0-9])[a-zA-Z0-9._-]*$")
_HANDLER_NAME = re.compile(r"^([a-zA-Z]|_[a-zA-Z0-9])[a-zA-Z0-9_]*$")
NAME_BYTES_MAX = 128
SERVICES_MAX = 1_000
HANDLERS_MAX = 1_000
_RESERVED = ("restate", "holdfast", "openapi")
_ALLOWED = {
    ServiceType.SERVICE: {0: HandlerType.SERVICE},
    ServiceType.VIRTUAL_OBJECT: {0: HandlerType.EXCLUSIVE, 1: HandlerType.EXCLUSIVE, 2: HandlerType.SHARED},
    ServiceType.WORKFLOW: {0: HandlerType.WORKFLOW_SHARED, 2: HandlerType.WORKFLOW_SHARED, 3: HandlerType.WORKFLOW_RUN},
}


class DiscoveryError(Exception):
    """The endpoint can't be reached, or what it says can't be used."""


@dataclass(frozen=True, slots=True)
class Manifest:
    sdk: str
    min_protocol_version: int
    max_protocol_version: int
    services: tuple[Service, ...]


def grpc_address(address: str) -> str:
    """ "host:port" and "grpc://host:port" mean the same. Raises DiscoveryError for anything else."""
    bare = address.removeprefix("grpc://")
    host, colon, port = bare.rpartition(":")
    if bare.startswith("unix:"):
        return bare
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536 or "/" in bare:
        raise DiscoveryError(f"address {address!r} is not of the form host:port or grpc://host:port")
    return bare


async def discover(address: str, *, timeout_s: float = 10.0) -> Manifest:
    """Raises DiscoveryError."""
    target = grpc_address(address)
    async with grpc.aio.insecure_channel(target, options=(("grpc.enable_http_proxy", 0),)) as channel:
        try:
            answer = await EndpointStub(channel).Discover(ep.DiscoverRequest(), timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            raise DiscoveryError(_words(target, error, timeout_s)) from error
    return validate(answer)


def _words(target: str, error: grpc.aio.AioRpcError, timeout_s: float) -> str:
    match error.code():
        case grpc.StatusCode.UNIMPLEMENTED:
            return f"{target} speaks gRPC but is not a Holdfast endpoint (no holdfast.endpoint.v1.Endpoint there)"
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return f"{target} did not answer within {timeout_s:g} s"
        case _:
            return f"can't discover {target}: {error.details()}"


def validate(answer: ep.DiscoverResponse) -> Manifest:
    """Raises DiscoveryError naming the field, the value and what is allowed."""
    low, high = answer.min_protocol_version, answer.max_protocol_version
    if not low <= PROTOCOL_VERSION <= high:
        raise DiscoveryError(f"the endpoint speaks protocol versions {low} to {high}, this node {PROTOCOL_VERSION}")
    if not 1 <= len(answer.services) <= SERVICES_MAX:
        raise DiscoveryError(f"the endpoint lists {len(answer.services)} services, allowed are 1 to {SERVICES_MAX}")
    services = tuple(_service(service) for service in answer.services)
    _unique("service", [service.name for service in services])
    return Manifest(answer.sdk[:200], low, high, services)


def _service(manifest: ep.ServiceManifest) -> Service:
    _check_name("service", manifest.name, _SERVICE_NAME)
    if manifest.name.lower().startswith(_RESERVED):
        raise DiscoveryError(f"service name '{manifest.name}' is reserved")
    try:
        kind = ServiceType(manifest.type)
    except ValueError:
        raise DiscoveryError(f"service '{manifest.name}' has unknown type {manifest.type}") from None
    if not 1 <= len(manifest.handlers) <= HANDLERS_MAX:
        count = len(manifest.handlers)
        raise DiscoveryError(f"service '{manifest.name}' has {count} handlers, allowed are 1 to {HANDLERS_MAX}")
    handlers = tuple(_handler(manifest.name, kind, handler) for handler in manifest.handlers)
    _unique(f"handler of '{manifest.name}'", [handler.name for handler in handlers])
    runs = sum(handler.type is HandlerType.WORKFLOW_RUN for handler in handlers)
    if kind is ServiceType.WORKFLOW and runs != 1:
        raise DiscoveryError(f"workflow '{manifest.name}' has {runs} main handlers, it needs exactly one")
    metadata = tuple(sorted(manifest.metadata.items()))
    options = _options(manifest.name, manifest.options)
    return Service(manifest.name, kind, handlers, options, manifest.documentation, metadata)


def _handler(service: str, kind: ServiceType, manifest: ep.HandlerManifest) -> Handler:
    _check_name(f"handler of '{service}'", manifest.name, _HANDLER_NAME)
    handler_type = _ALLOWED[kind].get(manifest.type)
    if handler_type is None:
        wrong = f"handler '{service}/{manifest.name}' has type {manifest.type}"
        raise DiscoveryError(f"{wrong}, which a {kind.name} can't have")
    return Handler(
        name=manifest.name,
        type=handler_type,
        input=_payload(manifest.input),
        output=_payload(manifest.output),
        options=_options(f"{service}/{manifest.name}", manifest.options),
        documentation=manifest.documentation,
        metadata=tuple(sorted(manifest.metadata.items())),
    )


def _payload(payload: ep.Payload) -> PayloadRule:
    content_type = payload.content_type if payload.HasField("content_type") else None
    return PayloadRule(payload.required, content_type, payload.json_schema, payload.set_content_type_if_empty)


def _options(where: str, options: ep.Options) -> HandlerOptions:
    values: dict[str, int | float | bool | str | None] = {}
    for name in HandlerOptions.__struct_fields__:
        if name != "retry_on_max_attempts" and options.HasField(name):  # type: ignore[arg-type]
            values[name] = getattr(options, name)
    if options.retry_on_max_attempts:
        values["retry_on_max_attempts"] = "kill" if options.retry_on_max_attempts == ep.KILL else "pause"
    factor = values.get("retry_factor")
    if isinstance(factor, float) and not 1.0 <= factor <= 1_000.0:
        raise DiscoveryError(f"retry_factor of '{where}' is {factor}, allowed are 1 to 1000")
    return HandlerOptions(**values)  # type: ignore[arg-type]


def _check_name(what: str, name: str, pattern: re.Pattern[str]) -> None:
    if len(name.encode()) > NAME_BYTES_MAX:
        raise DiscoveryError(f"{what} name of {len(name.encode())} bytes, the limit is {NAME_BYTES_MAX}")
    if not pattern.match(name):
        raise DiscoveryError(f"{what} name {name!r} does not match {pattern.pattern}")


def _unique(what: str, names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DiscoveryError(f"{what} '{twice[0]}' is listed twice")

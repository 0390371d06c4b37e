"""Asks an endpoint what it runs, and believes nothing that does not hold: each error names field, value and limit."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from holdfast_partition_processor.command import Handler, HandlerOptions, HandlerType, PayloadRule, Service, ServiceType
from holdfast_partition_processor.endpoint_address import MalformedAddress, channel_options, grpc_target
from holdfast_proto import endpoint_pb2 as ep
from holdfast_proto.framing import PROTOCOL_VERSION

NAME_BYTES_MAX = 128
"""LMDB keys hold the name of a service with the object's key and a state key."""
SERVICES_MAX = 1_000
HANDLERS_MAX = 1_000
DOCUMENTATION_BYTES_MAX = 64 * 1024
METADATA_ENTRIES_MAX = 100
METADATA_BYTES_MAX = 4 * 1024  # a key or a value
JSON_SCHEMA_BYTES_MAX = 256 * 1024
CONTENT_TYPE_BYTES_MAX = 200
SDK_CHARACTERS_MAX = 200
MANIFEST_BYTES_MAX = 8 * 1024 * 1024
"""The whole answer: it becomes one entry of the log, and every node holds it in memory."""

YEAR_MS = 365 * 86_400_000
_OPTION_LIMITS: dict[str, tuple[float, float]] = {
    "inactivity_timeout_ms": (0, YEAR_MS),
    "abort_timeout_ms": (1, YEAR_MS),
    "journal_retention_ms": (0, 10 * YEAR_MS),
    "idempotency_retention_ms": (0, 10 * YEAR_MS),
    "workflow_completion_retention_ms": (0, 10 * YEAR_MS),
    "retry_initial_interval_ms": (1, YEAR_MS),
    "retry_max_interval_ms": (1, YEAR_MS),
    "retry_factor": (1.0, 1_000.0),
    "retry_max_attempts": (1, 1_000_000_000),
}
_ON_MAX_ATTEMPTS = {ep.ON_MAX_ATTEMPTS_UNSPECIFIED: None, ep.PAUSE: "pause", ep.KILL: "kill"}

_SERVICE_NAME = re.compile(r"([a-zA-Z]|_[a-zA-Z0-9])[a-zA-Z0-9._-]*")
_HANDLER_NAME = re.compile(r"([a-zA-Z]|_[a-zA-Z0-9])[a-zA-Z0-9_]*")
_RESERVED = ("restate", "holdfast", "openapi")
_HANDLER_TYPES: dict[ServiceType, dict[int, HandlerType]] = {
    ServiceType.SERVICE: {ep.HANDLER_TYPE_UNSPECIFIED: HandlerType.SERVICE},
    ServiceType.VIRTUAL_OBJECT: {
        ep.HANDLER_TYPE_UNSPECIFIED: HandlerType.EXCLUSIVE,
        ep.EXCLUSIVE: HandlerType.EXCLUSIVE,
        ep.SHARED: HandlerType.SHARED,
    },
    ServiceType.WORKFLOW: {
        ep.HANDLER_TYPE_UNSPECIFIED: HandlerType.WORKFLOW_RUN,
        ep.SHARED: HandlerType.WORKFLOW_SHARED,
        ep.WORKFLOW_RUN: HandlerType.WORKFLOW_RUN,
    },
}
_DISCOVER_METHOD = "/holdfast.endpoint.v1.Endpoint/Discover"


class DiscoveryError(Exception):
    """The endpoint can't be reached, or what it says can't be used. The message is for whoever registers it."""


@dataclass(frozen=True, slots=True)
class Manifest:
    sdk: str
    min_protocol_version: int
    max_protocol_version: int
    services: tuple[Service, ...]


def grpc_address(address: str) -> str:
    """The form in which an address is stored and compared: without "grpc://". Raises DiscoveryError."""
    try:
        return grpc_target(address)
    except MalformedAddress as error:
        raise DiscoveryError(str(error)) from error


async def discover(address: str, *, timeout_s: float = 10.0) -> Manifest:
    """Raises DiscoveryError."""
    target = grpc_address(address)
    async with grpc.aio.insecure_channel(target, options=channel_options()) as channel:
        # Without a deserializer gRPC hands over the bytes: a broken answer is then ours to name.
        method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(_DISCOVER_METHOD)
        try:
            answer = await method(ep.DiscoverRequest().SerializeToString(), timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            raise DiscoveryError(_words(target, error, timeout_s)) from error
    if len(answer) > MANIFEST_BYTES_MAX:
        raise DiscoveryError(f"the manifest of {target} has {len(answer)} bytes, the limit is {MANIFEST_BYTES_MAX}")
    try:
        return validate(ep.DiscoverResponse.FromString(answer))
    except DecodeError as error:
        raise DiscoveryError(
            f"{target} answered {len(answer)} bytes that are not a DiscoverResponse: {error}"
        ) from error


def _words(target: str, error: grpc.aio.AioRpcError, timeout_s: float) -> str:
    match error.code():
        case grpc.StatusCode.UNIMPLEMENTED:
            return f"{target} speaks gRPC but is not a Holdfast endpoint (no holdfast.endpoint.v1.Endpoint there)"
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return f"{target} did not answer within {timeout_s:g} s"
        case grpc.StatusCode.UNAVAILABLE:
            return f"{target} can't be reached: {error.details()}; is the endpoint running, and is that its gRPC port?"
        case code:
            return f"{target} refused discovery: {error.details()} (gRPC status {code.name})"


def validate(answer: ep.DiscoverResponse) -> Manifest:
    """Raises DiscoveryError."""
    low, high = answer.min_protocol_version, answer.max_protocol_version
    if not low <= PROTOCOL_VERSION <= high:
        raise DiscoveryError(
            f"min_protocol_version {low} to max_protocol_version {high}: this node speaks {PROTOCOL_VERSION}"
        )
    _check_count("services", len(answer.services), SERVICES_MAX)
    services = tuple(_service(service) for service in answer.services)
    _check_unique("services", (service.name for service in services))
    return Manifest(answer.sdk[:SDK_CHARACTERS_MAX], low, high, services)


def _service(manifest: ep.ServiceManifest) -> Service:
    _check_name("service name", manifest.name, _SERVICE_NAME)
    if manifest.name.lower().startswith(_RESERVED):
        raise DiscoveryError(
            f"service name {manifest.name!r} is reserved: it begins with one of {', '.join(_RESERVED)}"
        )
    where = f"service '{manifest.name}'"
    try:
        kind = ServiceType(manifest.type)
    except ValueError:
        known = ", ".join(f"{kind.value} {kind.name}" for kind in ServiceType)
        raise DiscoveryError(f"type {manifest.type} of {where} is unknown; there are {known}") from None
    _check_count(f"handlers of {where}", len(manifest.handlers), HANDLERS_MAX)
    handlers = tuple(_handler(manifest.name, kind, handler) for handler in manifest.handlers)
    _check_unique(f"handlers of {where}", (handler.name for handler in handlers))
    runs = [handler.name for handler in handlers if handler.type is HandlerType.WORKFLOW_RUN]
    if kind is ServiceType.WORKFLOW and len(runs) != 1:
        raise DiscoveryError(
            f"{where} is a workflow with {len(runs)} run handlers ({', '.join(runs)}), it needs exactly 1"
        )
    _check_bytes(f"documentation of {where}", manifest.documentation, DOCUMENTATION_BYTES_MAX)
    return Service(
        name=manifest.name,
        type=kind,
        handlers=handlers,
        options=_options(where, manifest.options),
        documentation=manifest.documentation,
        metadata=_metadata(where, manifest.metadata.items()),
    )


def _handler(service: str, kind: ServiceType, manifest: ep.HandlerManifest) -> Handler:
    _check_name(f"handler name of service '{service}'", manifest.name, _HANDLER_NAME)
    where = f"handler '{service}/{manifest.name}'"
    handler_type = _HANDLER_TYPES[kind].get(manifest.type)
    if handler_type is None:
        allowed = ", ".join(sorted({_type_name(number) for number in _HANDLER_TYPES[kind]}))
        raise DiscoveryError(f"type {_type_name(manifest.type)} of {where}: a {kind.name} allows {allowed}")
    options = _options(where, manifest.options)
    if handler_type is HandlerType.WORKFLOW_RUN and options.idempotency_retention_ms is not None:
        what = f"idempotency_retention_ms {options.idempotency_retention_ms} of {where}"
        raise DiscoveryError(f"{what}: a workflow's run has no idempotency key, set workflow_completion_retention_ms")
    _check_bytes(f"documentation of {where}", manifest.documentation, DOCUMENTATION_BYTES_MAX)
    return Handler(
        name=manifest.name,
        type=handler_type,
        input=_payload(f"input of {where}", manifest.input),
        output=_payload(f"output of {where}", manifest.output),
        options=options,
        documentation=manifest.documentation,
        metadata=_metadata(where, manifest.metadata.items()),
    )


def _type_name(number: int) -> str:
    known = ep.HandlerType.DESCRIPTOR.values_by_number.get(number)
    return known.name if known is not None else str(number)


def _payload(where: str, payload: ep.Payload) -> PayloadRule:
    content_type = payload.content_type if payload.HasField("content_type") else None
    _check_bytes(f"content_type of {where}", content_type or "", CONTENT_TYPE_BYTES_MAX)
    _check_bytes(f"json_schema of {where}", payload.json_schema, JSON_SCHEMA_BYTES_MAX)
    if payload.json_schema:
        try:
            json.loads(payload.json_schema)
        except (ValueError, RecursionError) as error:
            raise DiscoveryError(f"json_schema of {where} is not JSON: {error}") from error
    return PayloadRule(payload.required, content_type, payload.json_schema, payload.set_content_type_if_empty)


def _options(where: str, options: ep.Options) -> HandlerOptions:
    given: dict[str, int | float | bool | str | None] = {field.name: value for field, value in options.ListFields()}
    for name, (least, most) in _OPTION_LIMITS.items():
        value = given.get(name)
        if isinstance(value, int | float) and not least <= value <= most:  # NaN fails this too
            raise DiscoveryError(f"{name} {value} of {where}: allowed are {least:.0f} to {most:.0f}")
    if options.retry_on_max_attempts not in _ON_MAX_ATTEMPTS:
        raise DiscoveryError(
            f"retry_on_max_attempts {options.retry_on_max_attempts} of {where}: allowed are 1 PAUSE, 2 KILL"
        )
    given["retry_on_max_attempts"] = _ON_MAX_ATTEMPTS[options.retry_on_max_attempts]
    return HandlerOptions(**given)  # type: ignore[arg-type]


def _metadata(where: str, items: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    pairs = tuple(sorted(items))
    if len(pairs) > METADATA_ENTRIES_MAX:
        raise DiscoveryError(f"metadata of {where} has {len(pairs)} entries, the limit is {METADATA_ENTRIES_MAX}")
    for key, value in pairs:
        _check_bytes(f"metadata key of {where}", key, METADATA_BYTES_MAX)
        _check_bytes(f"metadata {key!r} of {where}", value, METADATA_BYTES_MAX)
    return pairs


def _check_name(what: str, name: str, pattern: re.Pattern[str]) -> None:
    _check_bytes(what, name, NAME_BYTES_MAX)
    if not pattern.fullmatch(name):
        raise DiscoveryError(f"{what} {name!r} does not match {pattern.pattern}")


def _check_bytes(what: str, text: str, limit: int) -> None:
    if len(text.encode()) > limit:
        raise DiscoveryError(f"{what} has {len(text.encode())} bytes ({text[:40]!r}...), the limit is {limit}")


def _check_count(what: str, number: int, limit: int) -> None:
    if not 1 <= number <= limit:
        raise DiscoveryError(f"{what}: there are {number}, allowed are 1 to {limit}")


def _check_unique(what: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise DiscoveryError(f"{what}: {name!r} is listed twice")
        seen.add(name)

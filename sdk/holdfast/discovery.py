"""What this endpoint tells a node about itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec

from holdfast import serde
from holdfast.handler import Handler
from holdfast.service import ServiceBase
from holdfast_proto import endpoint_pb2 as ep
from holdfast_proto.framing import PROTOCOL_VERSION


def manifest(services: Sequence[ServiceBase]) -> ep.DiscoverResponse:
    """Raises ValueError when a workflow has no main handler."""
    answer = ep.DiscoverResponse(
        min_protocol_version=PROTOCOL_VERSION, max_protocol_version=PROTOCOL_VERSION, sdk="holdfast-python/0.1.0"
    )
    for service in services:
        runs = sum(handler.kind == ep.WORKFLOW_RUN for handler in service.handlers.values())
        if service.type == ep.WORKFLOW and runs != 1:
            raise ValueError(f"workflow '{service.name}' has {runs} main handlers, it needs exactly one")
        described = answer.services.add(name=service.name, type=service.type, documentation=service.documentation)
        described.handlers.extend(_handler(handler) for handler in service.handlers.values())
    return answer


def _handler(handler: Handler[Any, Any]) -> ep.HandlerManifest:
    described = ep.HandlerManifest(name=handler.name, type=handler.kind, documentation=handler.__doc__ or "")
    if handler.parameters:
        kind = handler.parameters[0][1] if len(handler.parameters) == 1 else dict[str, Any]
        described.input.content_type = "*/*"
        described.input.json_schema = _schema(kind)
    else:
        described.input.content_type = "*/*"
    if handler.returns not in (None, type(None)):
        described.output.content_type = serde.content_type(handler.returns)
        described.output.json_schema = _schema(handler.returns)
    return described


def _schema(kind: Any) -> str:
    try:
        if hasattr(kind, "model_json_schema"):
            return json.dumps(kind.model_json_schema())
        return json.dumps(msgspec.json.schema(kind))
    except (TypeError, ValueError):
        return ""  # a type without JSON schema is documented by its name only

"""A call to try: the first handler of an app, with a body that fits its schema."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from typing import Any

from holdfast_partition_processor.command import Handler, HandlerType, Service
from holdfast_partition_processor.command import ServiceType as Type

DEPTH_MAX = 5
_SAMPLES: dict[str, Any] = {"string": "Ada", "integer": 1, "number": 1.5, "boolean": True, "null": None}


def sample_call(services: Iterable[Service]) -> tuple[str, str] | None:
    """Target, as `holdfast call` takes it, and body as JSON text (empty: none). None: there is nothing to call."""
    for service in sorted(services, key=lambda item: item.type is not Type.SERVICE):
        for handler in sorted(service.handlers, key=lambda item: item.type is not HandlerType.WORKFLOW_RUN):
            if not service.options.ingress_private and not handler.options.ingress_private:
                key = "" if service.type is Type.SERVICE else "/my-key"
                return f"{service.name}{key}/{handler.name}", _body(handler)
    return None


def curl_line(port: int, target: str, body: str) -> str:
    """For a shell."""
    data = f" --json {shlex.quote(body)}" if body else ""
    return f"curl -s localhost:{port}/{target}{data}"


def _body(handler: Handler) -> str:
    if handler.input.json_schema:
        schema = json.loads(handler.input.json_schema)
        return json.dumps(sample_of(schema, schema, DEPTH_MAX), ensure_ascii=False)
    return "{}" if handler.input.required else ""


def sample_of(schema: Any, root: Any, depth: int) -> Any:
    """Some value that fits a JSON schema; ``root`` is where its references point into."""
    if not isinstance(schema, dict) or depth == 0:
        return None
    for name in ("const", "default"):
        if name in schema:
            return schema[name]
    if schema.get("enum"):
        return schema["enum"][0]
    if "$ref" in schema:
        return sample_of(_referred(root, schema["$ref"]), root, depth - 1)
    options = schema.get("anyOf") or schema.get("oneOf")
    if options:
        return sample_of(options[0], root, depth - 1)
    kind = schema.get("type")
    if kind == "object":
        properties = schema.get("properties", {})
        wanted: Any = schema.get("required", properties)
        return {name: sample_of(properties.get(name), root, depth - 1) for name in wanted}
    if kind == "array":
        return [sample_of(schema["items"], root, depth - 1)] if isinstance(schema.get("items"), dict) else []
    return _SAMPLES.get(kind) if isinstance(kind, str) else None


def _referred(root: Any, reference: str) -> Any:
    found = root
    for part in reference.removeprefix("#/").split("/"):
        found = found.get(part, {}) if isinstance(found, dict) else {}
    return found

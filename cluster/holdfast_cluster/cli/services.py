"""``holdfast services``"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from holdfast_cluster.cli.connection import connect
from holdfast_cluster.cli.durations import span_words
from holdfast_cluster.cli.options import connected
from holdfast_cluster.cli.output import document_of, enum_name, one_line, print_fields, print_json, print_table

if TYPE_CHECKING:
    from holdfast_proto import admin_pb2, endpoint_pb2

DOCUMENTATION_CHARACTERS_MAX = 80


@click.group()
def services() -> None:
    """List and show services.

    \b
    Examples:
      holdfast services list
      holdfast services show counter
    """


@services.command("list")
@connected
def list_services(address: str, as_json: bool) -> None:
    """List all services at their latest revision.

    \b
    Example:
      holdfast services list --json
    """
    from holdfast_proto import admin_pb2

    with connect(address) as node:
        answer = node.ask(node.admin.ListServices, admin_pb2.ListServicesRequest())
    if as_json:
        print_json(document_of(answer))
        return
    print_table(
        ["service", "type", "revision>", "deployment", "handlers"],
        [_row(item) for item in answer.services],
        empty="no services; register an endpoint with `holdfast deployments register HOST:PORT`",
    )


@services.command()
@click.argument("name", metavar="SERVICE")
@connected
def show(name: str, address: str, as_json: bool) -> None:
    """Show a service with its handlers, what they take and give, and its settings.

    \b
    Example:
      holdfast services show counter
    """
    from holdfast_proto import admin_pb2

    with connect(address) as node:
        found = node.ask(node.admin.GetService, admin_pb2.GetServiceRequest(name=name))
    if as_json:
        print_json(document_of(found))
        return
    manifest = found.manifest
    print_fields(
        [
            ("service", manifest.name),
            ("type", type_words(manifest.type)),
            ("revision", f"{found.revision}, at deployment {found.deployment_id}"),
            ("public", "" if found.public else "no: only other handlers may call it"),
            ("settings", ", ".join(_settings(manifest.options))),
            ("about", one_line(manifest.documentation, DOCUMENTATION_CHARACTERS_MAX)),
            *((f"metadata {key}", value) for key, value in sorted(manifest.metadata.items())),
        ]
    )
    print_table(
        ["handler", "type", "takes", "gives", "about"],
        [_handler_row(handler) for handler in manifest.handlers],
        empty="no handlers",
    )


def type_words(number: int) -> str:
    from holdfast_proto import endpoint_pb2

    return enum_name(endpoint_pb2.ServiceType.DESCRIPTOR, number).replace("_", " ")


def _row(item: admin_pb2.Service) -> list[str]:
    handlers = ", ".join(handler.name for handler in item.manifest.handlers)
    return [item.manifest.name, type_words(item.manifest.type), str(item.revision), item.deployment_id, handlers]


def _handler_row(handler: endpoint_pb2.HandlerManifest) -> list[str]:
    from holdfast_proto import endpoint_pb2

    kind = enum_name(endpoint_pb2.HandlerType.DESCRIPTOR, handler.type)
    about = [one_line(handler.documentation, DOCUMENTATION_CHARACTERS_MAX), *_settings(handler.options)]
    return [
        handler.name,
        "" if handler.type == endpoint_pb2.HANDLER_TYPE_UNSPECIFIED else kind.replace("_", " "),
        payload_words(handler.input),
        payload_words(handler.output),
        ", ".join(text for text in about if text),
    ]


def payload_words(payload: endpoint_pb2.Payload) -> str:
    """The type in a few words: from the schema if there is one."""
    if payload.json_schema:
        return _schema_words(json.loads(payload.json_schema))
    return payload.content_type if payload.content_type else "nothing"


def _schema_words(schema: Any) -> str:
    if not isinstance(schema, dict):
        return "anything"
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return " or ".join(_schema_words(option) for option in schema["anyOf"])
    kind = schema.get("type", "anything")
    if kind == "array":
        return f"list of {_schema_words(schema.get('items', {}))}"
    if kind == "object" and schema.get("properties"):
        return f"{{{', '.join(schema['properties'])}}}"
    return kind if isinstance(kind, str) else " or ".join(map(str, kind))


def _settings(options: endpoint_pb2.Options) -> list[str]:
    """Those that differ from the node's defaults."""
    words = []
    for field, value in options.ListFields():
        name = field.name.removesuffix("_ms").replace("_", " ")
        if field.name.endswith("_ms"):
            words.append(f"{name} {span_words(value)}")
        elif field.enum_type is not None:
            words.append(f"{name} {enum_name(field.enum_type, value)}")
        else:
            words.append(f"{name} {str(value).lower()}")
    return words

"""What commands print: tables and lines for people, one JSON document for programs."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from google.protobuf.message import Message

PIPE_COLUMNS = 500
"""Width of a table that does not go to a terminal: nothing is cut."""


def print_json(document: Any) -> None:
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, empty: str) -> None:
    """``empty`` is said, on stderr, when there are no rows. A column whose name ends with ">" is aligned right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for number, name in enumerate(columns):
        last = number == len(columns) - 1
        table.add_column(
            name.removesuffix(">"), justify="right" if name.endswith(">") else "left", no_wrap=not last, overflow="fold"
        )
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    if not table.row_count:
        click.echo(empty, err=True)
        return
    Console(width=None if sys.stdout.isatty() else PIPE_COLUMNS, highlight=False).print(table)


def print_fields(fields: Iterable[tuple[str, str]]) -> None:
    """Name and value, one per line; those without a value are left out."""
    shown = [(name, value) for name, value in fields if value]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        click.echo(f"{name:<{width}}  {value}")


def document_of(message: Message) -> dict[str, Any]:
    """A protobuf message as JSON: names as in the .proto file, 64-bit numbers as numbers, bytes as their value."""
    return {field.name: _field(message, field) for field in message.DESCRIPTOR.fields}


def _field(message: Any, field: Any) -> Any:
    value = getattr(message, field.name)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return dict(value)
    if field.is_repeated:
        return [_scalar(field, item) for item in value]
    if field.has_presence and not message.HasField(field.name):
        return None
    return _scalar(field, value)


def _scalar(field: Any, value: Any) -> Any:
    if field.message_type is not None:
        return document_of(value)
    if field.enum_type is not None:
        return enum_name(field.enum_type, value)
    return value_of(value) if isinstance(value, bytes) else value


def enum_name(descriptor: Any, number: int) -> str:
    """Lower case, as options take it."""
    known = descriptor.values_by_number.get(number)
    return str(number) if known is None else known.name.lower()


def value_of(value: bytes) -> Any:
    """What the bytes mean: JSON if they are, else text, else base64; None when there are none."""
    if not value:
        return None
    try:
        return json.loads(value)
    except ValueError:
        pass  # not JSON, and need not be
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


def shown_value(value: bytes) -> str:
    """For a line of text: JSON and text as they are."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return f"({len(value):,} bytes, base64) {base64.b64encode(value).decode()}"


def one_line(text: str, characters_max: int) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= characters_max else flat[: characters_max - 1] + "…"

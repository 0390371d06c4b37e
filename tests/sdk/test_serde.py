from __future__ import annotations

import enum
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypedDict
from uuid import UUID

import msgspec
import pytest
from pydantic import BaseModel

from holdfast import Context, DefinitionError, InvalidValue, Service
from holdfast.serde import Serde, schema_text, serde_for, serde_of


class Colour(enum.Enum):
    RED = "red"


@dataclass
class Point:
    x: int
    y: int = 0


class Line(msgspec.Struct):
    points: list[Point]


class Order(BaseModel):
    id: str
    cents: int


class Options(TypedDict, total=False):
    name: str


@pytest.mark.parametrize(
    ("type_hint", "value", "body"),
    [
        (str, "é", '"é"'.encode()),
        (int, 7, b"7"),
        (float, 1.5, b"1.5"),
        (bool, True, b"true"),
        (None, None, b""),
        (str | None, None, b"null"),
        (bytes, b"\x00\xff", b"\x00\xff"),
        (list[int], [1, 2], b"[1,2]"),
        (dict[str, int], {"b": 1, "a": 2}, b'{"a":2,"b":1}'),
        (set[str], {"c", "a", "b"}, b'["a","b","c"]'),
        (tuple[int, str], (1, "x"), b'[1,"x"]'),
        (Point, Point(1, 2), b'{"x":1,"y":2}'),
        (Line, Line([Point(1)]), b'{"points":[{"x":1,"y":0}]}'),
        (Options, {"name": "x"}, b'{"name":"x"}'),
        (Order, Order(id="1", cents=5), b'{"id":"1","cents":5}'),
        (list[Order], [Order(id="1", cents=5)], b'[{"cents":5,"id":"1"}]'),
        (Colour, Colour.RED, b'"red"'),
        (UUID, UUID(int=1), b'"00000000-0000-0000-0000-000000000001"'),
        (datetime, datetime(2026, 1, 2, tzinfo=UTC), b'"2026-01-02T00:00:00Z"'),
        (Any, {"x": [1, None]}, b'{"x":[1,null]}'),
    ],
)
def test_values_make_the_round_trip(type_hint: Any, value: Any, body: bytes) -> None:
    serde = serde_for(type_hint)
    assert serde.serialize(value) == body
    assert serde.deserialize(body) == value


@pytest.mark.parametrize(
    ("type_hint", "body", "words"),
    [
        (int, b'"x"', "Expected `int`, got `str`"),
        (Line, b'{"points":[{"x":"1"}]}', r"Expected `int`, got `str` - at `\$.points\[0\].x`"),
        (Order, b'{"id":"1"}', r"Field required - at `\$.cents`"),
        (list[Order], b'[{"id":"1"}]', r"Field required - at `\$.cents`"),
        (str, b"", "truncated"),
        (None, b"1", "expected no body, got 1 bytes"),
    ],
)
def test_what_does_not_fit_is_named(type_hint: Any, body: bytes, words: str) -> None:
    with pytest.raises(InvalidValue, match=words):
        serde_for(type_hint).deserialize(body)


@pytest.mark.parametrize(("type_hint", "value"), [(bytes, "x"), (None, 1), (Order, {"id": "1"}), (Any, object())])
def test_what_can_not_be_serialised_is_named(type_hint: Any, value: Any) -> None:
    with pytest.raises(InvalidValue):
        serde_for(type_hint).serialize(value)


def test_state_values_choose_their_serde_themselves() -> None:
    assert serde_of(b"\x01").serialize(b"\x01") == b"\x01"
    assert serde_of(Order(id="1", cents=2)).serialize(Order(id="1", cents=2)) == b'{"cents":2,"id":"1"}'


def test_schemas_are_published() -> None:
    assert schema_text(serde_for(int)) == '{"type":"integer"}'
    assert '"cents"' in schema_text(serde_for(Order))
    assert '"cents"' in schema_text(serde_for(list[Order]))
    assert schema_text(serde_for(bytes)) == ""


def test_pydantic_is_not_imported_unless_it_is_used() -> None:
    code = "import sys, holdfast; from holdfast.serde import serde_for; serde_for(int); print('pydantic' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


# -------------------------------------------------------------------- parameters

made = Service("made")


@made.handler
async def none(ctx: Context) -> None: ...


@made.handler
async def one(ctx: Context, point: Point) -> None: ...


@made.handler
async def optional(ctx: Context, name: str = "nobody") -> None: ...


@made.handler
async def several(ctx: Context, name: str, order: Order, times: int = 1, *, loud: bool = False) -> None: ...


@made.handler
async def raw(ctx: Context, data: bytes) -> bytes:
    return data


def test_bodies_are_made_from_arguments_and_back() -> None:
    order = Order(id="1", cents=2)
    body = several.encode_input("Ada", order, loud=True)
    assert body == b'{"name":"Ada","order":{"id":"1","cents":2},"loud":true}'
    assert several.definition.parameters.decode(body) == (["Ada", order, 1], {"loud": True})
    assert none.encode_input() == b""
    assert one.encode_input(Point(1)) == one.encode_input(point=Point(1)) == b'{"x":1,"y":0}'
    assert optional.encode_input() == b""
    assert optional.definition.parameters.decode(b"") == ([], {})
    assert raw.encode_input(b"\xff") == b"\xff"
    assert [h.content_type for h in (none, one, raw)] == ["", "application/json", "application/octet-stream"]
    assert [h.definition.parameters.required for h in (none, one, optional, several)] == [False, True, False, True]


@pytest.mark.parametrize(
    ("handler", "body", "words"),
    [
        (none, b"1", "expected no body"),
        (one, b"", "a body is needed: the value of `point`"),
        (one, b'{"x":"a"}', r"`point`: Expected `int`, got `str` - at `\$.x`"),
        (several, b'{"name":"x"}', "`order` is missing"),
        (several, b'{"name":"x","nmae":1}', "unknown `nmae`"),
        (several, b'{"name":1,"order":{"id":"1","cents":2}}', "`name`: Expected `str`, got `int`"),
        (several, b'{"name":"x","order":{"id":"1"}}', r"`order`: Field required - at `\$.cents`"),
        (several, b"[]", "a JSON object with"),
    ],
)
def test_bodies_that_do_not_fit_name_the_parameter(handler: Any, body: bytes, words: str) -> None:
    with pytest.raises(InvalidValue, match=words):
        handler.definition.parameters.decode(body)


class Upper:
    """A serde of the user's own."""

    content_type = "text/plain"

    def serialize(self, value: str) -> bytes:
        return value.upper().encode()

    def deserialize(self, data: bytes) -> str:
        return data.decode().lower()


def test_a_serde_of_ones_own_replaces_the_type_hints() -> None:
    own = Service("own")

    @own.handler(input_serde=Upper(), output_serde=Upper())
    async def shout(ctx: Context, text: str) -> str:
        return text

    assert isinstance(Upper(), Serde)
    assert shout.encode_input("hi") == b"HI"
    assert shout.decode_output(b"HO") == "ho"
    with pytest.raises(DefinitionError, match="input_serde needs a handler with one parameter"):

        @own.handler(input_serde=Upper())
        async def two(ctx: Context, a: str, b: str) -> None: ...


def test_types_defined_inside_a_function_and_further_down_are_resolved() -> None:
    @dataclass
    class Local:
        n: int

    own = Service("own")

    @own.handler
    async def local(ctx: Context, value: Local) -> Local:
        return value

    @own.handler
    async def later(ctx: Context, value: Later) -> None: ...

    assert local.encode_input(Local(1)) == b'{"n":1}'
    assert later.encode_input(Later(n=2)) == b'{"n":2}'


@dataclass
class Later:
    n: int


async def test_a_handler_is_still_a_function() -> None:
    assert await raw(None, b"x") == b"x"

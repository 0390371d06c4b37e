"""Values to bytes and back, chosen by type hint.

JSON (by msgspec) unless the type says otherwise: ``bytes`` are passed as they are, ``None`` is an empty body, pydantic
models go through pydantic. Dataclasses, TypedDicts, msgspec structs, enums, dates, UUIDs, decimals and collections
of all these work as they are. A type with needs of its own gets a `Serde`, given to the handler's decorator.

The same value gives the same bytes in every process (sets and dicts are sorted), because replay compares bytes.
"""

from __future__ import annotations

import json
import types
from functools import lru_cache
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import msgspec

from holdfast.errors import InvalidValue

T = TypeVar("T")

JSON = "application/json"
OCTETS = "application/octet-stream"


@runtime_checkable
class Serde(Protocol[T]):
    """How values of one type travel. ``content_type`` is what callers over HTTP see and must send."""

    @property
    def content_type(self) -> str: ...

    def serialize(self, value: T) -> bytes:
        """Raises InvalidValue (or any ValueError or TypeError) for what can't be serialised."""
        ...

    def deserialize(self, data: bytes) -> T:
        """Raises InvalidValue (or any ValueError or TypeError) for what is not valid."""
        ...


class JsonSerde(Generic[T]):
    """JSON of any type that msgspec knows; with pydantic models anywhere inside."""

    content_type = JSON

    def __init__(self, type_hint: Any = Any) -> None:
        self.type_hint = type_hint
        try:
            self._decode = msgspec.json.Decoder(type_hint, dec_hook=_from_json).decode
        except TypeError as error:
            raise InvalidValue(f"{show(type_hint)} is not a type that JSON can be read into: {error}") from None

    def serialize(self, value: T) -> bytes:
        return _encode(value)

    def deserialize(self, data: bytes) -> T:
        try:
            value: T = self._decode(data)
            return value
        except msgspec.DecodeError as error:  # a ValidationError is one as well
            raise InvalidValue(str(error)) from None

    def json_schema(self) -> dict[str, Any] | None:
        """None for types that have none."""
        try:
            return msgspec.json.schema(self.type_hint, schema_hook=_schema_of)
        except TypeError:
            return None


class BytesSerde:
    """Bytes as they are."""

    content_type = OCTETS

    def serialize(self, value: bytes) -> bytes:
        if isinstance(value, bytearray | memoryview):
            return bytes(value)
        if not isinstance(value, bytes):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidValue(f"expected bytes, got {show(type(value))}")
        return value

    def deserialize(self, data: bytes) -> bytes:
        return data


class NoneSerde:
    """None is an empty body; a JSON null is accepted too."""

    content_type = ""

    def serialize(self, value: None) -> bytes:
        if value is not None:  # pyright: ignore[reportUnnecessaryComparison]
            raise InvalidValue(f"expected None, got {show(type(value))}")
        return b""

    def deserialize(self, data: bytes) -> None:
        if data not in (b"", b"null"):
            raise InvalidValue(f"expected no body, got {len(data)} bytes")


class PydanticSerde(Generic[T]):
    """A pydantic model, by its own JSON."""

    content_type = JSON

    def __init__(self, model: Any) -> None:
        self.model = model

    def serialize(self, value: T) -> bytes:
        model: Any = value
        if not isinstance(model, self.model):
            raise InvalidValue(f"expected {show(self.model)}, got {show(type(model))}")
        text: str = model.model_dump_json(by_alias=True)
        return text.encode()

    def deserialize(self, data: bytes) -> T:
        try:
            model: T = self.model.model_validate_json(data)
            return model
        except ValueError as error:
            raise InvalidValue(_pydantic_words(error)) from None

    def json_schema(self) -> dict[str, Any]:
        schema: dict[str, Any] = self.model.model_json_schema(mode="validation")
        return schema


def serde_for(type_hint: Any) -> Serde[Any]:
    """The serde of a type hint. Raises InvalidValue for types that can't travel."""
    try:
        return _cached(type_hint)
    except TypeError:  # unhashable hints, such as Annotated with a list in it
        return _choose(type_hint)


def as_serde(type_or_serde: Any) -> Serde[Any]:
    """What people give where a type is asked for may be a serde as well."""
    if not isinstance(type_or_serde, type) and hasattr(type_or_serde, "deserialize"):
        serde: Serde[Any] = type_or_serde
        return serde
    return serde_for(type_or_serde)


def serde_of(value: object) -> Serde[Any]:
    """The serde for a value whose type nobody declared."""
    if isinstance(value, bytes | bytearray | memoryview):
        return _BYTES
    return ANY


def schema_text(serde: Serde[Any]) -> str:
    """The JSON schema of what ``serde`` carries, as text; empty when there is none."""
    schema_function = getattr(serde, "json_schema", None)
    schema = schema_function() if schema_function is not None else None
    return json.dumps(schema, separators=(",", ":"), sort_keys=True) if schema else ""


def show(type_hint: Any) -> str:
    """A type as people write it."""
    return type_hint.__name__ if isinstance(type_hint, type) and type_hint.__module__ != "typing" else str(type_hint)


def _choose(type_hint: Any) -> Serde[Any]:
    if type_hint is None or type_hint is types.NoneType:
        return _NONE
    if type_hint is bytes or type_hint is bytearray or type_hint is memoryview:
        return _BYTES
    if type_hint is Any or isinstance(type_hint, TypeVar):
        return ANY
    if _is_pydantic(type_hint):
        return PydanticSerde(type_hint)
    return JsonSerde(type_hint)


_cached = lru_cache(maxsize=4096)(_choose)


def _is_pydantic(type_hint: Any) -> bool:
    # Asked by duck typing, so that a program without pydantic never imports it.
    return isinstance(type_hint, type) and hasattr(type_hint, "__pydantic_validator__")


def _to_json(value: Any) -> Any:
    if _is_pydantic(type(value)):
        return value.model_dump(mode="json", by_alias=True)
    raise InvalidValue(f"a value of type {show(type(value))} can't be written as JSON")


def _from_json(type_hint: Any, value: Any) -> Any:
    if _is_pydantic(type_hint):
        try:
            return type_hint.model_validate(value)
        except ValueError as error:
            raise ValueError(_pydantic_words(error)) from None
    raise NotImplementedError(f"JSON can't be read into {show(type_hint)}")


def _schema_of(type_hint: Any) -> dict[str, Any]:
    if _is_pydantic(type_hint):
        schema: dict[str, Any] = type_hint.model_json_schema()
        return schema
    raise NotImplementedError(show(type_hint))


def _pydantic_words(error: ValueError) -> str:
    problems = getattr(error, "errors", None)
    if problems is None:
        return str(error)
    return "; ".join(
        f"{problem['msg']} - at `$.{'.'.join(str(part) for part in problem['loc'])}`"
        if problem["loc"]
        else problem["msg"]
        for problem in problems(include_url=False, include_context=False)
    )


ANY: JsonSerde[Any] = JsonSerde(Any)
_BYTES = BytesSerde()
_NONE = NoneSerde()
_ENCODER = msgspec.json.Encoder(enc_hook=_to_json, order="deterministic")


def _encode(value: object) -> bytes:
    try:
        return _ENCODER.encode(value)
    except InvalidValue:
        raise
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidValue(str(error)) from None

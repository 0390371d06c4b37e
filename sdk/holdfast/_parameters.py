"""What a handler takes, as the body of a request.

    no parameter        empty body
    one parameter       the body is the value
    several parameters  the body is a JSON object with a member for each

A parameter with a default may be left out; so may the whole body when all have one.
"""

from __future__ import annotations

import inspect
import json
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from holdfast.errors import DefinitionError, InvalidValue
from holdfast.serde import JSON, Serde, schema_text, serde_for

_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_SIMPLE = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class Parameters:
    """The parameters of one handler, without the context."""

    __slots__ = ("_names", "_serdes", "_single", "_takes", "signature")

    def __init__(
        self, signature: inspect.Signature, hints: Mapping[str, Any], single: Serde[Any] | None = None
    ) -> None:
        """``single`` replaces the serde of the only parameter."""
        self.signature = signature
        self._takes = list(signature.parameters.values())
        if single is not None and len(self._takes) != 1:
            raise DefinitionError(f"input_serde needs a handler with one parameter, this one has {len(self._takes)}")
        self._names = {parameter.name for parameter in self._takes}
        self._serdes = {
            parameter.name: single if single is not None else serde_for(hints.get(parameter.name, Any))
            for parameter in self._takes
        }
        self._single = self._serdes[self._takes[0].name] if len(self._takes) == 1 else None

    @property
    def content_type(self) -> str:
        """Empty when there is no body."""
        if self._single is not None:
            return self._single.content_type
        return JSON if self._takes else ""

    @property
    def required(self) -> bool:
        """Whether there must be a body."""
        return self.content_type == JSON and any(p.default is inspect.Parameter.empty for p in self._takes)

    def schema(self) -> str:
        """JSON schema of the body as text; empty when unknown."""
        if self._single is not None:
            return schema_text(self._single)
        if not self._takes:
            return ""
        members = {name: json.loads(schema_text(serde) or "{}") for name, serde in self._serdes.items()}
        needed = [p.name for p in self._takes if p.default is inspect.Parameter.empty]
        return json.dumps({"type": "object", "properties": members, "required": needed}, separators=(",", ":"))

    def encode(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
        """The body of a call with these arguments. Raises InvalidValue; TypeError like a function call does."""
        if self._single is not None and len(args) == 1 and not kwargs:
            return bytes(_named(self._takes[0].name, self._single.serialize, args[0]))
        given = self.signature.bind(*args, **kwargs).arguments
        if self._single is not None:
            name = self._takes[0].name
            return bytes(_named(name, self._single.serialize, given[name])) if name in given else b""
        if not self._takes:
            return b""
        members = {name: msgspec.Raw(_named(name, self._serdes[name].serialize, given[name])) for name in given}
        return msgspec.json.encode(members)

    def decode(self, body: bytes) -> tuple[list[Any], dict[str, Any]]:
        """The arguments in a body, positional and by keyword. Raises InvalidValue, which names the parameter."""
        if self._single is not None:
            return self._decode_single(self._single, body)
        if not self._takes:
            if body not in (b"", b"null"):
                raise InvalidValue(f"expected no body, got {len(body)} bytes")
            return [], {}
        return self._bound(self._decode_members(body))

    def _decode_single(self, serde: Serde[Any], body: bytes) -> tuple[list[Any], dict[str, Any]]:
        parameter = self._takes[0]
        if not body and serde.content_type == JSON:
            if parameter.default is inspect.Parameter.empty:
                raise InvalidValue(f"a body is needed: the value of `{parameter.name}`")
            return [], {}
        value = _named(parameter.name, serde.deserialize, body)
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            return [], {parameter.name: value}
        return [value], {}

    def _decode_members(self, body: bytes) -> dict[str, Any]:
        try:
            members = _OBJECT.decode(body or b"{}")
        except msgspec.DecodeError as error:
            raise InvalidValue(f"a JSON object with {', '.join(sorted(self._names))} is needed: {error}") from None
        unknown = members.keys() - self._names
        if unknown:
            raise InvalidValue(f"unknown `{min(unknown)}`; known are {', '.join(sorted(self._names))}")
        missing = [p.name for p in self._takes if p.default is inspect.Parameter.empty and p.name not in members]
        if missing:
            raise InvalidValue(f"`{missing[0]}` is missing")
        return {name: _named(name, self._serdes[name].deserialize, bytes(raw)) for name, raw in members.items()}

    def _bound(self, values: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        bound = inspect.BoundArguments(self.signature, OrderedDict())
        for parameter in self._takes:
            if parameter.name in values:
                bound.arguments[parameter.name] = values[parameter.name]
        bound.apply_defaults()
        return list(bound.args), bound.kwargs


def handler_signature(function: Callable[..., Any]) -> inspect.Signature:
    """The parameters after the context. Raises DefinitionError for what a body can't fill."""
    name = getattr(function, "__qualname__", repr(function))
    parameters = list(inspect.signature(function).parameters.values())
    if not parameters or parameters[0].kind not in _SIMPLE[:2]:
        raise DefinitionError(f"handler {name} must take the context as its first parameter")
    for parameter in parameters[1:]:
        if parameter.kind not in _SIMPLE:
            raise DefinitionError(
                f"handler {name}: *{parameter.name} can't be filled from a request; name each parameter"
            )
    return inspect.Signature(parameters[1:])


def _named(name: str, convert: Callable[[Any], Any], value: Any) -> Any:
    try:
        return convert(value)
    except (ValueError, TypeError) as error:
        raise InvalidValue(f"`{name}`: {error}") from None

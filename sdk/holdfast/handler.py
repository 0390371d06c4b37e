"""A handler: still a plain function, and a typed target for durable calls."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Generic, ParamSpec, TypeVar, get_type_hints

import msgspec

from holdfast import serde
from holdfast.errors import TerminalError
from holdfast_proto.endpoint_pb2 import HandlerType

P = ParamSpec("P")
R = TypeVar("R")


class Handler(Generic[P, R]):
    """Made by ``@service.handler``. Call it with a context of your own to unit-test it; pass it to ``ctx.call``,
    ``ctx.send`` or a client to have it run durably."""

    def __init__(self, service: str, kind: HandlerType.ValueType, fn: Callable[..., Any], keyed: bool) -> None:
        if not inspect.iscoroutinefunction(fn):
            raise TypeError(f"handler {service}/{fn.__name__} must be an 'async def'")
        self.service = service
        self.name = fn.__name__
        self.kind = kind
        self.keyed = keyed
        self.key: str | None = None
        self.fn = fn
        hints = get_type_hints(fn)
        parameters = list(inspect.signature(fn).parameters.values())[1:]
        self.parameters = [(parameter.name, hints.get(parameter.name, Any)) for parameter in parameters]
        self.defaults = {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}
        self.returns: Any = hints.get("return", Any)
        self.__doc__ = fn.__doc__

    def __call__(self, ctx: Any, *args: P.args, **kwargs: P.kwargs) -> Awaitable[R]:
        result: Awaitable[R] = self.fn(ctx, *args, **kwargs)
        return result

    def __getitem__(self, key: str) -> Handler[P, R]:
        """The handler of one virtual object or workflow key."""
        if not self.keyed:
            raise TypeError(f"service '{self.service}' takes no key")
        bound: Handler[P, R] = object.__new__(Handler)
        bound.__dict__.update(self.__dict__)
        bound.key = key
        return bound

    def encode_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """One parameter is the body, several are the fields of a JSON object. Raises TypeError."""
        if self.keyed and self.key is None:
            raise TypeError(f"{self.service}/{self.name} is keyed: use {self.name}[key]")
        names = [name for name, _ in self.parameters]
        if len(args) > len(names):
            raise TypeError(f"{self.service}/{self.name} takes {len(names)} arguments, {len(args)} were given")
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        missing = [name for name in names if name not in given and name not in self.defaults]
        unknown = [name for name in given if name not in names]
        if missing or unknown:
            raise TypeError(f"{self.service}/{self.name}: missing {missing}, unknown {unknown}")
        if not names:
            return b""
        if len(names) == 1:
            return serde.encode(given.get(names[0], self.defaults.get(names[0])))
        return msgspec.json.encode({name: msgspec.Raw(serde.encode(value) or b"null") for name, value in given.items()})

    def decode_arguments(self, body: bytes) -> list[Any]:
        """Raises TerminalError 400 when the body does not fit."""
        try:
            if not self.parameters:
                return []
            if len(self.parameters) == 1:
                name, kind = self.parameters[0]
                return [self.defaults[name] if not body and name in self.defaults else serde.decode(body, kind)]
            fields = msgspec.json.decode(body or b"{}", type=dict[str, msgspec.Raw])
            values = []
            for name, kind in self.parameters:
                if name not in fields and name in self.defaults:
                    values.append(self.defaults[name])
                elif name not in fields:
                    raise ValueError(f"field '{name}' is missing")
                else:
                    values.append(serde.decode(bytes(fields[name]), kind))
        except ValueError as error:
            raise TerminalError(f"input of {self.service}/{self.name} is not valid: {error}", code=400) from error
        return values

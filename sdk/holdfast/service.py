"""Services: handlers without key or state, as many at a time as come."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, Unpack, overload

from holdfast._registration import ServiceBase
from holdfast.context import Context
from holdfast.handler import Handler, HandlerOptions, HandlerType, ServiceType
from holdfast.serde import Serde

P = ParamSpec("P")
R = TypeVar("R")


class ServiceDecorator(Protocol):
    @overload
    def __call__(self, function: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]], /) -> Handler[P, R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[Context, P], R], /) -> Handler[P, R]: ...


class Service(ServiceBase):
    """A named group of stateless handlers::

        greeter = Service("greeter")

        @greeter.handler
        async def greet(ctx: Context, name: str) -> str:
            return f"Hello {name}"

    Options (see `HandlerOptions`) hold for all handlers of the service, unless a handler has its own.
    """

    def __init__(self, name: str, *, documentation: str = "", **options: Unpack[HandlerOptions]) -> None:
        super().__init__(name, ServiceType.SERVICE, documentation, options)

    @overload
    def handler(self, function: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]], /) -> Handler[P, R]: ...
    @overload
    def handler(self, function: Callable[Concatenate[Context, P], R], /) -> Handler[P, R]: ...
    @overload
    def handler(
        self,
        /,
        *,
        name: str | None = None,
        input_serde: Serde[Any] | None = None,
        output_serde: Serde[Any] | None = None,
        **options: Unpack[HandlerOptions],
    ) -> ServiceDecorator: ...

    def handler(
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        name: str | None = None,
        input_serde: Serde[Any] | None = None,
        output_serde: Serde[Any] | None = None,
        **options: Unpack[HandlerOptions],
    ) -> Any:
        """Make a function a handler of this service, under its own name or ``name``."""

        def decorate(function: Callable[..., Any]) -> Handler[..., Any]:
            serdes = (input_serde, output_serde)
            return Handler(self._add(HandlerType.SERVICE, function, name, options, serdes, depth=2 + direct))

        direct = function is not None
        return decorate if function is None else decorate(function)

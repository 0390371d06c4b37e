"""Virtual objects: handlers with a key, and state for each key."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, Unpack, overload

from holdfast._registration import ServiceBase
from holdfast.context import ObjectContext, SharedContext
from holdfast.handler import HandlerOptions, HandlerType, Keyed, ServiceType
from holdfast.serde import Serde

P = ParamSpec("P")
R = TypeVar("R")


class ObjectDecorator(Protocol):
    @overload
    def __call__(self, function: Callable[Concatenate[ObjectContext, P], Coroutine[Any, Any, R]], /) -> Keyed[P, R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[ObjectContext, P], R], /) -> Keyed[P, R]: ...


class SharedDecorator(Protocol):
    @overload
    def __call__(self, function: Callable[Concatenate[SharedContext, P], Coroutine[Any, Any, R]], /) -> Keyed[P, R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[SharedContext, P], R], /) -> Keyed[P, R]: ...


class VirtualObject(ServiceBase):
    """Objects that live by their key: of its exclusive handlers one runs at a time for each key, in the order in which
    they were called, so they may read and write the key's state without races::

        counter = VirtualObject("counter")

        @counter.handler
        async def add(ctx: ObjectContext, n: int) -> int:
            value = await ctx.get("value", int, 0) + n
            ctx.set("value", value)
            return value

    Shared handlers run beside them and only read.
    """

    def __init__(self, name: str, *, documentation: str = "", **options: Unpack[HandlerOptions]) -> None:
        super().__init__(name, ServiceType.VIRTUAL_OBJECT, documentation, options)

    @overload
    def handler(self, function: Callable[Concatenate[ObjectContext, P], Coroutine[Any, Any, R]], /) -> Keyed[P, R]: ...
    @overload
    def handler(self, function: Callable[Concatenate[ObjectContext, P], R], /) -> Keyed[P, R]: ...
    @overload
    def handler(
        self,
        /,
        *,
        name: str | None = None,
        input_serde: Serde[Any] | None = None,
        output_serde: Serde[Any] | None = None,
        **options: Unpack[HandlerOptions],
    ) -> ObjectDecorator: ...

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
        """Make a function an exclusive handler: one at a time for each key, may write state."""
        return self._decorate(HandlerType.EXCLUSIVE, function, name, (input_serde, output_serde), options)

    @overload
    def shared(self, function: Callable[Concatenate[SharedContext, P], Coroutine[Any, Any, R]], /) -> Keyed[P, R]: ...
    @overload
    def shared(self, function: Callable[Concatenate[SharedContext, P], R], /) -> Keyed[P, R]: ...
    @overload
    def shared(
        self,
        /,
        *,
        name: str | None = None,
        input_serde: Serde[Any] | None = None,
        output_serde: Serde[Any] | None = None,
        **options: Unpack[HandlerOptions],
    ) -> SharedDecorator: ...

    def shared(
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        name: str | None = None,
        input_serde: Serde[Any] | None = None,
        output_serde: Serde[Any] | None = None,
        **options: Unpack[HandlerOptions],
    ) -> Any:
        """Make a function a shared handler: any number at a time, reads state only."""
        return self._decorate(HandlerType.SHARED, function, name, (input_serde, output_serde), options)

    def _decorate(
        self,
        type: HandlerType,
        function: Callable[..., Any] | None,
        name: str | None,
        serdes: tuple[Serde[Any] | None, Serde[Any] | None],
        options: HandlerOptions,
    ) -> Any:
        def decorate(function: Callable[..., Any]) -> Keyed[..., Any]:
            return Keyed(self._add(type, function, name, options, serdes, depth=2 + 2 * direct))

        direct = function is not None
        return decorate if function is None else decorate(function)

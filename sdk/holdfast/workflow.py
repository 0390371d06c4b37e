"""Workflows: a main handler that runs once for each key, and handlers that talk to it while it runs."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, Unpack, overload

from holdfast._registration import ServiceBase
from holdfast.context import WorkflowContext, WorkflowSharedContext
from holdfast.handler import HandlerOptions, HandlerType, Keyed, ServiceType
from holdfast.serde import Serde

P = ParamSpec("P")
R = TypeVar("R")


class MainDecorator(Protocol):
    @overload
    def __call__(
        self, function: Callable[Concatenate[WorkflowContext, P], Coroutine[Any, Any, R]], /
    ) -> Keyed[P, R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[WorkflowContext, P], R], /) -> Keyed[P, R]: ...


class WorkflowSharedDecorator(Protocol):
    @overload
    def __call__(
        self, function: Callable[Concatenate[WorkflowSharedContext, P], Coroutine[Any, Any, R]], /
    ) -> Keyed[P, R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[WorkflowSharedContext, P], R], /) -> Keyed[P, R]: ...


class Workflow(ServiceBase):
    """A process with a beginning and an end: its main handler runs once for each key, however often it is called::

    publish = Workflow("publish")

    @publish.main
    async def run(ctx: WorkflowContext, episode: Episode) -> Report:
        text = await ctx.run(transcribe, episode.url)
        who = await ctx.promise("approved", str)
        ...

    @publish.handler
    async def approve(ctx: WorkflowSharedContext, by: str) -> None:
        await ctx.promise("approved", str).resolve(by)
    """

    def __init__(self, name: str, *, documentation: str = "", **options: Unpack[HandlerOptions]) -> None:
        super().__init__(name, ServiceType.WORKFLOW, documentation, options)

    @overload
    def main(self, function: Callable[Concatenate[WorkflowContext, P], Coroutine[Any, Any, R]], /) -> Keyed[P, R]: ...
    @overload
    def main(self, function: Callable[Concatenate[WorkflowContext, P], R], /) -> Keyed[P, R]: ...
    @overload
    def main(
        self,
        /,
        *,
        name: str | None = None,
        input_serde: Serde[Any] | None = None,
        output_serde: Serde[Any] | None = None,
        **options: Unpack[HandlerOptions],
    ) -> MainDecorator: ...

    def main(
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        name: str | None = None,
        input_serde: Serde[Any] | None = None,
        output_serde: Serde[Any] | None = None,
        **options: Unpack[HandlerOptions],
    ) -> Any:
        """Make a function the main handler: once for each key. A workflow has exactly one."""
        return self._decorate(HandlerType.WORKFLOW_RUN, function, name, (input_serde, output_serde), options)

    @overload
    def handler(
        self, function: Callable[Concatenate[WorkflowSharedContext, P], Coroutine[Any, Any, R]], /
    ) -> Keyed[P, R]: ...
    @overload
    def handler(self, function: Callable[Concatenate[WorkflowSharedContext, P], R], /) -> Keyed[P, R]: ...
    @overload
    def handler(
        self,
        /,
        *,
        name: str | None = None,
        input_serde: Serde[Any] | None = None,
        output_serde: Serde[Any] | None = None,
        **options: Unpack[HandlerOptions],
    ) -> WorkflowSharedDecorator: ...

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
        """Make a function a handler that runs beside the main one: it reads state, and resolves promises."""
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

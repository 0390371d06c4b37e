"""Service, VirtualObject and Workflow: where handlers are registered."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, TypeVar

from holdfast.context import Context, ObjectContext, SharedContext, WorkflowContext, WorkflowSharedContext
from holdfast.handler import Handler
from holdfast_proto import endpoint_pb2 as ep

P = ParamSpec("P")
R = TypeVar("R")


class ServiceBase:
    type: ep.ServiceType.ValueType

    def __init__(self, name: str, *, documentation: str = "") -> None:
        self.name = name
        self.documentation = documentation
        self.handlers: dict[str, Handler[Any, Any]] = {}

    def _add(self, fn: Callable[..., Any], kind: ep.HandlerType.ValueType, keyed: bool) -> Handler[Any, Any]:
        handler: Handler[Any, Any] = Handler(self.name, kind, fn, keyed)
        if handler.name in self.handlers:
            raise ValueError(f"'{self.name}' has two handlers named '{handler.name}'")
        self.handlers[handler.name] = handler
        return handler


class Service(ServiceBase):
    """Stateless handlers, any number at a time."""

    type = ep.SERVICE

    def handler(self, fn: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]], /) -> Handler[P, R]:
        return self._add(fn, ep.HANDLER_TYPE_UNSPECIFIED, False)


class VirtualObject(ServiceBase):
    """Handlers with state per key; exclusive ones run one at a time per key, in the order of their calls."""

    type = ep.VIRTUAL_OBJECT

    def handler(self, fn: Callable[Concatenate[ObjectContext, P], Coroutine[Any, Any, R]], /) -> Handler[P, R]:
        return self._add(fn, ep.EXCLUSIVE, True)

    def shared(self, fn: Callable[Concatenate[SharedContext, P], Coroutine[Any, Any, R]], /) -> Handler[P, R]:
        """Runs beside everything else, and may only read state."""
        return self._add(fn, ep.SHARED, True)


class Workflow(ServiceBase):
    """A main handler that runs once per key, and others that talk to it."""

    type = ep.WORKFLOW

    def main(self, fn: Callable[Concatenate[WorkflowContext, P], Coroutine[Any, Any, R]], /) -> Handler[P, R]:
        return self._add(fn, ep.WORKFLOW_RUN, True)

    def handler(self, fn: Callable[Concatenate[WorkflowSharedContext, P], Coroutine[Any, Any, R]], /) -> Handler[P, R]:
        return self._add(fn, ep.SHARED, True)

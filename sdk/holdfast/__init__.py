"""Holdfast for Python: ordinary functions whose every step survives crashes, retries and redeployments.

::

    from holdfast import Context, Service, serve

    greeter = Service("greeter")

    @greeter.handler
    async def greet(ctx: Context, name: str) -> str:
        return f"Hello {name}"

    if __name__ == "__main__":
        serve([greeter])

Read `holdfast.context` next: it says what a handler can do.
"""

from holdfast.context import (
    Awakeable,
    CallFuture,
    Context,
    Future,
    ObjectContext,
    Promise,
    Sent,
    SharedContext,
    WorkflowContext,
    WorkflowSharedContext,
)
from holdfast.endpoint import Endpoint, serve
from holdfast.errors import Cancelled, DefinitionError, InvalidValue, NotDurable, TerminalError
from holdfast.handler import Handler, Keyed
from holdfast.retry_policy import RetryPolicy
from holdfast.serde import Serde
from holdfast.service import Service
from holdfast.virtual_object import VirtualObject
from holdfast.workflow import Workflow

__all__ = [
    "Awakeable",
    "CallFuture",
    "Cancelled",
    "Context",
    "DefinitionError",
    "Endpoint",
    "Future",
    "Handler",
    "InvalidValue",
    "Keyed",
    "NotDurable",
    "ObjectContext",
    "Promise",
    "RetryPolicy",
    "Sent",
    "Serde",
    "Service",
    "SharedContext",
    "TerminalError",
    "VirtualObject",
    "Workflow",
    "WorkflowContext",
    "WorkflowSharedContext",
    "serve",
]

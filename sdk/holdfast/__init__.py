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

from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from holdfast.client import Client
    from holdfast.sync_client import SyncClient

__all__ = [
    "Awakeable",
    "CallFuture",
    "Cancelled",
    "Client",
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
    "SyncClient",
    "TerminalError",
    "VirtualObject",
    "Workflow",
    "WorkflowContext",
    "WorkflowSharedContext",
    "serve",
]


def __getattr__(name: str) -> object:
    """The clients are imported when they are asked for: a program that only serves handlers has no use for them."""
    if name == "Client":
        from holdfast.client import Client

        return Client
    if name == "SyncClient":
        from holdfast.sync_client import SyncClient

        return SyncClient
    raise AttributeError(f"module 'holdfast' has no attribute {name!r}")

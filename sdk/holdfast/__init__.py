"""Durable functions: ordinary Python that survives crashes, retries and deployments.

Start reading at `holdfast.context`: it is everything that a handler may do.
"""

from holdfast.context import (
    Awakeable,
    CallHandle,
    Context,
    DurableFuture,
    DurablePromise,
    ObjectContext,
    SharedContext,
    WorkflowContext,
    WorkflowSharedContext,
)
from holdfast.endpoint import Endpoint, serve
from holdfast.errors import Cancelled, JournalMismatch, NotDurable, TerminalError
from holdfast.handler import Handler
from holdfast.retry_policy import RetryPolicy
from holdfast.service import Service, VirtualObject, Workflow

__all__ = [
    "Awakeable",
    "CallHandle",
    "Cancelled",
    "Context",
    "DurableFuture",
    "DurablePromise",
    "Endpoint",
    "Handler",
    "JournalMismatch",
    "NotDurable",
    "ObjectContext",
    "RetryPolicy",
    "Service",
    "SharedContext",
    "TerminalError",
    "VirtualObject",
    "Workflow",
    "WorkflowContext",
    "WorkflowSharedContext",
    "serve",
]

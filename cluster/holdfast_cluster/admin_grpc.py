"""The Admin service of admin.proto on this node: each rpc is a few lines that find who does the work.

Errors travel as gRPC statuses, see `admin_error`. Whatever else goes wrong is a bug of ours: it is logged with its
trace, and the caller hears INTERNAL and nothing about our insides.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from importlib.metadata import version
from typing import Any, Protocol, TypeVar

import grpc
import grpc.aio

from holdfast_cluster.admin_error import AdminError, InvalidRequest, NotFound, Refused
from holdfast_cluster.command_reply import CommandTaker, ask
from holdfast_cluster.deployment_view import deployment_message, service_message
from holdfast_cluster.invocation_detail import invocation_detail
from holdfast_cluster.invocation_listing import list_invocations
from holdfast_cluster.registry import Registry
from holdfast_cluster.state_admin import StateAdmin
from holdfast_partition_processor import tables as t
from holdfast_partition_processor.action import Outcome
from holdfast_partition_processor.catalog import Catalog
from holdfast_partition_processor.command import Cancel, Command, Kill, Purge
from holdfast_partition_processor.deployment import RegistrationOutcome
from holdfast_partition_processor.ids import partition_of_id
from holdfast_partition_processor.invocation import Invocation
from holdfast_partition_processor.tables import Storage
from holdfast_proto import admin_pb2 as pb
from holdfast_proto import admin_pb2_grpc
from holdfast_proto.identifiers import MalformedIdentifier, decode_invocation_id

logger = logging.getLogger(__name__)

RUNNING_COUNTED_MAX = 100_000
"""A status answer counts no further."""

_OUTCOMES = {
    RegistrationOutcome.CREATED: pb.RegisterDeploymentResponse.CREATED,
    RegistrationOutcome.UNCHANGED: pb.RegisterDeploymentResponse.UNCHANGED,
    RegistrationOutcome.OVERWRITTEN: pb.RegisterDeploymentResponse.OVERWRITTEN,
}

Q = TypeVar("Q")
A = TypeVar("A")


class LogPosition(Protocol):
    @property
    def last_index(self) -> int: ...
    @property
    def commit_index(self) -> int: ...


class AdminPartition(CommandTaker, Protocol):
    """The part of `PartitionProcessor` that is shown and steered."""

    @property
    def storage(self) -> Storage: ...
    @property
    def log(self) -> LogPosition: ...
    @property
    def is_leading(self) -> bool: ...
    @property
    def term(self) -> int: ...
    @property
    def applied_index(self) -> int: ...
    @property
    def durable_index(self) -> int: ...


class AdminNode(Protocol):
    """The part of `Node` that is shown and steered."""

    @property
    def name(self) -> str: ...
    @property
    def cluster(self) -> str: ...
    @property
    def started_at_ms(self) -> int: ...
    @property
    def processors(self) -> Mapping[int, AdminPartition]: ...
    @property
    def catalog(self) -> Catalog: ...
    @property
    def registry(self) -> Registry: ...


Method = Callable[["AdminServicer", Q, "grpc.aio.ServicerContext[Any, Any]"], Awaitable[A]]


def _answers(work: Callable[[AdminServicer, Q], Awaitable[A]]) -> Method[Q, A]:
    """An rpc from a method that takes the request and raises AdminError."""

    async def method(self: AdminServicer, request: Q, context: grpc.aio.ServicerContext[Any, Any]) -> A:
        try:
            return await work(self, request)
        except AdminError as error:
            await context.abort(error.status, error.message)
        except Exception:
            logger.exception("%s failed", work.__name__)
            await context.abort(grpc.StatusCode.INTERNAL, f"{work.__name__} failed; the node's log has the details")
        raise AssertionError("abort raises")

    method.__name__ = work.__name__
    return method


class AdminServicer(admin_pb2_grpc.AdminServicer):
    def __init__(self, node: AdminNode) -> None:
        self._node = node
        self._state = StateAdmin(node.processors)

    # ------------------------------------------------------------ deployments and services

    @_answers
    async def RegisterDeployment(self, request: pb.RegisterDeploymentRequest) -> pb.RegisterDeploymentResponse:
        done = await self._node.registry.register(
            request.address,
            force=request.force,
            breaking=request.breaking,
            dry_run=request.dry_run,
            metadata=request.metadata,
        )
        deployment = deployment_message(self._node.catalog, done.deployment)
        return pb.RegisterDeploymentResponse(outcome=_OUTCOMES[done.outcome], deployment=deployment, notes=done.notes)

    @_answers
    async def ListDeployments(self, request: pb.ListDeploymentsRequest) -> pb.ListDeploymentsResponse:
        catalog = self._node.catalog
        oldest_first = sorted(catalog.deployments.values(), key=lambda item: (item.created_at_ms, item.id))
        return pb.ListDeploymentsResponse(deployments=[deployment_message(catalog, item) for item in oldest_first])

    @_answers
    async def GetDeployment(self, request: pb.GetDeploymentRequest) -> pb.Deployment:
        return deployment_message(self._node.catalog, self._node.registry.deployment(request.id))

    @_answers
    async def RemoveDeployment(self, request: pb.RemoveDeploymentRequest) -> pb.RemoveDeploymentResponse:
        await self._node.registry.remove(request.id, force=request.force)
        return pb.RemoveDeploymentResponse()

    @_answers
    async def ListServices(self, request: pb.ListServicesRequest) -> pb.ListServicesResponse:
        services = self._node.catalog.services.values()
        return pb.ListServicesResponse(services=[service_message(item) for item in services])

    @_answers
    async def GetService(self, request: pb.GetServiceRequest) -> pb.Service:
        found = self._node.catalog.services.get(request.name)
        if found is None:
            raise NotFound(f"service {request.name[:80]!r} is not registered")
        return service_message(found)

    # ------------------------------------------------------------ invocations

    @_answers
    async def ListInvocations(self, request: pb.ListInvocationsRequest) -> pb.ListInvocationsResponse:
        return await list_invocations(self._node.processors, request)

    @_answers
    async def GetInvocation(self, request: pb.GetInvocationRequest) -> pb.InvocationDetail:
        invocation_id, partition = self._locate(request.id)
        row = _row(partition.storage, invocation_id, request.id)
        return invocation_detail(partition.storage, partition.partition, row, request)

    @_answers
    async def CancelInvocation(self, request: pb.InvocationRequest) -> pb.InvocationResponse:
        return await self._steer(request, lambda invocation_id, number: Cancel(invocation_id, number))

    @_answers
    async def KillInvocation(self, request: pb.InvocationRequest) -> pb.InvocationResponse:
        return await self._steer(request, lambda invocation_id, number: Kill(invocation_id, number))

    @_answers
    async def PurgeInvocation(self, request: pb.InvocationRequest) -> pb.InvocationResponse:
        return await self._steer(request, lambda invocation_id, number: Purge(invocation_id, number))

    # ------------------------------------------------------------ state

    @_answers
    async def ListState(self, request: pb.ListStateRequest) -> pb.ListStateResponse:
        return self._state.list_state(self._node.catalog, request)

    @_answers
    async def EditState(self, request: pb.EditStateRequest) -> pb.EditStateResponse:
        await self._state.edit_state(self._node.catalog, request)
        return pb.EditStateResponse()

    # ------------------------------------------------------------ the node

    @_answers
    async def GetStatus(self, request: pb.GetStatusRequest) -> pb.StatusResponse:
        node = self._node
        return pb.StatusResponse(
            version=version("holdfast"),
            node=node.name,
            cluster=node.cluster,
            partitions=[_partition_status(number, found) for number, found in sorted(node.processors.items())],
            started_at_ms=node.started_at_ms,
        )

    # ------------------------------------------------------------

    def _locate(self, text: str) -> tuple[bytes, AdminPartition]:
        try:
            invocation_id = decode_invocation_id(text)
        except MalformedIdentifier as error:
            raise InvalidRequest(f"id: {error}") from None
        processors = self._node.processors
        return invocation_id, processors[partition_of_id(invocation_id, len(processors))]

    async def _steer(
        self, request: pb.InvocationRequest, command_of: Callable[[bytes, int], Command]
    ) -> pb.InvocationResponse:
        invocation_id, partition = self._locate(request.id)
        reply = await ask(partition, lambda number: command_of(invocation_id, number))
        match reply.outcome:
            case Outcome.DONE:
                return pb.InvocationResponse(outcome=pb.InvocationResponse.DONE)
            case Outcome.APPENDED:
                return pb.InvocationResponse(outcome=pb.InvocationResponse.APPENDED)
            case Outcome.NOT_FOUND:
                raise _no_invocation(request.id)
            case Outcome.ALREADY_COMPLETED:
                raise Refused(f"invocation {request.id} is completed already")
            case Outcome.NOT_COMPLETED:
                raise Refused(f"invocation {request.id} is not completed; cancel or kill it first")
            case _:
                raise AssertionError(f"no such reply to a command of an operator: {reply}")


def _row(storage: Storage, invocation_id: bytes, text: str) -> Invocation:
    row = storage.get(t.INVOCATIONS, b"", t.sortable_id(invocation_id))
    if row is None:
        raise _no_invocation(text)
    return row


def _no_invocation(text: str) -> NotFound:
    return NotFound(f"there is no invocation {text}; it may have been purged after its retention")


def _partition_status(number: int, processor: AdminPartition) -> pb.PartitionStatus:
    return pb.PartitionStatus(
        partition=number,
        leader=processor.is_leading,
        term=processor.term,
        last_index=processor.log.last_index,
        commit_index=processor.log.commit_index,
        applied_index=processor.applied_index,
        durable_index=processor.durable_index,
        running_invocations=sum(1 for _ in processor.storage.scan(t.RUNNING, b"", limit=RUNNING_COUNTED_MAX)),
    )

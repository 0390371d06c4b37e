"""The admin gRPC service of a node."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import grpc
import grpc.aio

from holdfast_cluster.node_view import NodeView
from holdfast_cluster.registry import RegistryError, ask
from holdfast_log.types import LogError
from holdfast_partition_processor import tables as t
from holdfast_partition_processor.action import Outcome
from holdfast_partition_processor.command import Cancel, Command, Deployment, EditState, InvokedBy, Kill, Purge
from holdfast_partition_processor.discovery import DiscoveryError
from holdfast_partition_processor.ids import partition_key_of
from holdfast_partition_processor.invocation import Invocation, Status
from holdfast_partition_processor.processor import PartitionProcessor
from holdfast_proto import admin_pb2 as ad
from holdfast_proto import endpoint_pb2 as ep
from holdfast_proto.admin_pb2_grpc import AdminServicer as AdminBase
from holdfast_proto.framing import HEADER, MessageType
from holdfast_proto.identifiers import MalformedIdentifier, decode_invocation_id, encode_invocation_id

T = TypeVar("T")
PAGE_SIZE = 100
PAGE_SIZE_MAX = 1_000
_STATUS = {
    Status.SCHEDULED: ad.SCHEDULED,
    Status.INBOXED: ad.PENDING,
    Status.INVOKED: ad.RUNNING,
    Status.BACKING_OFF: ad.BACKING_OFF,
    Status.SUSPENDED: ad.SUSPENDED,
    Status.PAUSED: ad.PAUSED,
    Status.COMPLETED: ad.COMPLETED,
}
_OUTCOMES = {
    "created": ad.RegisterDeploymentResponse.CREATED,
    "unchanged": ad.RegisterDeploymentResponse.UNCHANGED,
    "overwritten": ad.RegisterDeploymentResponse.OVERWRITTEN,
}


class AdminServicer(AdminBase):
    def __init__(self, node: NodeView) -> None:
        self._node = node

    async def RegisterDeployment(self, request: ad.RegisterDeploymentRequest, context: Any) -> Any:
        try:
            outcome, deployment = await self._node.registry.register(
                request.address, force=request.force, breaking=request.breaking, dry_run=request.dry_run
            )
        except (DiscoveryError, RegistryError) as error:
            await _abort(context, grpc.StatusCode.FAILED_PRECONDITION, str(error))
        except (LogError, TimeoutError) as error:
            await _abort(context, grpc.StatusCode.UNAVAILABLE, f"registration did not finish: {error}")
        return ad.RegisterDeploymentResponse(outcome=_OUTCOMES[outcome], deployment=self._deployment(deployment))

    async def ListDeployments(self, request: ad.ListDeploymentsRequest, context: Any) -> Any:
        deployments = self._node.catalog.deployments.values()
        return ad.ListDeploymentsResponse(deployments=[self._deployment(d) for d in deployments])

    async def GetDeployment(self, request: ad.GetDeploymentRequest, context: Any) -> Any:
        deployment = self._node.catalog.deployments.get(request.id)
        if deployment is None:
            await _abort(context, grpc.StatusCode.NOT_FOUND, f"deployment '{request.id}' not found")
        return self._deployment(deployment)

    async def RemoveDeployment(self, request: ad.RemoveDeploymentRequest, context: Any) -> Any:
        try:
            await self._node.registry.remove(request.id, force=request.force)
        except RegistryError as error:
            await _abort(context, grpc.StatusCode.FAILED_PRECONDITION, str(error))
        return ad.RemoveDeploymentResponse()

    async def ListServices(self, request: ad.ListServicesRequest, context: Any) -> Any:
        return ad.ListServicesResponse(services=[self._service(name) for name in sorted(self._node.catalog.services)])

    async def GetService(self, request: ad.GetServiceRequest, context: Any) -> Any:
        if request.name not in self._node.catalog.services:
            await _abort(context, grpc.StatusCode.NOT_FOUND, f"service '{request.name}' not found")
        return self._service(request.name)

    async def ListInvocations(self, request: ad.ListInvocationsRequest, context: Any) -> Any:
        size = request.page_size or PAGE_SIZE
        if size > PAGE_SIZE_MAX:
            await _abort(
                context, grpc.StatusCode.INVALID_ARGUMENT, f"page_size is {size}, the limit is {PAGE_SIZE_MAX}"
            )
        partition, _, after = request.page_token.partition(":")
        answer = ad.ListInvocationsResponse()
        for number in range(int(partition or 0), len(self._node.processors)):
            start = bytes.fromhex(after)
            after = ""
            for sub, row in self._node.processors[number].storage.scan(t.INVOCATIONS, b"", start):
                if not _wanted(row, request):
                    continue
                if len(answer.invocations) == size:
                    answer.next_page_token = f"{number}:{sub.hex()}"
                    return answer
                answer.invocations.append(_invocation(row, number))
        return answer

    async def GetInvocation(self, request: ad.GetInvocationRequest, context: Any) -> Any:
        invocation_id = await self._id(request.id, context)
        processor = self._node.router.of(invocation_id)
        row = processor.invocation(invocation_id)
        if row is None:
            await _abort(context, grpc.StatusCode.NOT_FOUND, f"invocation {request.id} not found")
        detail = ad.InvocationDetail(invocation=_invocation(row, processor.partition))
        for sub, frame in processor.storage.scan(t.JOURNAL, invocation_id):
            code, _, _ = HEADER.unpack_from(frame.raw)
            kind = "Notification" if code >= 0x8000 else "Command"
            name = MessageType(code).name.replace("_", " ").title()
            detail.journal.add(
                index=int.from_bytes(sub, "big"),
                type=code,
                type_name=f"{kind}: {name}",
                raw=frame.raw[HEADER.size :],
                appended_at_ms=frame.appended_ms,
            )
        result = processor.result(invocation_id)
        if result is not None and result.value is not None:
            detail.output = result.value
        return detail

    async def CancelInvocation(self, request: ad.InvocationRequest, context: Any) -> Any:
        return await self._operate(request, context, lambda i, r: Cancel(i, r))

    async def KillInvocation(self, request: ad.InvocationRequest, context: Any) -> Any:
        return await self._operate(request, context, lambda i, r: Kill(i, r))

    async def PurgeInvocation(self, request: ad.InvocationRequest, context: Any) -> Any:
        return await self._operate(request, context, lambda i, r: Purge(i, r))

    async def ListState(self, request: ad.ListStateRequest, context: Any) -> Any:
        answer = ad.ListStateResponse()
        if request.key:
            processor = self._home(request.service, request.key)
            entries = processor.storage.scan(t.STATE, t.object_group(request.service, request.key))
            found = [ad.StateEntry(name=name.decode(), value=value) for name, value in entries]
            answer.objects.add(key=request.key, entries=found)
            return answer
        for processor in self._node.processors.values():
            for group in processor.storage.scan_groups(t.STATE, t.service_prefix(request.service)):
                if len(answer.objects) == PAGE_SIZE_MAX:
                    return answer
                answer.objects.add(key=t.key_of_group(request.service, group))
        return answer

    async def EditState(self, request: ad.EditStateRequest, context: Any) -> Any:
        if request.service not in self._node.catalog.services:
            await _abort(context, grpc.StatusCode.NOT_FOUND, f"service '{request.service}' not found")
        changed = tuple((entry.name.encode(), entry.value) for entry in request.set)
        cleared = tuple(name.encode() for name in request.clear)
        try:
            await ask(
                self._home(request.service, request.key),
                lambda number: EditState(request.service, request.key, changed, cleared, request.replace, number),
            )
        except (LogError, TimeoutError) as error:
            await _abort(context, grpc.StatusCode.UNAVAILABLE, str(error))
        return ad.EditStateResponse()

    def _home(self, service: str, key: str) -> PartitionProcessor:
        return self._node.router.of(partition_key_of(service, key).to_bytes(8, "big"))

    async def GetStatus(self, request: ad.GetStatusRequest, context: Any) -> Any:
        answer = ad.StatusResponse(version="0.1.0", node=self._node.config.node, cluster=self._node.config.cluster)
        answer.started_at_ms = self._node.started_at_ms
        for number, processor in self._node.processors.items():
            answer.partitions.add(
                partition=number,
                leader=processor.is_leading,
                term=processor.term,
                last_index=processor.log.last_index,
                commit_index=processor.log.commit_index,
                applied_index=processor.applied_index,
                durable_index=processor.durable_index,
                running_invocations=sum(1 for _ in processor.storage.scan(t.RUNNING, b"")),
            )
        return answer

    async def _operate(
        self, request: ad.InvocationRequest, context: Any, build: Callable[[bytes, int], Command]
    ) -> ad.InvocationResponse:
        invocation_id = await self._id(request.id, context)
        try:
            reply = await ask(self._node.router.of(invocation_id), lambda number: build(invocation_id, number))
        except (LogError, TimeoutError) as error:
            await _abort(context, grpc.StatusCode.UNAVAILABLE, str(error))
        match reply.outcome:
            case Outcome.NOT_FOUND:
                await _abort(context, grpc.StatusCode.NOT_FOUND, f"invocation {request.id} not found")
            case Outcome.ALREADY_COMPLETED | Outcome.NOT_COMPLETED:
                what = f"invocation {request.id} is {reply.outcome.value}"
                await _abort(context, grpc.StatusCode.FAILED_PRECONDITION, what)
        done = reply.outcome is Outcome.DONE
        return ad.InvocationResponse(outcome=ad.InvocationResponse.DONE if done else ad.InvocationResponse.APPENDED)

    async def _id(self, text: str, context: Any) -> bytes:
        try:
            return decode_invocation_id(text)
        except MalformedIdentifier as error:
            await _abort(context, grpc.StatusCode.INVALID_ARGUMENT, str(error))

    def _deployment(self, deployment: Deployment) -> ad.Deployment:
        services = self._node.catalog.services
        answer = ad.Deployment(
            id=deployment.id,
            address=deployment.address,
            created_at_ms=deployment.created_at_ms,
            sdk=deployment.sdk,
            min_protocol_version=deployment.min_protocol_version,
            max_protocol_version=deployment.max_protocol_version,
        )
        for service, revision in zip(deployment.services, deployment.revisions, strict=True):
            latest = services.get(service.name)
            is_latest = latest is not None and latest.deployment.id == deployment.id
            answer.services.add(name=service.name, revision=revision, latest=is_latest)
        return answer

    def _service(self, name: str) -> ad.Service:
        registered = self._node.catalog.services[name]
        kind = ep.ServiceType.ValueType(registered.service.type.value)
        manifest = ep.ServiceManifest(name=name, type=kind)
        for handler in registered.service.handlers:
            manifest.handlers.add(name=handler.name, documentation=handler.documentation)
        return ad.Service(
            manifest=manifest, deployment_id=registered.deployment.id, revision=registered.revision, public=True
        )


def _wanted(row: Invocation, request: ad.ListInvocationsRequest) -> bool:
    return (
        request.service in ("", row.target.service)
        and request.handler in ("", row.target.handler)
        and request.key in ("", row.target.key)
        and request.deployment_id in ("", row.deployment)
        and (not request.statuses or _STATUS[row.status] in request.statuses)
        and row.created_ms >= request.created_after_ms
        and (not request.created_before_ms or row.created_ms < request.created_before_ms)
    )


def _invocation(row: Invocation, partition: int) -> ad.Invocation:
    last = row.last_failure
    answer = ad.Invocation(
        id=encode_invocation_id(row.id),
        service=row.target.service,
        handler=row.target.handler,
        key=row.target.key,
        status=_STATUS[row.status],
        created_at_ms=row.created_ms,
        modified_at_ms=row.modified_ms,
        completed_at_ms=row.completed_ms,
        scheduled_for_ms=row.execute_at_ms,
        invoked_by=InvokedBy(row.by).name.lower(),
        invoked_by_id=encode_invocation_id(row.by_id) if row.by_id else "",
        deployment_id=row.deployment,
        attempt=row.attempt,
        retry_count=row.retry_count,
        next_retry_at_ms=row.next_retry_ms,
        last_failure=last.failure.message if last else "",
        last_failure_code=last.failure.code if last else 0,
        journal_size=row.journal_length,
        idempotency_key=row.idempotency_key or "",
        partition=partition,
        failed=row.failure is not None,
    )
    if row.failure is not None:
        answer.failure.code = row.failure.code
        answer.failure.message = row.failure.message
    return answer


async def _abort(context: Any, code: grpc.StatusCode, message: str) -> NoReturn:
    await context.abort(code, message)
    raise AssertionError("abort raises")


def now_ms() -> int:
    return int(time.time() * 1000)

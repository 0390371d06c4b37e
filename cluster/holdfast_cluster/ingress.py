"""What the HTTP and the gRPC ingress share: from a call as a client names it to a command in the right partition, and
from what the partition answers back to whoever waits.

A call gets its invocation id here. It is fresh, unless the call must find an earlier one: a workflow's run has the id
of its workflow key, a call with an idempotency key the id of that key. Only those two need to ask whether they were the
first (`Reply`); everybody else just waits for the result.

An idempotency key that comes again gets the result of the first call. If it comes with another body, that is a mistake
of the client, and to answer it with the result of other input would hide it: 422. (Restate answers with the first
result.) The check reads the stored input, so it ends when the journal's retention does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from holdfast_cluster import ingress_error
from holdfast_cluster.fresh_ids import FreshIds
from holdfast_cluster.ingress_error import RETRY_SECONDS, IngressError, bad_request
from holdfast_cluster.latency import LatencyCounts
from holdfast_cluster.payload_rules import AnswerType, answer_type, check_input
from holdfast_cluster.pending import Pending, PendingCall, PendingSend, PendingSignal
from holdfast_cluster.router import Router
from holdfast_log.types import LogError
from holdfast_partition_processor import tables as t
from holdfast_partition_processor.catalog import Catalog, CatalogError, ResolvedHandler, UnknownService
from holdfast_partition_processor.command import (
    Command,
    HandlerType,
    Invoke,
    NotifySignal,
    ResolvedCall,
    ServiceType,
)
from holdfast_partition_processor.ids import idempotent_id, invocation_id_of, workflow_id
from holdfast_partition_processor.invocation import Invocation, Status
from holdfast_partition_processor.processor import PartitionProcessor
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import FRAME_BYTES_MAX, HEADER_BYTES
from holdfast_proto.identifiers import MalformedIdentifier, decode_awakeable_id, decode_invocation_id

SWEEP_SECONDS = 1.0
"""Deadlines are looked at this often, all in one go."""
CALLEES_MAX = 10_000
"""Remembered look-ups; all are forgotten when there are more, or when a deployment changes."""


@dataclass(frozen=True, slots=True)
class IngressOptions:
    request_seconds_max: float = 15 * 60.0
    requests_outstanding_max: int = 100_000
    body_bytes_max: int = FRAME_BYTES_MAX
    stream_requests_max: int = 4_096


@dataclass(frozen=True, slots=True)
class Callee:
    """A handler as clients can call it, with all that does not depend on the single call."""

    resolved: ResolvedHandler
    call: ResolvedCall
    answer_type: AnswerType
    name: str
    must_ask: bool  # its id may exist already, whatever the caller says


class Ingress:
    def __init__(
        self,
        router: Router,
        catalog: Callable[[], Catalog],
        clock_ms: Callable[[], int],
        options: IngressOptions | None = None,
        fresh_ids: Callable[[], bytes] | None = None,
    ) -> None:
        self.options = options or IngressOptions()
        self.clock_ms = clock_ms
        self.closing = False
        self.latency = LatencyCounts()
        self.refused = 0
        self._router = router
        self._catalog = catalog
        self._fresh_ids = fresh_ids or FreshIds(clock_ms)
        self._callees: dict[tuple[str, str, str | None], Callee] = {}
        self._callees_of: Catalog | None = None
        self._outstanding: dict[Pending, None] = {}  # in the order of their beginning, so of their deadlines
        self._loop = asyncio.get_running_loop()
        self._sweeper = self._loop.call_later(SWEEP_SECONDS, self._sweep)

    @property
    def ready(self) -> bool:
        return self._router.ready and not self.closing

    @property
    def outstanding(self) -> int:
        return len(self._outstanding)

    @property
    def catalog(self) -> Catalog:
        return self._catalog()

    def close(self) -> None:
        """Nothing new is taken; who still waits is told to come back."""
        self.closing = True
        self._sweeper.cancel()
        for pending in list(self._outstanding):
            pending.refuse(IngressError(
                503, "the node is stopping; the invocation goes on", retry_after_seconds=RETRY_SECONDS,
                invocation_id=pending.id,
            ))  # fmt: skip

    # ------------------------------------------------------------ what a client names

    def callee(self, service: str, handler: str, key: str | None) -> Callee:
        """Raises IngressError 404, 400."""
        catalog = self._catalog()
        if catalog is not self._callees_of or len(self._callees) >= CALLEES_MAX:
            self._callees.clear()
            self._callees_of = catalog
        found = self._callees.get((service, handler, key))
        if found is None:
            try:
                found = self._callees[service, handler, key] = _look_up(catalog, service, handler, key)
            except CatalogError as error:
                raise self._unknown(error) from None
        return found

    def is_keyed(self, service: str) -> bool:
        registered = self._catalog().services.get(service)
        return registered is not None and registered.service.type is not ServiceType.SERVICE

    def invocation_of_workflow(self, name: str, key: str) -> bytes:
        """Raises IngressError 404, 400."""
        registered = self._catalog().services.get(name)
        if registered is None:
            raise self._unknown(UnknownService(f"workflow {name[:80]!r} is not registered"))
        if registered.service.type is not ServiceType.WORKFLOW:
            raise bad_request(f"{name!r} is not a workflow")
        return workflow_id(name, key)

    def invocation_of_key(self, service: str, key: str | None, handler: str, idempotency_key: str) -> bytes:
        """Raises IngressError 404, 400."""
        try:
            target = self._catalog().call(service, handler, key, idempotency_key).target
        except CatalogError as error:
            raise self._unknown(error) from None
        return idempotent_id(service, target.key, handler, idempotency_key)

    def _unknown(self, error: CatalogError) -> IngressError:
        """While the node starts it does not know yet what is registered."""
        if not self._router.ready:
            return IngressError(503, "the node is starting or stopping", retry_after_seconds=RETRY_SECONDS)
        return ingress_error.from_catalog(error)

    # ------------------------------------------------------------ calls

    def call(
        self, pending: PendingCall, callee: Callee, headers: bytes, content_type: str | None, body: bytes,
        idempotency_key: str | None,
    ) -> None:  # fmt: skip
        """Start the invocation; ``pending`` hears of its result. ``headers``: `InputHeaders`. Raises IngressError."""
        pending.answer_type = callee.answer_type
        command = self._invoke(pending, callee, headers, content_type, body, idempotency_key, 0)
        if command.request:
            pending.body = body if idempotency_key is not None else None
        else:
            self._processor_of(pending).wait_for(pending.id, pending)
        self._submit(pending, command)

    def send(
        self, pending: PendingSend, callee: Callee, headers: bytes, content_type: str | None, body: bytes,
        idempotency_key: str | None, delay_ms: int | None,
    ) -> None:  # fmt: skip
        """Start the invocation, after a delay; ``pending`` hears when that is durable. Raises IngressError."""
        pending.execute_at_ms = self.clock_ms() + delay_ms if delay_ms else 0
        at = pending.execute_at_ms
        command = self._invoke(pending, callee, headers, content_type, body, idempotency_key, at, reply=True)
        pending.body = body if idempotency_key is not None else None
        self._submit(pending, command)

    def attach(self, pending: PendingCall, invocation_id: bytes) -> None:
        """``pending`` hears of the result, at once if it is there. Raises IngressError 404, 503."""
        processor = self._begin(pending, invocation_id)
        row = processor.invocation(invocation_id)
        if row is None:
            raise ingress_error.not_found(invocation_id)
        pending.stored = row.status is Status.COMPLETED
        pending.answer_type = self._answer_type_of(row)
        self._outstanding[pending] = None
        if pending.stored:
            result = processor.result(invocation_id)
            assert result is not None, "a completed invocation has a result"
            pending.completed(result)
        else:
            processor.wait_for(invocation_id, pending)

    def output(self, pending: PendingCall, invocation_id: bytes) -> None:
        """As `attach`, but refused with 470 while there is no result."""
        if not self.has_result(invocation_id):
            raise ingress_error.not_ready(invocation_id)
        self.attach(pending, invocation_id)

    def has_result(self, invocation_id: bytes) -> bool:
        """Raises IngressError 404, 503."""
        row = self._router.leader_of(invocation_id).invocation(invocation_id)
        if row is None:
            raise ingress_error.not_found(invocation_id)
        return row.status is Status.COMPLETED

    def complete_awakeable(
        self, pending: PendingSignal, awakeable_id: str, value: bytes | None, reason: str | None
    ) -> None:
        """Resolve with ``value`` or reject with ``reason``. Raises IngressError."""
        try:
            invocation_id, signal = decode_awakeable_id(awakeable_id)
        except MalformedIdentifier as error:
            raise bad_request(str(error)) from None
        notification = pb.Notification(signal_id=signal)
        if value is not None:
            notification.value.content = value
        else:
            notification.failure.code = 500
            notification.failure.message = reason or ""
        processor = self._begin(pending, invocation_id)
        pending.request = processor.next_request(pending)
        self._submit(pending, NotifySignal(invocation_id, notification.SerializeToString(), pending.request))

    # ------------------------------------------------------------ what was stored

    def expires_ms(self, pending: Pending) -> int:
        """Until when the result of a completed invocation is kept, 0: not known."""
        row = pending.processor.invocation(pending.id) if pending.processor is not None else None
        if row is None or row.status is not Status.COMPLETED or not row.completion_retention_ms:
            return 0
        return row.completed_ms + row.completion_retention_ms

    def _answer_type_of(self, row: Invocation) -> AnswerType:
        """By the deployment that ran it, else by the latest."""
        catalog, target = self._catalog(), row.target
        try:
            if row.deployment in catalog.deployments:
                resolved = catalog.resolve_at(row.deployment, target.service, target.handler)
            else:
                resolved = catalog.resolve(target.service, target.handler)
        except CatalogError:
            return AnswerType()
        return answer_type(resolved.handler.output)

    def other_body(self, processor: PartitionProcessor, invocation_id: bytes, body: bytes) -> IngressError | None:
        """Why ``body`` can't be answered with what the idempotency key's first call led to; None: it can."""
        frame = processor.storage.get(t.JOURNAL, invocation_id, b"\0\0\0\0")
        if frame is None or pb.InputCommandMessage.FromString(frame.raw[HEADER_BYTES:]).value.content == body:
            return None
        return IngressError(
            422, "this idempotency key was used before, with another body; nothing was started",
            invocation_id=invocation_id,
        )  # fmt: skip

    # ------------------------------------------------------------ bookkeeping

    def finished(self, pending: Pending) -> None:
        """Called by ``pending`` when it is settled."""
        if self._outstanding.pop(pending, self) is None:
            self.latency.observe(self._loop.time() - pending.started)

    def _begin(self, pending: Pending, invocation_id: bytes) -> PartitionProcessor:
        if self.closing:
            raise IngressError(503, "the node is stopping", retry_after_seconds=RETRY_SECONDS)
        limit = self.options.requests_outstanding_max
        if len(self._outstanding) >= limit:
            raise IngressError(
                429, f"{limit} requests wait on this node (ingress.requests_outstanding_max); nothing was started",
                retry_after_seconds=RETRY_SECONDS,
            )  # fmt: skip
        processor = self._router.leader_of(invocation_id)
        pending.id = invocation_id
        pending.processor = processor
        pending.started = self._loop.time()
        return processor

    def _invoke(
        self, pending: Pending, callee: Callee, headers: bytes, content_type: str | None, body: bytes,
        idempotency_key: str | None, execute_at_ms: int, reply: bool = False,
    ) -> Invoke:  # fmt: skip
        """Raises IngressError."""
        resolved, call = callee.resolved, callee.call
        if resolved.settings.ingress_private:
            raise bad_request(f"{callee.name} is private: only other handlers may call it")
        check_input(resolved.handler.input, callee.name, content_type, body)
        entry = headers + pb.InputCommandMessage(value=pb.Value(content=body)).SerializeToString()
        if len(entry) > FRAME_BYTES_MAX or len(body) > self.options.body_bytes_max:
            limit = f"{self.options.body_bytes_max} (ingress.body_max), with the headers {FRAME_BYTES_MAX}"
            raise IngressError(413, f"body of {len(body)} bytes, the limit is {limit}")
        if idempotency_key is not None:
            call = _with_key(self._catalog(), call, idempotency_key)
        invocation_id = invocation_id_of(call.target, idempotency_key, self._fresh_ids())
        processor = self._begin(pending, invocation_id)
        if reply or callee.must_ask or idempotency_key is not None:
            pending.request = processor.next_request(pending)
        return Invoke(
            id=invocation_id,
            target=call.target,
            input=entry,
            idempotency_key=idempotency_key,
            execute_at_ms=execute_at_ms,
            completion_retention_ms=call.completion_retention_ms,
            journal_retention_ms=call.journal_retention_ms,
            request=pending.request,
        )

    def _processor_of(self, pending: Pending) -> PartitionProcessor:
        assert pending.processor is not None, "_begin comes first"
        return pending.processor

    def _submit(self, pending: Pending, command: Command) -> None:
        try:
            self._processor_of(pending).submit(command)
        except LogError as error:
            pending.let_go()
            raise ingress_error.from_log(error) from error
        self._outstanding[pending] = None

    def _sweep(self) -> None:
        seconds = self.options.request_seconds_max
        begun_before = self._loop.time() - seconds
        late = []
        for pending in self._outstanding:
            if pending.started > begun_before:
                break
            late.append(pending)
        for pending in late:
            pending.refuse(ingress_error.timed_out(seconds, pending.id))
        self._sweeper = self._loop.call_later(SWEEP_SECONDS, self._sweep)


def parse_invocation_id(text: str) -> bytes:
    """Raises IngressError 400."""
    try:
        return decode_invocation_id(text)
    except MalformedIdentifier as error:
        raise bad_request(str(error)) from None


def _look_up(catalog: Catalog, service: str, handler: str, key: str | None) -> Callee:
    """Raises CatalogError."""
    resolved = catalog.resolve(service, handler)
    call = catalog.call(service, handler, key, None)
    must_ask = call.target.type is HandlerType.WORKFLOW_RUN
    return Callee(resolved, call, answer_type(resolved.handler.output), f"{service}/{handler}", must_ask)


def _with_key(catalog: Catalog, call: ResolvedCall, idempotency_key: str) -> ResolvedCall:
    target = call.target
    try:
        return catalog.call(target.service, target.handler, target.key, idempotency_key)
    except CatalogError as error:
        raise ingress_error.from_catalog(error) from None

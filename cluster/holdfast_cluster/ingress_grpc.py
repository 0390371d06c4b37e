"""The gRPC ingress: `holdfast.ingress.v1.Ingress`, see ingress.proto.

`InvokeStream` is for many calls: requests and answers travel in batches, the answers of one turn of the event loop in
one message, because a gRPC message costs a hundred times what a call in it does. The other methods are for comfort.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any, NoReturn, TypeVar

import grpc
import grpc.aio

from holdfast_cluster import input_headers
from holdfast_cluster.ingress import Callee, Ingress, parse_invocation_id
from holdfast_cluster.ingress_error import RETRY_SECONDS, IngressError, TimedOut, bad_request
from holdfast_cluster.pending import PendingCall, PendingSend, PendingSignal
from holdfast_partition_processor.command import Failure
from holdfast_proto import ingress_pb2 as pb
from holdfast_proto import ingress_pb2_grpc
from holdfast_proto import protocol_pb2 as protocol
from holdfast_proto.identifiers import encode_invocation_id

logger = logging.getLogger(__name__)

ANSWER_BYTES_MAX = 4 * 1024 * 1024
"""Answers in one message of InvokeStream, unless a single one is larger."""
INVOCATION_ID_METADATA = "x-restate-id"

STATUS = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.ALREADY_EXISTS,
    413: grpc.StatusCode.INVALID_ARGUMENT,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    470: grpc.StatusCode.FAILED_PRECONDITION,
    503: grpc.StatusCode.UNAVAILABLE,
}

Context = grpc.aio.ServicerContext[Any, Any]
A = TypeVar("A")


class GrpcIngress(ingress_pb2_grpc.IngressServicer):
    def __init__(self, ingress: Ingress) -> None:
        self._ingress = ingress
        self._streams: set[_Stream] = set()
        self._closing = False

    def close(self) -> None:
        """Streams end when what they were asked is answered."""
        self._closing = True
        for stream in self._streams:
            stream.end()

    async def Invoke(self, request: pb.InvokeRequest, context: Context) -> pb.InvokeResponse:
        def start(future: asyncio.Future[pb.InvokeResponse]) -> FutureCall:
            call = FutureCall(self._ingress, future)
            _start_call(self._ingress, call, request)
            return call

        return await _answer(context, start)

    async def Send(self, request: pb.SendRequest, context: Context) -> pb.SendResponse:
        def start(future: asyncio.Future[pb.SendResponse]) -> FutureSend:
            sent = FutureSend(self._ingress, future)
            wanted = request.request
            callee = _callee(self._ingress, wanted)
            headers, content_type, key = _details(wanted, callee)
            self._ingress.send(sent, callee, headers, content_type, wanted.body, key, request.delay_ms)
            return sent

        return await _answer(context, start)

    async def Attach(self, request: pb.AttachRequest, context: Context) -> pb.InvokeResponse:
        def start(future: asyncio.Future[pb.InvokeResponse]) -> FutureCall:
            call = FutureCall(self._ingress, future)
            self._ingress.attach(call, _invocation_id(self._ingress, request))
            return call

        return await _answer(context, start)

    async def GetOutput(self, request: pb.AttachRequest, context: Context) -> pb.OutputResponse:
        def start(future: asyncio.Future[pb.InvokeResponse]) -> FutureCall:
            call = FutureCall(self._ingress, future)
            if self._ingress.has_result(_invocation_id(self._ingress, request)):
                self._ingress.attach(call, _invocation_id(self._ingress, request))
            else:
                future.set_result(pb.InvokeResponse())
            return call

        response = await _answer(context, start)
        ready = bool(response.invocation_id)
        return pb.OutputResponse(ready=ready, response=response if ready else None)

    async def ResolveAwakeable(self, request: pb.ResolveAwakeableRequest, context: Context) -> pb.CompletionResponse:
        return await self._complete(context, request.awakeable_id, request.value, None)

    async def RejectAwakeable(self, request: pb.RejectAwakeableRequest, context: Context) -> pb.CompletionResponse:
        return await self._complete(context, request.awakeable_id, None, request.message)

    async def _complete(
        self, context: Context, awakeable_id: str, value: bytes | None, reason: str | None
    ) -> pb.CompletionResponse:
        def start(future: asyncio.Future[pb.CompletionResponse]) -> FutureSignal:
            signal = FutureSignal(self._ingress, future)
            self._ingress.complete_awakeable(signal, awakeable_id, value, reason)
            return signal

        return await _answer(context, start)

    async def InvokeStream(  # type: ignore[override]  # the stub knows iterators only, grpc.aio also reads and writes
        self, request_iterator: AsyncIterator[pb.InvokeBatch], context: Context
    ) -> None:
        if self._closing:
            await _abort(context, IngressError(503, "the node is stopping", retry_after_seconds=RETRY_SECONDS))
        stream = _Stream(self._ingress)
        self._streams.add(stream)
        try:
            await stream.run(context)
        finally:
            self._streams.discard(stream)


class _Stream:
    """One InvokeStream: its requests that are under way, and their answers that wait to be written."""

    def __init__(self, ingress: Ingress) -> None:
        self.ingress = ingress
        self._outstanding: set[StreamCall] = set()
        self._answers: list[pb.InvokeResponse] = []
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._ended = False  # no more requests are read

    def end(self) -> None:
        self._ended = True
        self._wake.set()

    def answer(self, call: StreamCall, response: pb.InvokeResponse) -> None:
        self._outstanding.discard(call)
        self._room.set()
        self._answers.append(response)
        self._wake.set()

    async def run(self, context: Context) -> None:
        reader = asyncio.get_running_loop().create_task(self._read(context))
        reader.add_done_callback(lambda _: self.end())
        try:
            while not (self._ended and not self._outstanding and not self._answers):
                await self._wake.wait()
                self._wake.clear()
                while self._answers:
                    await context.write(pb.InvokeBatchResponse(responses=self._take_answers()))
        finally:
            reader.cancel()
            for call in list(self._outstanding):
                call.abandon()

    def _take_answers(self) -> list[pb.InvokeResponse]:
        answers, size = self._answers, 0
        for count, answer in enumerate(answers):
            size += len(answer.value)
            if size > ANSWER_BYTES_MAX and count:
                self._answers = answers[count:]
                return answers[:count]
        self._answers = []
        return answers

    async def _read(self, context: Context) -> None:
        limit = self.ingress.options.stream_requests_max
        while not self._ended:
            batch = await context.read()
            if batch is grpc.aio.EOF:
                return
            assert isinstance(batch, pb.InvokeBatch)
            for request in batch.requests:
                while len(self._outstanding) >= limit:
                    self._room.clear()
                    await self._room.wait()
                self._start(request)

    def _start(self, request: pb.InvokeRequest) -> None:
        call = StreamCall(self, request.correlation_id)
        self._outstanding.add(call)
        try:
            _start_call(self.ingress, call, request)
        except IngressError as error:
            call.on_refused(error)


# ---------------------------------------------------------------- those who wait


class StreamCall(PendingCall):
    __slots__ = ("correlation_id", "stream")

    def __init__(self, stream: _Stream, correlation_id: int) -> None:
        super().__init__(stream.ingress)
        self.stream = stream
        self.correlation_id = correlation_id

    def on_result(self, value: bytes | None, failure: Failure | None) -> None:
        self.stream.answer(self, _response(self.id, value, failure, self.correlation_id))

    def on_refused(self, error: IngressError) -> None:
        refusal = pb.IngressError(code=error.code, message=error.message)
        known = "" if error.invocation_id is None else encode_invocation_id(error.invocation_id)
        response = pb.InvokeResponse(invocation_id=known, correlation_id=self.correlation_id, error=refusal)
        self.stream.answer(self, response)


class FutureCall(PendingCall):
    __slots__ = ("future",)

    def __init__(self, ingress: Ingress, future: asyncio.Future[pb.InvokeResponse]) -> None:
        super().__init__(ingress)
        self.future = future

    def on_result(self, value: bytes | None, failure: Failure | None) -> None:
        _set_result(self.future, _response(self.id, value, failure))

    def on_refused(self, error: IngressError) -> None:
        _set_error(self.future, error)


class FutureSend(PendingSend):
    __slots__ = ("future",)

    def __init__(self, ingress: Ingress, future: asyncio.Future[pb.SendResponse]) -> None:
        super().__init__(ingress)
        self.future = future

    def on_accepted(self, previously: bool) -> None:
        name = encode_invocation_id(self.id)
        response = pb.SendResponse(
            invocation_id=name, previously_accepted=previously, execution_time_ms=self.execute_at_ms
        )
        _set_result(self.future, response)

    def on_refused(self, error: IngressError) -> None:
        _set_error(self.future, error)


class FutureSignal(PendingSignal):
    __slots__ = ("future",)

    def __init__(self, ingress: Ingress, future: asyncio.Future[pb.CompletionResponse]) -> None:
        super().__init__(ingress)
        self.future = future

    def on_accepted(self) -> None:
        _set_result(self.future, pb.CompletionResponse())

    def on_refused(self, error: IngressError) -> None:
        _set_error(self.future, error)


FuturePending = FutureCall | FutureSend | FutureSignal


def _set_result(future: asyncio.Future[A], result: A) -> None:
    if not future.done():
        future.set_result(result)


def _set_error(future: asyncio.Future[A], error: IngressError) -> None:
    if not future.done():
        future.set_exception(error)


async def _answer(context: Context, start: Callable[[asyncio.Future[A]], FuturePending]) -> A:
    """What ``start`` leads to, or the status of the IngressError. A client that goes away is forgotten."""
    future: asyncio.Future[A] = asyncio.get_running_loop().create_future()
    pending: FuturePending | None = None
    try:
        pending = start(future)
        return await future
    except IngressError as error:
        await _abort(context, error)
    finally:
        if pending is not None and not pending.settled:
            pending.abandon()


async def _abort(context: Context, error: IngressError) -> NoReturn:
    known = error.invocation_id
    metadata = () if known is None else ((INVOCATION_ID_METADATA, encode_invocation_id(known)),)
    status = grpc.StatusCode.DEADLINE_EXCEEDED if isinstance(error, TimedOut) else STATUS[error.code]
    await context.abort(status, error.message, metadata)
    raise AssertionError("abort raises")


# ---------------------------------------------------------------- requests and responses


def _start_call(ingress: Ingress, call: PendingCall, request: pb.InvokeRequest) -> None:
    """Raises IngressError."""
    callee = _callee(ingress, request)
    headers, content_type, key = _details(request, callee)
    ingress.call(call, callee, headers, content_type, request.body, key)


def _callee(ingress: Ingress, request: pb.InvokeRequest) -> Callee:
    target = request.target
    if not target.service or not target.handler:
        raise bad_request("target.service and target.handler must be set")
    return ingress.callee(target.service, target.handler, target.key if target.HasField("key") else None)


def _details(request: pb.InvokeRequest, callee: Callee) -> tuple[bytes, str | None, str | None]:
    """Headers as the handler sees them, content type and idempotency key. Whoever calls over gRPC need not say what the
    body is: it is taken as what the handler takes."""
    key = request.idempotency_key if request.HasField("idempotency_key") else None
    if not request.headers:
        return b"", callee.resolved.handler.input.content_type, key
    content_type = request.headers.get("content-type", callee.resolved.handler.input.content_type)
    return input_headers.of_grpc(request.headers.items()), content_type, key


def _invocation_id(ingress: Ingress, request: pb.AttachRequest) -> bytes:
    """Raises IngressError."""
    match request.WhichOneof("target"):
        case "invocation_id":
            return parse_invocation_id(request.invocation_id)
        case "workflow":
            return ingress.invocation_of_workflow(request.workflow.workflow_name, request.workflow.workflow_key)
        case "idempotent_request":
            wanted = request.idempotent_request
            key = wanted.service_key if wanted.HasField("service_key") else None
            return ingress.invocation_of_key(wanted.service_name, key, wanted.handler_name, wanted.idempotency_key)
        case _:
            raise bad_request("target must be an invocation id, a workflow or an idempotent request")


def _response(
    invocation_id: bytes, value: bytes | None, failure: Failure | None, correlation_id: int = 0
) -> pb.InvokeResponse:
    name = encode_invocation_id(invocation_id)
    if failure is None:
        return pb.InvokeResponse(invocation_id=name, value=value or b"", correlation_id=correlation_id)
    metadata = [protocol.FailureMetadata(key=key, value=text) for key, text in failure.metadata]
    message = protocol.Failure(code=failure.code, message=failure.message, metadata=metadata)
    return pb.InvokeResponse(invocation_id=name, failure=message, correlation_id=correlation_id)

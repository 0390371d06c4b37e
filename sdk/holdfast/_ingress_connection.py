"""The connection of a client: one gRPC channel, a few call streams, and when to try again.

Tried again, with a growing pause, until the caller's deadline or for `RETRY_SECONDS_MAX`:

* what was surely not started: no connection yet, a request that was not sent, a refusal that says so (429, 503);
* what is safe to repeat: calls with an idempotency key, attaching, reading an output, completing an awakeable;
* a call whose invocation is known though its result is not (a leader left, the node stops): by attaching to it.

A call without an idempotency key that was sent when the connection broke is not tried again: it could run twice.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
import grpc.aio

from holdfast._call_stream import OUTSTANDING_MAX, CallStream, StreamLost
from holdfast.ingress_errors import IngressError, Unavailable
from holdfast_proto import ingress_pb2 as pb
from holdfast_proto.ingress_pb2_grpc import IngressStub

if TYPE_CHECKING:
    from holdfast_proto.ingress_pb2_grpc import IngressAsyncStub  # known to the type checker only

T = TypeVar("T")

MESSAGE_BYTES_MAX = 80 * 1024 * 1024
"""Over twice the largest body: the node is the one to say what is too large, and names its limit."""
CONNECT_SECONDS_MAX = 5.0
"""How long to wait for the first connection before saying that there is none: the address may be wrong."""
RETRY_SECONDS_MAX = 30.0
"""A node that restarts or a new leader is there much sooner."""
PAUSE_SECONDS_MIN = 0.05
PAUSE_SECONDS_MAX = 2.0
CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.enable_retries", 0),  # what is safe to repeat is known here, not there
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
)

BAD_REQUEST, NOT_FOUND, TOO_LARGE, TOO_MANY, NOT_READY, UNAVAILABLE = 400, 404, 413, 429, 470, 503
_CODES = {
    grpc.StatusCode.INVALID_ARGUMENT: BAD_REQUEST,
    grpc.StatusCode.NOT_FOUND: NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.FAILED_PRECONDITION: 422,
    grpc.StatusCode.OUT_OF_RANGE: TOO_LARGE,
    grpc.StatusCode.RESOURCE_EXHAUSTED: TOO_MANY,
    grpc.StatusCode.UNAVAILABLE: UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: UNAVAILABLE,
}


class _TryAgain(Exception):
    """Carries what to raise when there is no time left."""

    def __init__(self, error: IngressError) -> None:
        self.error = error


class IngressConnection:
    """Belongs to the event loop that it is made on. No connection is made before it is needed."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._channel = grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
        self.stub: IngressAsyncStub = IngressStub(self._channel)
        self._streams: list[CallStream] = []
        self._was_connected = False
        self._closed = False

    async def close(self) -> None:
        self._closed = True
        for stream in self._streams:
            await stream.close()
        await self._channel.close()

    async def invoke(self, request: pb.InvokeRequest) -> pb.InvokeResponse:
        """The result, or failure, of a call. Raises IngressError."""
        return await self._persistently(lambda: self._invoke_once(request))

    async def unary(
        self, method: Callable[..., Awaitable[T]], request: Any, *, safe_to_repeat: bool, timeout_s: float | None = None
    ) -> T:
        """One rpc of the ingress. Raises IngressError."""

        async def once() -> T:
            await self._connected()
            try:
                return await method(request, timeout=timeout_s)
            except grpc.aio.AioRpcError as error:
                refused = self._refusal(error)
                if safe_to_repeat and refused.code in (TOO_MANY, UNAVAILABLE):
                    raise _TryAgain(refused) from error
                raise refused from error

        return await self._persistently(once)

    async def attach(self, target: pb.AttachRequest) -> pb.InvokeResponse:
        """Raises IngressError."""
        return await self.unary(self.stub.Attach, target, safe_to_repeat=True)

    # ------------------------------------------------------------

    async def _persistently(self, once: Callable[[], Awaitable[T]]) -> T:
        loop = asyncio.get_running_loop()
        give_up, pause = loop.time() + RETRY_SECONDS_MAX, PAUSE_SECONDS_MIN
        while True:
            try:
                return await once()
            except _TryAgain as again:
                if loop.time() + pause > give_up:
                    raise again.error from again.__cause__
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, PAUSE_SECONDS_MAX)

    async def _invoke_once(self, request: pb.InvokeRequest) -> pb.InvokeResponse:
        await self._connected()
        try:
            response = await self._stream().invoke(request)
        except StreamLost as lost:
            refused = self._refusal(lost.error) if lost.error is not None else Unavailable(str(lost))
            if not lost.sent or request.HasField("idempotency_key"):
                raise _TryAgain(refused) from lost
            message = f"{refused.message}; the call may have been started, an idempotency key makes it safe to repeat"
            raise Unavailable(message) from lost
        if not response.HasField("error"):
            return response
        refused = _ingress_error(response.error.code, response.error.message, response.invocation_id or None)
        if refused.code not in (TOO_MANY, UNAVAILABLE):
            raise refused
        if refused.invocation_id is None:
            raise _TryAgain(refused)
        return await self._attach_instead(refused)

    async def _attach_instead(self, refused: IngressError) -> pb.InvokeResponse:
        """An invocation was accepted, or may have been, but its result is not heard from where it was waited for."""
        assert refused.invocation_id is not None, "there is something to attach to"
        try:
            return await self.attach(pb.AttachRequest(invocation_id=refused.invocation_id))
        except IngressError as error:
            raise refused if error.code == NOT_FOUND else error from refused

    def _stream(self) -> CallStream:
        self._streams = [stream for stream in self._streams if not stream.broken]
        for stream in self._streams:
            if stream.outstanding < OUTSTANDING_MAX:
                return stream
        self._streams.append(CallStream(self.stub))
        return self._streams[-1]

    async def _connected(self) -> None:
        """Waiting here is always safe: nothing was sent."""
        if self._closed:
            raise RuntimeError("this client is closed")
        if self._channel.get_state(try_to_connect=True) is grpc.ChannelConnectivity.READY:
            return
        seconds = RETRY_SECONDS_MAX if self._was_connected else CONNECT_SECONDS_MAX
        try:
            async with asyncio.timeout(seconds):
                await self._channel.channel_ready()
            self._was_connected = True
        except TimeoutError:
            raise Unavailable(f"no node answers at {self.address} (gRPC) within {seconds:g} s") from None

    def _refusal(self, error: grpc.aio.AioRpcError) -> IngressError:
        details = error.details() or ""
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            return IngressError(f"{self.address} is a gRPC server, but not a Holdfast node: {details}", NOT_FOUND)
        code = _CODES.get(error.code(), 500)
        return _ingress_error(code, details or f"{self.address} answered {error.code().name}", None)


def _ingress_error(code: int, message: str, invocation_id: str | None) -> IngressError:
    kind = Unavailable if code in (TOO_MANY, UNAVAILABLE) else IngressError
    return kind(message, code, invocation_id)

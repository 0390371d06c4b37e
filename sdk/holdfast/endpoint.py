"""The endpoint: a gRPC server that runs the handlers of this process for a node."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import grpc.aio

from holdfast._replay import Attempt
from holdfast.context import Context, ObjectContext, SharedContext, WorkflowContext, WorkflowSharedContext
from holdfast.discovery import manifest
from holdfast.handler import Handler
from holdfast.service import ServiceBase
from holdfast_proto import endpoint_pb2 as ep
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.endpoint_pb2_grpc import EndpointServicer, add_EndpointServicer_to_server
from holdfast_proto.framing import (
    FRAME_BYTES_MAX,
    PROTOCOL_VERSION,
    MalformedFrame,
    MessageType,
    decode_frames,
    encode_frame,
)

logger = logging.getLogger("holdfast.endpoint")
BIND = "127.0.0.1:9080"
STREAM_CREDIT_BYTES = 8 * 1024 * 1024
SESSION_CREDIT_BYTES = 128 * 1024 * 1024
STREAMS_MAX = 10_000
STEP_THREADS = 32
FLUSH_BYTES_MAX = 4 * 1024 * 1024
STOP_SECONDS = 5.0


class Endpoint(EndpointServicer):
    """Serves the handlers of ``services``. Raises ValueError when two services have one name."""

    def __init__(self, services: Sequence[ServiceBase]) -> None:
        self._services = {service.name: service for service in services}
        if len(self._services) != len(services):
            names = sorted(service.name for service in services)
            raise ValueError(f"two services have the same name: {', '.join(names)}")
        self._manifest = manifest(services)
        self._server: grpc.aio.Server | None = None
        self._threads = ThreadPoolExecutor(STEP_THREADS, thread_name_prefix="step")

    async def start(self, bind: str = BIND) -> int:
        """Listen; returns the port (``host:0`` picks a free one). Raises OSError."""
        options = (
            ("grpc.max_send_message_length", FRAME_BYTES_MAX * 2),
            ("grpc.max_receive_message_length", FRAME_BYTES_MAX * 2),
            ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.so_reuseport", 0),
        )
        server = self._server = grpc.aio.server(options=options)
        add_EndpointServicer_to_server(self, server)
        try:
            port: int = server.add_insecure_port(bind)
        except RuntimeError as error:
            raise OSError(f"can't listen on {bind}: {error}") from error
        await server.start()
        return port

    async def stop(self, grace: float = STOP_SECONDS) -> None:
        if self._server is not None:
            await self._server.stop(grace)
        self._threads.shutdown(wait=False)

    async def Discover(self, request: ep.DiscoverRequest, context: Any) -> ep.DiscoverResponse:
        return self._manifest

    async def Session(self, request_iterator: Any, context: Any) -> AsyncIterator[ep.SessionFlush]:
        session = _Session(self._services, self._threads)
        reader = asyncio.get_running_loop().create_task(session.read_all(request_iterator))
        try:
            async for flush in session.flushes():
                yield flush
        finally:
            reader.cancel()
            asyncio.get_running_loop().call_soon(session.close)


class _Session:
    """One node's session: its streams, and what they want to say."""

    def __init__(self, services: dict[str, ServiceBase], threads: ThreadPoolExecutor) -> None:
        self._services = services
        self._threads = threads
        self._loop = asyncio.get_running_loop()
        self._attempts: dict[int, Attempt] = {}
        self._out: list[tuple[int, bytes]] = []
        self._wake = asyncio.Event()
        self._received = 0
        self._finished = False

    async def read_all(self, requests: Any) -> None:
        async for flush in requests:
            # Handlers run from a plain callback: an event loop of their own can't be entered from inside a task.
            self._loop.call_soon(self._dispatch, flush)
        self._finished = True
        self._wake.set()

    async def flushes(self) -> AsyncIterator[ep.SessionFlush]:
        hello = ep.Hello(
            session_version=1,
            stream_credit_bytes=STREAM_CREDIT_BYTES,
            session_credit_bytes=SESSION_CREDIT_BYTES,
            frame_bytes_max=FRAME_BYTES_MAX,
            peer="holdfast-python",
            streams_max=STREAMS_MAX,
        )
        yield ep.SessionFlush(hello=hello)
        while not self._finished:
            await self._wake.wait()
            self._wake.clear()
            while self._out:
                out, self._out = self._out, []
                size = 0
                streams: list[int] = []
                frames: list[bytes] = []
                for stream, data in out:
                    if frames and size + len(data) > FLUSH_BYTES_MAX:
                        yield ep.SessionFlush(stream_ids=streams, frames=frames)
                        streams, frames, size = [], [], 0
                    streams.append(stream)
                    frames.append(data)
                    size += len(data)
                yield ep.SessionFlush(stream_ids=streams, frames=frames)

    def close(self) -> None:
        for attempt in list(self._attempts.values()):
            attempt.abort()

    def _write(self, stream: int, data: bytes) -> None:
        self._out.append((stream, data))
        self._wake.set()

    def _dispatch(self, flush: ep.SessionFlush) -> None:
        for stream, data in zip(flush.stream_ids, flush.frames, strict=False):
            self._received += len(data)
            if stream == 0:
                continue
            try:
                self._frames(stream, data)
            except (MalformedFrame, ValueError) as error:
                self._refuse(stream, 400, str(error))
        if self._received > SESSION_CREDIT_BYTES // 2:
            self._write(0, encode_frame(MessageType.CREDIT, ep.Credit(bytes=self._received).SerializeToString()))
            self._received = 0

    def _frames(self, stream: int, data: bytes) -> None:
        frames = [(code, data[start:end]) for code, _, start, end in decode_frames(data)]
        if frames and frames[0][0] == MessageType.OPEN:
            self._open(stream, ep.Open.FromString(frames[0][1]), pb.StartMessage.FromString(frames[1][1]))
            frames = frames[2:]
        attempt = self._attempts.get(stream)
        if attempt is None:
            return
        for code, body in frames:
            if code == MessageType.RESET:
                attempt.abort()
                return
            attempt.receive(code, body)
        attempt.advance()

    def _open(self, stream: int, opening: ep.Open, start: pb.StartMessage) -> None:
        service = self._services.get(opening.service)
        handler = service.handlers.get(opening.handler) if service else None
        if handler is None:
            raise ValueError(f"this endpoint has no handler {opening.service}/{opening.handler}")
        if opening.protocol_version != PROTOCOL_VERSION:
            raise ValueError(f"protocol version {opening.protocol_version}, this endpoint speaks {PROTOCOL_VERSION}")
        assert service is not None
        if len(self._attempts) >= STREAMS_MAX:
            raise ValueError(f"{STREAMS_MAX} attempts are under way already")
        self._attempts[stream] = Attempt(
            handler,
            _context_type(service, handler),
            start,
            opening.attempt,
            self._loop,
            self._threads,
            lambda data: self._write(stream, data),
            lambda: self._forget(stream),
        )

    def _forget(self, stream: int) -> None:
        self._attempts.pop(stream, None)

    def _refuse(self, stream: int, code: int, message: str) -> None:
        attempt = self._attempts.pop(stream, None)
        if attempt is not None:
            attempt.abort()
        reset = ep.Reset(code=code, message=message)
        self._write(stream, encode_frame(MessageType.RESET, reset.SerializeToString()))


def _context_type(service: ServiceBase, handler: Handler[Any, Any]) -> Callable[[Attempt], Context]:
    if service.type == ep.SERVICE:
        return Context
    if service.type == ep.VIRTUAL_OBJECT:
        return ObjectContext if handler.kind == ep.EXCLUSIVE else SharedContext
    return WorkflowContext if handler.kind == ep.WORKFLOW_RUN else WorkflowSharedContext


def serve(services: Sequence[ServiceBase], *, bind: str | None = None) -> None:
    """Run until SIGINT or SIGTERM. ``bind`` is host:port; without it HOLDFAST_BIND, or 127.0.0.1:9080."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(_serve(services, bind))
    else:
        uvloop.run(_serve(services, bind))


async def _serve(services: Sequence[ServiceBase], bind: str | None) -> None:
    address = bind or os.environ.get("HOLDFAST_BIND") or BIND
    endpoint = Endpoint(services)
    port = await endpoint.start(address)
    names = ", ".join(service.name for service in services)
    print(f"holdfast endpoint on {address.rpartition(':')[0]}:{port}: {names}", flush=True)
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await stopped.wait()
    await endpoint.stop()

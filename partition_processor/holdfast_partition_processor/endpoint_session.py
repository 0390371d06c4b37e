"""Sessions with service endpoints: one multiplexed gRPC stream per deployment address, one message per loop turn.

A `Stream` is one attempt. What streams write within a turn of the event loop is one SessionFlush; while that one is
written the next gathers, so back-pressure makes the batches.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Protocol

import grpc
import grpc.aio

from holdfast_proto import endpoint_pb2 as ep
from holdfast_proto.endpoint_pb2_grpc import EndpointStub
from holdfast_proto.framing import (
    FRAME_BYTES_MAX,
    HEADER_BYTES,
    MalformedFrame,
    MessageType,
    decode_frames,
    encode_frame,
)

logger = logging.getLogger(__name__)

STREAM_CREDIT_BYTES = 8 * 1024 * 1024
SESSION_CREDIT_BYTES = 128 * 1024 * 1024
FLUSH_BYTES_MAX = 4 * 1024 * 1024
"""A flush beyond this is split, unless one stream's bytes alone are more."""
CHANNEL_OPTIONS = (
    ("grpc.max_send_message_length", FRAME_BYTES_MAX * 2),
    ("grpc.max_receive_message_length", FRAME_BYTES_MAX * 2),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.use_local_subchannel_pool", 1),
)


class StreamOwner(Protocol):
    """The attempt behind a stream. Called on the event loop."""

    def on_frames(self, data: bytes) -> None: ...
    def on_reset(self, message: str) -> None:
        """The endpoint or the session ended the stream; nothing more will come."""


class Session:
    """One stream of SessionFlush to one endpoint process. It is opened when the first attempt
    needs it, and again with the next attempt after it was lost."""

    def __init__(self, address: str, peer: str, on_closed: Callable[[Session], None]) -> None:
        self.address = address
        self._peer = peer
        self._on_closed = on_closed
        self._owners: dict[int, StreamOwner] = {}
        self._next_stream = 1
        self._out: deque[tuple[int, bytes]] = deque()
        self._wake = asyncio.Event()
        self._session_credit = 0
        self._received = 0
        self.closed = False
        self._task = asyncio.get_running_loop().create_task(self._run())

    def open(self, owner: StreamOwner, data: bytes) -> int:
        stream = self._next_stream
        self._next_stream += 1
        self._owners[stream] = owner
        self.write(stream, data)
        return stream

    def write(self, stream: int, data: bytes) -> None:
        self._out.append((stream, data))
        self._wake.set()

    def release(self, stream: int) -> None:
        """The stream is over for us; what still comes on it is dropped."""
        self._owners.pop(stream, None)

    def give_credit(self, stream: int, size: int) -> None:
        if size and stream in self._owners:
            self.write(stream, encode_frame(MessageType.CREDIT, ep.Credit(bytes=size).SerializeToString()))

    def close(self) -> None:
        self._task.cancel()

    async def _run(self) -> None:
        reason = "the session was closed"
        try:
            async with grpc.aio.insecure_channel(self.address, options=CHANNEL_OPTIONS) as channel:
                call = EndpointStub(channel).Session()
                hello = ep.Hello(
                    session_version=1,
                    stream_credit_bytes=STREAM_CREDIT_BYTES,
                    session_credit_bytes=SESSION_CREDIT_BYTES,
                    frame_bytes_max=FRAME_BYTES_MAX,
                    peer=self._peer,
                )
                await call.write(ep.SessionFlush(hello=hello))
                writer = asyncio.get_running_loop().create_task(self._write_all(call))
                try:
                    reason = await self._read_all(call)
                finally:
                    writer.cancel()
                    call.cancel()
        except grpc.aio.AioRpcError as error:
            reason = f"the session with endpoint {self.address} failed: {error.details()}"
        except MalformedFrame as error:
            reason = f"endpoint {self.address} sent garbage: {error}"
        finally:
            self._end(reason)

    async def _write_all(self, call: grpc.aio.StreamStreamCall[ep.SessionFlush, ep.SessionFlush]) -> None:
        out = self._out
        while True:
            if not out:
                self._wake.clear()
                await self._wake.wait()
            streams: list[int] = []
            frames: list[bytes] = []
            size = 0
            while out and (not frames or size + len(out[0][1]) <= FLUSH_BYTES_MAX):
                stream, data = out.popleft()
                streams.append(stream)
                frames.append(data)
                size += len(data)
            await call.write(ep.SessionFlush(stream_ids=streams, frames=frames))

    async def _read_all(self, call: grpc.aio.StreamStreamCall[ep.SessionFlush, ep.SessionFlush]) -> str:
        while True:
            flush = await call.read()
            if flush is grpc.aio.EOF:
                return f"endpoint {self.address} closed the session"
            assert isinstance(flush, ep.SessionFlush)
            if len(flush.stream_ids) != len(flush.frames):
                raise MalformedFrame(f"{len(flush.stream_ids)} stream ids for {len(flush.frames)} chunks")
            for stream, data in zip(flush.stream_ids, flush.frames, strict=True):
                self._received += len(data)
                owner = self._owners.get(stream)
                if owner is not None:
                    owner.on_frames(data)
            if self._received > SESSION_CREDIT_BYTES // 2:
                credit = ep.Credit(bytes=self._received).SerializeToString()
                self.write(0, encode_frame(MessageType.CREDIT, credit))
                self._received = 0

    def _end(self, reason: str) -> None:
        self.closed = True
        self._on_closed(self)
        owners, self._owners = self._owners, {}
        for owner in owners.values():
            owner.on_reset(reason)


class EndpointSessions:
    """All sessions of a node, by address."""

    def __init__(self, peer: str) -> None:
        self._peer = peer
        self._sessions: dict[str, Session] = {}

    def session(self, address: str) -> Session:
        session = self._sessions.get(address)
        if session is None or session.closed:
            session = self._sessions[address] = Session(address, self._peer, self._forget)
        return session

    def _forget(self, session: Session) -> None:
        if self._sessions.get(session.address) is session:
            del self._sessions[session.address]

    async def close(self) -> None:
        sessions = list(self._sessions.values())
        for session in sessions:
            session.close()
        await asyncio.gather(*(session._task for session in sessions), return_exceptions=True)


def payload_frames(data: bytes) -> list[tuple[int, bytes]]:
    """(code, body) of each frame. Raises MalformedFrame."""
    return [(code, data[start:end]) for code, _, start, end in decode_frames(data)]


__all__ = ["HEADER_BYTES", "EndpointSessions", "Session", "StreamOwner", "payload_frames"]

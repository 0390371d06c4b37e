"""Load generators that cost little, since they share the cores with what they measure.

Both keep a fixed number of calls in flight: each answer sends the next request at once. HTTP has one connection per
call in flight; gRPC has one InvokeStream on which the answers of one message send the next message.
"""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast

import grpc.aio

from holdfast_proto import ingress_pb2

DRAIN_SECONDS_MAX = 30.0


class LoadFailed(RuntimeError):
    """The node answered with an error, or not at all: the figures would mean nothing."""


@dataclass
class Samples:
    """Latencies in seconds of the calls answered while ``recording``. ``stopping``: answer, but send no more."""

    seconds: array[float] = field(default_factory=lambda: array("d"))
    recording: bool = False
    stopping: bool = False
    failure: str = ""

    def add(self, seconds: float) -> None:
        if self.recording:
            self.seconds.append(seconds)

    def fail(self, what: str) -> None:
        self.failure = self.failure or what
        self.stopping = True


class _HttpConnection(asyncio.Protocol):
    """One request at a time, prepared as bytes; of the answer only status and length are looked at."""

    def __init__(self, requests: Iterator[bytes], samples: Samples) -> None:
        self._requests = requests
        self._samples = samples
        self._received = b""
        self._sent_at = 0.0
        self._transport: asyncio.Transport | None = None
        self.idle = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one without saying so
        self._send()

    def data_received(self, data: bytes) -> None:
        if self._received:
            data = self._received + data
        size = _response_size(data)
        if size == 0 or len(data) < size:
            self._received = data
            return
        self._received = b""
        self._samples.add(time.perf_counter() - self._sent_at)
        if not data.startswith(b"HTTP/1.1 200"):
            self._samples.fail(data[:400].decode(errors="replace"))
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.idle.is_set():
            self._samples.fail(f"the node closed a connection: {exc}")
            self.idle.set()

    def _send(self) -> None:
        if self._samples.stopping:
            self.idle.set()
            return
        assert self._transport is not None
        self._sent_at = time.perf_counter()
        self._transport.write(next(self._requests))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


def _response_size(data: bytes) -> int:
    """Bytes of the response that ``data`` begins with, 0 while its head is incomplete."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return 0
    head = data[:end].lower()
    start = head.find(b"\r\ncontent-length:")
    if start < 0:
        raise LoadFailed(f"a response without content-length: {head[:200]!r}")
    stop = head.find(b"\r\n", start + 2)
    return end + 4 + int(head[start + 17 : stop if stop >= 0 else end])


class HttpLoad:
    def __init__(self, port: int, requests: Iterator[bytes], in_flight: int, samples: Samples) -> None:
        self._port = port
        self._requests = requests
        self._in_flight = in_flight
        self._samples = samples
        self._connections: list[_HttpConnection] = []

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(self._in_flight):
            connection = _HttpConnection(self._requests, self._samples)
            await loop.create_connection(lambda c=connection: c, "127.0.0.1", self._port)  # type: ignore[misc]
            self._connections.append(connection)

    async def finish(self) -> None:
        """Wait for the answers still under way. Raises TimeoutError."""
        async with asyncio.timeout(DRAIN_SECONDS_MAX):
            for connection in self._connections:
                await connection.idle.wait()
                connection.close()


class GrpcLoad:
    def __init__(self, port: int, requests: Iterator[bytes], in_flight: int, samples: Samples) -> None:
        self._requests = requests
        self._in_flight = in_flight
        self._samples = samples
        self._sent_at = [0.0] * in_flight
        self._slots = [b"\x28" + _varint(slot) for slot in range(in_flight)]  # field 5, correlation_id
        self._channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        self._pump: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._pump = asyncio.create_task(self._run())

    async def finish(self, seconds_max: float = DRAIN_SECONDS_MAX) -> None:
        """Wait for the answers still under way, or for all when the requests come to an end by themselves.
        Raises TimeoutError."""
        assert self._pump is not None
        async with asyncio.timeout(seconds_max):
            await self._pump
        await self._channel.close()

    async def _run(self) -> None:
        method = self._channel.stream_stream(
            "/holdfast.ingress.v1.Ingress/InvokeStream",
            request_serializer=bytes,
            response_deserializer=ingress_pb2.InvokeBatchResponse.FromString,
        )
        stream = method()
        outstanding, batch = self._batch(range(self._in_flight))
        await stream.write(batch)
        while outstanding:
            answer = await stream.read()
            if not isinstance(answer, ingress_pb2.InvokeBatchResponse):
                self._samples.fail(f"the node ended the stream: {await stream.code()} {await stream.details()}")
                return
            slots = self._note(answer)
            sent, batch = self._batch([] if self._samples.stopping else slots)
            outstanding += sent - len(slots)
            if sent:
                await stream.write(batch)
        await stream.done_writing()

    def _note(self, answer: ingress_pb2.InvokeBatchResponse) -> list[int]:
        now = time.perf_counter()
        slots = []
        for response in answer.responses:
            slots.append(response.correlation_id)
            self._samples.add(now - self._sent_at[response.correlation_id])
            if response.WhichOneof("result") != "value":
                self._samples.fail(str(response))
        return slots

    def _batch(self, slots: Sequence[int]) -> tuple[int, bytes]:
        """How many requests, fewer than slots when there are no more, and the encoded InvokeBatch."""
        now = time.perf_counter()
        parts = []
        for slot, prepared in zip(slots, self._requests, strict=False):
            self._sent_at[slot] = now
            request = prepared + self._slots[slot]
            parts.append(b"\x0a" + _varint(len(request)) + request)  # field 1, requests
        return len(parts), b"".join(parts)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)

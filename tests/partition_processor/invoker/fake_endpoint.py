"""An endpoint made of raw bytes: a test says what it answers, well-formed or not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio

from holdfast_proto import endpoint_pb2 as ep
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import MessageType as M
from holdfast_proto.framing import decode_frames, encode_frame

HELLO = ep.Hello(
    session_version=1,
    stream_credit_bytes=1024 * 1024,
    session_credit_bytes=16 * 1024 * 1024,
    frame_bytes_max=32 * 1024 * 1024,
    peer="fake/1",
    streams_max=10_000,
)


def frame(code: int, message: Any = None, flags: int = 0) -> bytes:
    return encode_frame(code, b"" if message is None else message.SerializeToString(), flags)


def output(text: bytes = b'"done"') -> bytes:
    return frame(M.OUTPUT, pb.OutputCommandMessage(value=pb.Value(content=text)))


def end() -> bytes:
    return frame(M.END)


def run(completion_id: int) -> bytes:
    return frame(M.RUN, pb.RunCommandMessage(result_completion_id=completion_id, name="step"))


def propose(completion_id: int, value: bytes = b"1") -> bytes:
    return frame(
        M.PROPOSE_RUN_COMPLETION, pb.ProposeRunCompletionMessage(result_completion_id=completion_id, value=value)
    )


def error(message: str, **fields: Any) -> bytes:
    return frame(M.ERROR, pb.ErrorMessage(code=500, message=message, **fields))


@dataclass
class Seen:
    """One stream as the endpoint saw it."""

    id: int
    opening: ep.Open
    start: pb.StartMessage = field(default_factory=pb.StartMessage)
    frames: list[tuple[int, bytes]] = field(default_factory=list)  # after Start

    def codes(self) -> list[int]:
        return [code for code, _ in self.frames]


class Connection:
    """One session, from the endpoint's side."""

    def __init__(self, endpoint: FakeEndpoint, write: Callable[[bytes], Awaitable[None]]) -> None:
        self.endpoint = endpoint
        self.streams: dict[int, Seen] = {}
        self.session_credit = 0  # granted to us on stream 0 since the hello
        self._write = write
        self._writing = asyncio.Lock()

    async def write_raw(self, data: bytes) -> None:
        async with self._writing:  # gRPC takes one message at a time
            await self._write(data)

    async def send(self, *pairs: tuple[int, bytes]) -> None:
        """One flush."""
        await self.write_raw(
            ep.SessionFlush(stream_ids=[p[0] for p in pairs], frames=[p[1] for p in pairs]).SerializeToString()
        )

    def take(self, stream_id: int, data: bytes) -> Seen | None:
        """Note what came; the stream when it is a new one."""
        opened = None
        for code, _, start, stop in decode_frames(data):
            body = data[start:stop]
            if stream_id == 0:
                assert code == M.CREDIT
                self.session_credit += ep.Credit.FromString(body).bytes
            elif code == M.OPEN:
                opened = self.streams[stream_id] = Seen(stream_id, ep.Open.FromString(body))
                self.endpoint.opened.append(opened)
            elif code == M.START:
                self.streams[stream_id].start = pb.StartMessage.FromString(body)
            else:
                self.streams[stream_id].frames.append((code, body))
        return opened


Script = Callable[[Connection, Seen], Awaitable[None]]


async def greet(connection: Connection, seen: Seen) -> None:
    await connection.send((seen.id, output() + end()))


class FakeEndpoint:
    """``scripts`` by handler name; a handler without one greets. ``hello`` may be bytes that are no hello at all."""

    def __init__(self, hello: ep.Hello | bytes | None = HELLO) -> None:
        self.hello = hello
        self.scripts: dict[str, Script] = {}
        self.opened: list[Seen] = []
        self.connections: list[Connection] = []
        self.address = ""
        self.port = 0
        self.tasks: set[asyncio.Task[None]] = set()
        self._server: grpc.aio.Server | None = None

    async def start(self, port: int = 0) -> None:
        self._server = grpc.aio.server(
            options=(
                ("grpc.max_receive_message_length", -1),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),
                ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
            )
        )
        handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(self._session)
        service = "holdfast.endpoint.v1.Endpoint"
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"Session": handler}),))
        self.port = self._server.add_insecure_port(f"127.0.0.1:{port}")
        self.address = f"127.0.0.1:{self.port}"
        await self._server.start()

    async def stop(self) -> None:
        for task in self.tasks - {asyncio.current_task()}:
            task.cancel()
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    async def _session(self, requests: AsyncIterator[bytes], context: Any) -> None:
        connection = Connection(self, context.write)
        self.connections.append(connection)
        if self.hello is None:
            await asyncio.sleep(3600)
        raw = self.hello if isinstance(self.hello, bytes) else ep.SessionFlush(hello=self.hello).SerializeToString()
        await context.write(raw)
        crash: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        reading = asyncio.ensure_future(self._read(requests, connection, crash))
        both: set[asyncio.Future[Any]] = {reading, crash}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        reading.cancel()
        if crash.done():
            await context.abort(grpc.StatusCode.UNAVAILABLE, crash.result())

    async def _read(self, requests: AsyncIterator[bytes], connection: Connection, crash: asyncio.Future[str]) -> None:
        async for request in requests:
            flush = ep.SessionFlush.FromString(request)
            for stream_id, data in zip(flush.stream_ids, flush.frames, strict=True):
                opened = connection.take(stream_id, data)
                if opened is not None:
                    script = self.scripts.get(opened.opening.handler, greet)
                    task = asyncio.ensure_future(self._run(script, connection, opened, crash))
                    self.tasks.add(task)
                    task.add_done_callback(self.tasks.discard)

    async def _run(self, script: Script, connection: Connection, seen: Seen, crash: asyncio.Future[str]) -> None:
        try:
            await script(connection, seen)
        except ConnectionAbortedError as error:
            crash.set_result(
                str(error) or "the process died"
            )  # the script asks for a crash: the session is cut in the middle

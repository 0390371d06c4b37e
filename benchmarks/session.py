"""What invoker and session cost per attempt, without log, tables and ingress.

One invoker keeps attempts of a greet in flight at an endpoint in another process, over the real gRPC session; what
would be proposed is taken by a host that starts the next attempt at once. The endpoint does the least that answers. CPU
is the operating system's account of the whole process, gRPC's threads and the host's part included.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import uvloop
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks._accounting import cpu_seconds
from holdfast_partition_processor.action import StartAttempt
from holdfast_partition_processor.catalog import Catalog
from holdfast_partition_processor.command import (
    AttemptFailed,
    Deployment,
    Effects,
    Handler,
    HandlerType,
    InvokedBy,
    PayloadRule,
    Service,
    ServiceType,
    Target,
)
from holdfast_partition_processor.endpoint_session import EndpointSessions
from holdfast_partition_processor.invocation import Invocation, Status
from holdfast_partition_processor.invoker import Invoker
from holdfast_proto import endpoint_pb2 as ep
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import MessageType, encode_frame

IN_FLIGHT = (1, 16, 64, 256)
INPUT = encode_frame(MessageType.INPUT, pb.InputCommandMessage(value=pb.Value(content=b'"Ada"')).SerializeToString())
ANSWER = encode_frame(
    MessageType.OUTPUT, pb.OutputCommandMessage(value=pb.Value(content=b'"Hello Ada"')).SerializeToString()
) + encode_frame(MessageType.END, b"")
HELLO = ep.SessionFlush(
    hello=ep.Hello(
        session_version=1,
        stream_credit_bytes=1 << 20,
        session_credit_bytes=1 << 62,  # never runs out: credit the other way is not what is measured
        frame_bytes_max=1 << 25,
        peer="bench",
    )
).SerializeToString()


async def serve() -> None:
    """The endpoint's process: prints its port, answers until its standard input ends."""
    server = grpc.aio.server()

    async def session(requests: AsyncIterator[bytes], context: Any) -> None:
        await context.write(HELLO)
        async for request in requests:
            ids = ep.SessionFlush.FromString(request).stream_ids
            opened = [number for number in ids if number]
            if opened:
                answer = ep.SessionFlush(stream_ids=opened, frames=[ANSWER] * len(opened))
                await context.write(answer.SerializeToString())

    method: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(session)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("holdfast.endpoint.v1.Endpoint", {"Session": method}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.stop(None)


class Host:
    """Takes what would be proposed; each end of an attempt is the start of the next, until `stop`."""

    def __init__(self) -> None:
        self.invoker: Invoker | None = None
        self.done = 0
        self.failed: str | None = None
        self.stopped = False
        self.idle = asyncio.Event()
        self._rng = random.Random(1)
        self._target = Target("bench", "greet", None, HandlerType.SERVICE)

    def now_ms(self) -> int:
        return 1_700_000_000_000

    def read_journal(self, invocation_id: bytes) -> bytes:
        return INPUT

    def read_state(self, service: str, key: str) -> list[tuple[bytes, bytes]]:
        return []

    def submit(self, command: Effects | AttemptFailed) -> None:
        if isinstance(command, AttemptFailed):
            self.failed = command.failure.message
            self.stopped = True
        self.done += 1
        if self.stopped:
            self.idle.set()
        else:
            asyncio.get_running_loop().call_soon(self.start)

    def start(self) -> None:
        assert self.invoker is not None
        row = Invocation(
            id=self._rng.randbytes(24),
            target=self._target,
            status=Status.INVOKED,
            created_ms=0,
            modified_ms=0,
            by=InvokedBy.INGRESS,
            by_id=b"",
            sinks=(),
            idempotency_key=None,
            execute_at_ms=0,
            completion_retention_ms=0,
            journal_retention_ms=0,
            attempt=1,
            journal_length=1,
            commands=1,
        )
        self.invoker.start(StartAttempt(row, INPUT))


@dataclass(frozen=True)
class Row:
    workload: str
    in_flight: int
    calls_per_s: float
    mean_us: float
    node_cpu_us: float
    app_cpu_us: float


async def measure(address: str, endpoint_pid: int, in_flight: int, seconds: float) -> Row:
    host = Host()
    greet = Handler("greet", HandlerType.SERVICE, PayloadRule(), PayloadRule())
    service = Service("bench", ServiceType.SERVICE, (greet,))
    catalog = Catalog.of([Deployment("dp_bench", address, 0, "bench", 6, 6, (service,), (1,))])
    sessions = EndpointSessions("bench")
    host.invoker = Invoker(host, sessions, lambda: catalog)
    for _ in range(in_flight):
        host.start()
    await asyncio.sleep(0.5)  # connected and warm
    done, began = host.done, time.perf_counter()
    node_cpu, app_cpu = cpu_seconds(os.getpid()), cpu_seconds(endpoint_pid)
    await asyncio.sleep(seconds)
    calls, took = host.done - done, time.perf_counter() - began
    node_cpu, app_cpu = cpu_seconds(os.getpid()) - node_cpu, cpu_seconds(endpoint_pid) - app_cpu
    host.stopped = True
    await host.idle.wait()
    host.invoker.close()
    await sessions.close()
    if host.failed is not None or not calls:
        raise SystemExit(f"the endpoint failed: {host.failed or 'no answer'}")
    return Row(
        workload="session",
        in_flight=in_flight,
        calls_per_s=round(calls / took, 1),
        mean_us=round(took / calls * in_flight * 1e6, 1),
        node_cpu_us=round(node_cpu / calls * 1e6, 2),
        app_cpu_us=round(app_cpu / calls * 1e6, 2),
    )


async def run(in_flight: tuple[int, ...], seconds: float) -> list[Row]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, __file__, "--endpoint", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        port = int(await process.stdout.readline())
        return [await measure(f"127.0.0.1:{port}", process.pid, number, seconds) for number in in_flight]
    finally:
        process.stdin.close()
        await process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--in-flight", type=int, nargs="+", default=IN_FLIGHT)
    parser.add_argument("--seconds", type=float, default=3.0, help="measured per row")
    parser.add_argument("--json", action="store_true", help="one JSON object per row")
    parser.add_argument("--endpoint", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.endpoint:
        uvloop.run(serve())
        return
    rows = uvloop.run(run(tuple(arguments.in_flight), arguments.seconds))
    if arguments.json:
        for row in rows:
            print(json.dumps(asdict(row)))
        return
    table = Table(title="invoker and session, per attempt of a greet")
    for name in asdict(rows[0]):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*(str(value) for value in asdict(row).values()))
    Console().print(table)


if __name__ == "__main__":
    main()

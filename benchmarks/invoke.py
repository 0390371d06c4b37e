"""How fast whole invocations are: client, node, log, handler and back, on one node with fdatasync on.

Starts a node and an app as processes of their own and keeps 1, 16, 64 and 256 calls in flight, over HTTP and gRPC:
greet (no step), counter (a virtual object, 1,000 keys), steps3 (three durable steps), call (to another handler).
The load generator shares the machine's cores with both; its own cost is part of every figure but the CPU columns.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import shutil
import statistics
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import uvloop
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks._accounting import cpu_seconds, resident_mib
from benchmarks._load import GrpcLoad, HttpLoad, LoadFailed, Samples
from examples.demo import processes
from holdfast_proto import ingress_pb2

IN_FLIGHT = (1, 16, 64, 256)
COUNTER_KEYS = 1_000
STORE_SECONDS_MAX = 300.0
FILL_ENTRIES = 1_000  # state entries per call while --stored-keys are written


@dataclass(frozen=True)
class Workload:
    service: str
    handler: str
    body: bytes
    keys: int = 0


WORKLOADS = {
    "greet": Workload("bench", "greet", b'"Ada"'),
    "counter": Workload("counter", "add", b"1", COUNTER_KEYS),
    "steps3": Workload("bench", "steps3", b'"Ada"'),
    "call": Workload("bench", "call", b'"Ada"'),
}

# What the project asks of itself on 2 cores, shared with the load generator.
TARGETS = {
    ("greet", 1): "p50 <= 1.2 ms",
    ("greet", 64): ">= 8,000/s",
    ("greet", 256): ">= 12,000/s, node <= 100 us, app <= 40 us",
    ("steps3", 256): ">= 4,000/s",
}
MEMORY_TARGET = "node <= 150 MiB after 100,000 invocations"


@dataclass(frozen=True)
class Row:
    workload: str
    transport: str
    nodes: int
    in_flight: int
    calls_per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    node_cpu_us: float
    app_cpu_us: float
    node_rss_mib: float


@dataclass(frozen=True)
class Running:
    port: int
    node_pid: int
    app_pid: int


def http_requests(workload: Workload) -> Iterator[bytes]:
    paths = [f"/{workload.service}/{workload.handler}"]
    if workload.keys:
        paths = [f"/{workload.service}/key-{n}/{workload.handler}" for n in range(workload.keys)]
    head = "POST {} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n"
    prepared = [head.format(path, len(workload.body)).encode() + workload.body for path in paths]
    return itertools.cycle(prepared)


def grpc_requests(workload: Workload) -> Iterator[bytes]:
    """Encoded InvokeRequests without their correlation id, which the generator adds."""
    keys: list[str | None] = [f"key-{n}" for n in range(workload.keys)]
    prepared = []
    for key in keys or [None]:
        target = ingress_pb2.Target(service=workload.service, handler=workload.handler, key=key)
        prepared.append(ingress_pb2.InvokeRequest(target=target, body=workload.body).SerializeToString())
    return itertools.cycle(prepared)


def generator(
    running: Running, transport: str, workload: Workload, in_flight: int, samples: Samples
) -> HttpLoad | GrpcLoad:
    if transport == "http":
        return HttpLoad(running.port, http_requests(workload), in_flight, samples)
    return GrpcLoad(running.port + 1, grpc_requests(workload), in_flight, samples)


async def measure(running: Running, name: str, transport: str, in_flight: int, options: argparse.Namespace) -> Row:
    samples = Samples()
    load = generator(running, transport, WORKLOADS[name], in_flight, samples)
    loop = asyncio.get_running_loop()
    await load.start()
    await asyncio.sleep(options.warm_up)
    node_before, app_before = cpu_seconds(running.node_pid), cpu_seconds(running.app_pid)
    began = loop.time()
    samples.recording = True
    await asyncio.sleep(options.seconds)
    samples.recording = False
    seconds = loop.time() - began
    node_used = cpu_seconds(running.node_pid) - node_before
    app_used = cpu_seconds(running.app_pid) - app_before
    samples.stopping = True
    await load.finish()
    if samples.failure:
        raise LoadFailed(f"{name} over {transport} with {in_flight} in flight: {samples.failure}")
    calls = len(samples.seconds)
    if calls < 2:
        raise LoadFailed(f"{name} over {transport}: {calls} answers in {seconds:.1f} s")
    cuts = statistics.quantiles(samples.seconds, n=100)
    return Row(
        workload=name,
        transport=transport,
        nodes=1,
        in_flight=in_flight,
        calls_per_s=round(calls / seconds, 1),
        p50_ms=round(cuts[49] * 1e3, 3),
        p95_ms=round(cuts[94] * 1e3, 3),
        p99_ms=round(cuts[98] * 1e3, 3),
        node_cpu_us=round(node_used / calls * 1e6, 1),
        app_cpu_us=round(app_used / calls * 1e6, 1),
        node_rss_mib=round(resident_mib(running.node_pid), 1),
    )


async def store_keys(running: Running, count: int) -> None:
    """Write ``count`` state entries below keys that no workload touches."""
    calls = -(-count // FILL_ENTRIES)
    samples = Samples()
    body = str(min(count, FILL_ENTRIES)).encode()
    requests = itertools.islice(grpc_requests(Workload("vault", "fill", body, calls)), calls)
    load = GrpcLoad(running.port + 1, requests, min(8, calls), samples)
    await load.start()
    await load.finish(STORE_SECONDS_MAX)
    if samples.failure:
        raise LoadFailed(f"--stored-keys: {samples.failure}")


async def run(running: Running, options: argparse.Namespace, console: Console) -> list[Row]:
    if options.stored_keys:
        console.print(f"storing {options.stored_keys:,} keys first")
        await store_keys(running, options.stored_keys)
    rows = []
    cases = list(itertools.product(options.workloads, options.transports, options.in_flight))
    with console.status("") as status:
        for number, (name, transport, in_flight) in enumerate(cases, 1):
            status.update(f"{number} of {len(cases)}: {name} over {transport}, {in_flight} in flight")
            rows.append(await measure(running, name, transport, in_flight, options))
            if options.json:
                print(json.dumps(asdict(rows[-1])), flush=True)
    return rows


def show(rows: list[Row], console: Console) -> None:
    table = Table(title="Invocations through one node")
    for column in ("workload", "transport", "in flight", "calls/s", "p50 ms", "p95 ms", "p99 ms"):
        table.add_column(column, justify="left" if column in ("workload", "transport") else "right")
    for column in ("node us", "app us", "node MiB"):
        table.add_column(column, justify="right")
    table.add_column("target")
    for row in rows:
        table.add_row(
            row.workload, row.transport, str(row.in_flight), f"{row.calls_per_s:,.0f}",
            f"{row.p50_ms:.2f}", f"{row.p95_ms:.2f}", f"{row.p99_ms:.2f}",
            f"{row.node_cpu_us:.0f}", f"{row.app_cpu_us:.0f}", f"{row.node_rss_mib:.0f}",
            TARGETS.get((row.workload, row.in_flight), ""),
        )  # fmt: skip
    console.print(table)
    console.print(f"CPU columns are microseconds per call. Memory target: {MEMORY_TARGET}.")


def start(directory: Path, port: int) -> tuple[processes.Process, processes.Process]:
    node = processes.node_process(directory, port)
    app = processes.app_process("benchmarks._app", directory, port + processes.PORTS_PER_NODE)
    node.start()
    app.start()
    return node, app


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object per row on standard output")
    parser.add_argument("--stored-keys", type=int, default=0, metavar="N", help="write N state entries first")
    parser.add_argument("--seconds", type=float, default=2.0, help="measured time per row (2)")
    parser.add_argument("--warm-up", type=float, default=0.4, help="time before it, not measured (0.4)")
    parser.add_argument("--in-flight", type=int, nargs="+", default=list(IN_FLIGHT), metavar="N")
    parser.add_argument("--workloads", nargs="+", choices=list(WORKLOADS), default=list(WORKLOADS))
    parser.add_argument("--transports", nargs="+", choices=["http", "grpc"], default=["http", "grpc"])
    return parser.parse_args()


def main() -> int:
    options = arguments()
    console = Console(stderr=options.json, highlight=False, width=None if sys.stdout.isatty() else 150)
    directory = processes.ROOT / ".bench" / f"invoke-{os.getpid()}"
    directory.mkdir(parents=True)
    port = processes.free_ports(processes.PORTS_PER_NODE + 1)
    node, app = start(directory, port)
    try:
        processes.wait_until_healthy(node, port)
        processes.register(port + 1, f"127.0.0.1:{port + processes.PORTS_PER_NODE}")
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            rows = runner.run(run(Running(port, node.pid, app.pid), options, console))
        if not options.json:
            show(rows, console)
    except (LoadFailed, TimeoutError) as error:
        print(f"benchmark failed: {error!r}\nlogs: {node.log}, {app.log}", file=sys.stderr)
        return 1
    finally:
        app.stop()
        node.stop()
    shutil.rmtree(directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())

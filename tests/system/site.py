"""A node with its data and its endpoints, all processes of their own, for one test."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from examples.demo import processes
from examples.demo.client import Client
from examples.demo.processes import Process
from holdfast_proto import admin_pb2, admin_pb2_grpc

ENDPOINTS_MAX = 4


@dataclass
class Site:
    directory: Path
    port: int  # HTTP; gRPC is the next
    node: Process
    endpoints: list[Process] = field(default_factory=list)

    def start_node(self) -> None:
        self.node.start()
        self.wait_until_healthy()

    def wait_until_healthy(self) -> None:
        processes.wait_until_healthy(self.node, self.port)

    def start_endpoint(self, what: str, **environment: str) -> Process:
        """Start a module or file that serves handlers, and register what it offers."""
        assert len(self.endpoints) < ENDPOINTS_MAX
        port = self.port + processes.PORTS_PER_NODE + len(self.endpoints)
        endpoint = processes.app_process(what, self.directory, port, **environment)
        endpoint.log = self.directory / f"endpoint-{len(self.endpoints)}.log"
        self.endpoints.append(endpoint)
        endpoint.start()
        processes.register(self.port + 1, f"127.0.0.1:{port}")
        return endpoint

    def client(self, seconds: float = 60.0) -> Client:
        return Client(self.port, time.monotonic() + seconds)

    @contextmanager
    def admin(self) -> Iterator[admin_pb2_grpc.AdminStub]:
        with grpc.insecure_channel(f"127.0.0.1:{self.port + 1}") as channel:
            yield admin_pb2_grpc.AdminStub(channel)

    def invocation(self, invocation_id: str) -> admin_pb2.Invocation:
        with self.admin() as admin:
            detail = admin.GetInvocation(admin_pb2.GetInvocationRequest(id=invocation_id), timeout=10)
        return detail.invocation

    def close(self) -> None:
        for process in [*self.endpoints, self.node]:
            process.kill()

    def logs(self) -> str:
        """The ends of all logs, for the message of a failed test."""
        texts = []
        for process in [self.node, *self.endpoints]:
            if process.log.exists():
                texts.append(f"--- {process.log.name}\n" + process.log.read_text(errors="replace")[-4000:])
        return "\n".join(texts)


def create(directory: Path, *node_options: str) -> Site:
    port = processes.free_ports(processes.PORTS_PER_NODE + ENDPOINTS_MAX)
    return Site(directory, port, processes.node_process(directory, port, *node_options))


def eventually(check: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    """Wait until ``check`` holds; fails with ``what`` was awaited."""
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.05)

"""The node and the app as processes of their own, which can be killed and started again on the same ports and data."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from holdfast_proto import admin_pb2, admin_pb2_grpc

PORTS_PER_NODE = 4
READY_SECONDS_MAX = 20.0
ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Process:
    """A command that can be started again after it was killed. Its output goes to the end of ``log``."""

    name: str
    command: Sequence[str]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    cwd: Path = ROOT
    _running: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._running is not None, f"{self.name} was not started"
        return self._running.pid

    def start(self) -> None:
        with self.log.open("ab") as output:
            environment = {**os.environ, **self.environment}
            self._running = subprocess.Popen(
                self.command, cwd=self.cwd, stdout=output, stderr=subprocess.STDOUT, env=environment
            )

    def kill(self) -> None:
        """SIGKILL: no handler runs, nothing is flushed."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        if self._running is None:
            return
        self._running.send_signal(how)
        try:
            self._running.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._running.kill()
            self._running.wait()
        self._running = None

    def is_alive(self) -> bool:
        return self._running is not None and self._running.poll() is None

    def check_alive(self) -> None:
        if self._running is not None and self._running.poll() is not None:
            tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
            raise RuntimeError(f"{self.name} ended by itself with code {self._running.returncode}:\n{tail}")


def free_ports(count: int) -> int:
    """The first of ``count`` ports in a row that nobody listens on. They stay free only if nobody is quicker."""
    for first in range(20_000 + os.getpid() % 8_000, 60_000, count):
        if all(_is_free(port) for port in range(first, first + count)):
            return first
    raise RuntimeError("no free ports on 127.0.0.1")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def node_process(directory: Path, port_base: int, *options: str) -> Process:
    """A node on ``directory``/data: HTTP on ``port_base``, gRPC on the next, admin HTTP on the one after it."""
    command = [str(Path(sys.executable).with_name("holdfast")), "server"]
    command += ["--data-dir", str(directory / "data"), "--port-base", str(port_base), *options]
    return Process("node", command, directory / "node.log")


def app_process(what: str, directory: Path, port: int, **environment: str) -> Process:
    """An endpoint: ``python -m what``, or ``python what`` for a file; it calls `holdfast.serve`."""
    environment = {"HOLDFAST_BIND": f"127.0.0.1:{port}", **environment}
    program = [what] if what.endswith(".py") else ["-m", what]
    return Process("app", [sys.executable, *program], directory / "app.log", environment)


def wait_until_healthy(node: Process, port: int, *, services: int = 0) -> None:
    """Until the node answers, and knows at least so many services."""
    deadline = time.monotonic() + READY_SECONDS_MAX
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/restate/health", timeout=2) as answer:
                if len(json.load(answer)["services"]) >= services:
                    return
        except (urllib.error.URLError, OSError):
            node.check_alive()
        if time.monotonic() > deadline:
            raise RuntimeError(f"{node.name} did not become healthy, see {node.log}")
        time.sleep(0.05)


def register(node_grpc_port: int, app_address: str) -> admin_pb2.RegisterDeploymentResponse:
    """Tell the node about the app, as ``holdfast deployments register`` does; waits until the app answers."""
    request = admin_pb2.RegisterDeploymentRequest(address=app_address)
    deadline = time.monotonic() + READY_SECONDS_MAX
    with grpc.insecure_channel(f"127.0.0.1:{node_grpc_port}") as channel:
        while True:
            try:
                return admin_pb2_grpc.AdminStub(channel).RegisterDeployment(request, timeout=10, wait_for_ready=True)
            except grpc.RpcError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

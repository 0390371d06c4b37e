"""`holdfast dev`: one node, and the user's app in a process of its own, registered again when a file changes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import watchfiles

from holdfast_cluster.config import Config
from holdfast_cluster.node import Node
from holdfast_cluster.registry import RegistryError
from holdfast_log import LogError
from holdfast_partition_processor.discovery import DiscoveryError

START_SECONDS = 20.0
STOP_SECONDS = 5.0


class App:
    """The child process. Its ``serve`` call binds to HOLDFAST_BIND."""

    def __init__(self, path: Path, say: Callable[[str], None]) -> None:
        self._path = path
        self._say = say
        self._process: asyncio.subprocess.Process | None = None
        self.address = f"127.0.0.1:{free_port()}"

    async def start(self) -> None:
        environment = {**os.environ, "HOLDFAST_BIND": self.address}
        self._process = await asyncio.create_subprocess_exec(sys.executable, str(self._path), env=environment)

    async def stop(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()

    async def register(self, node: Node) -> None:
        """Try until the app answers. Says what is wrong when it does not."""
        deadline = asyncio.get_running_loop().time() + START_SECONDS
        while True:
            try:
                _, deployment = await node.registry.register(self.address, force=True, breaking=True)
            except (DiscoveryError, RegistryError, LogError, TimeoutError) as error:
                ended = self._process is not None and self._process.returncode is not None
                if ended or asyncio.get_running_loop().time() > deadline:
                    self._say(f"{self._path} could not be registered: {error}; fix it and save")
                    return
                await asyncio.sleep(0.1)
            else:
                names = ", ".join(f"{s.name} ({len(s.handlers)} handlers)" for s in deployment.services)
                self._say(f"{self._path}: {names}")
                return


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def run_dev(path: Path, config: Config, say: Callable[[str], None]) -> int:
    """Until SIGINT or SIGTERM. Raises what Node.start raises."""
    stopped = asyncio.Event()
    fatal: list[BaseException] = []

    def on_fatal(error: BaseException) -> None:
        fatal.append(error)
        stopped.set()

    node = await Node.start(config, on_fatal)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    app = App(path, say)
    try:
        await app.start()
        say(f"node ready: http://{config.host}:{node.http_port}, gRPC {config.host}:{node.grpc_port}")
        await app.register(node)
        await _until(stopped, lambda: _reload(path, app, node, say))
    finally:
        await app.stop()
    if fatal:
        say(f"the node can't go on: {fatal[0]}")
        return 1
    await node.stop()
    return 0


async def _reload(path: Path, app: App, node: Node, say: Callable[[str], None]) -> None:
    async for _ in watchfiles.awatch(path.parent, watch_filter=watchfiles.PythonFilter()):
        say("a file changed, starting the app again")
        await app.stop()
        await app.start()
        await app.register(node)


async def _until(stopped: asyncio.Event, work: Callable[[], Awaitable[None]]) -> None:
    worker = asyncio.ensure_future(work())
    waiter = asyncio.ensure_future(stopped.wait())
    await asyncio.wait({worker, waiter}, return_when=asyncio.FIRST_COMPLETED)
    for task in (worker, waiter):
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

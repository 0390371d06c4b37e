"""The process that runs handlers: a gRPC server that nodes connect to.

``serve`` is for a program of its own; `Endpoint` is for tests, and for programs that do other things beside.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import AsyncGenerator, Callable, Iterable

import grpc.aio

from holdfast import logging as holdfast_logging
from holdfast._attempt import Surroundings
from holdfast._registration import ServiceBase
from holdfast._servicer import Servicer
from holdfast._steps import StepExecutor
from holdfast._worker_threads import WorkerThreads
from holdfast.discovery import check_services, manifest
from holdfast.retry_policy import Duration, to_ms
from holdfast_proto.endpoint_pb2_grpc import add_EndpointServicer_to_server
from holdfast_proto.framing import FRAME_BYTES_MAX

logger = logging.getLogger("holdfast")

DEFAULT_BIND = "127.0.0.1:9080"
HANDLER_THREADS_MAX = 64
"""``def`` handlers that run or wait at a time; when more come, those that wait are suspended."""
STEP_THREADS_MAX = 64
SHUTDOWN_SECONDS = 30.0
SERVER_OPTIONS = (
    ("grpc.max_send_message_length", 2 * FRAME_BYTES_MAX),
    ("grpc.max_receive_message_length", 2 * FRAME_BYTES_MAX),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    ("grpc.so_reuseport", 0),
)


class Endpoint:
    """Serves handlers in the running event loop::

        async with Endpoint([greeter]).running(bind="127.0.0.1:0") as port:
            ...

    Raises DefinitionError for services that can't be served.
    """

    def __init__(
        self,
        services: Iterable[ServiceBase],
        *,
        handler_threads: int = HANDLER_THREADS_MAX,
        step_threads: int = STEP_THREADS_MAX,
        shutdown_deadline: Duration = SHUTDOWN_SECONDS,
    ) -> None:
        self._services = check_services(services)
        self._handlers = {
            (service.name, handler.name): handler for service in self._services for handler in service.handlers.values()
        }
        self._manifest = manifest(self._services)
        self._handler_threads_max = handler_threads
        self._step_threads_max = step_threads
        self._shutdown_seconds = to_ms(shutdown_deadline, "shutdown_deadline") / 1000
        self._server: grpc.aio.Server | None = None
        self._servicer: Servicer | None = None
        self._threads: list[WorkerThreads] = []

    async def start(self, bind: str = DEFAULT_BIND) -> int:
        """Listen on ``bind``, host:port (port 0: any free one), and give the port. Raises OSError if that is taken."""
        assert self._server is None, "an endpoint is started once"
        loop = asyncio.get_running_loop()
        handler_threads = WorkerThreads(loop, "holdfast-handler", self._handler_threads_max)
        step_threads = WorkerThreads(loop, "holdfast-step", self._step_threads_max)
        self._threads = [handler_threads, step_threads]
        surroundings = Surroundings(StepExecutor(loop, step_threads), handler_threads)
        server = grpc.aio.server(options=SERVER_OPTIONS)
        self._servicer = Servicer(self._handlers, self._manifest, surroundings)
        add_EndpointServicer_to_server(self._servicer, server)
        try:
            port = server.add_insecure_port(bind)
        except RuntimeError as error:
            raise OSError(f"can't listen on {bind}: is the port taken? ({error})") from None
        await server.start()
        self._server = server
        return port

    async def stop(self) -> None:
        """Take no more work, suspend what only waits, let the rest finish until the deadline, then cut it off: the node
        starts it again elsewhere."""
        server, self._server = self._server, None
        if server is None:
            return
        assert self._servicer is not None
        await self._servicer.drain(self._shutdown_seconds)
        await server.stop(grace=1.0)
        for threads in self._threads:
            threads.close()

    @property
    def names(self) -> list[str]:
        return [service.name for service in self._services]

    @contextlib.asynccontextmanager
    async def running(self, bind: str = DEFAULT_BIND) -> AsyncGenerator[int]:
        """Started inside the block, stopped after it; gives the port."""
        port = await self.start(bind)
        try:
            yield port
        finally:
            await self.stop()


def serve(
    services: Iterable[ServiceBase],
    *,
    bind: str | None = None,
    handler_threads: int = HANDLER_THREADS_MAX,
    step_threads: int = STEP_THREADS_MAX,
    shutdown_deadline: Duration = SHUTDOWN_SECONDS,
    log_level: int = logging.INFO,
) -> None:
    """Serve handlers until SIGINT or SIGTERM; then finish or suspend what is under way (a second signal: at once).

    ``bind`` is host:port, by default ``HOLDFAST_BIND`` from the environment or 127.0.0.1:9080. Register that address
    with a node (``holdfast deployments register``), or let ``holdfast dev`` do it. Raises DefinitionError for services
    that can't be served, OSError when the address is taken.
    """
    holdfast_logging.set_up(log_level)
    endpoint = Endpoint(
        services, handler_threads=handler_threads, step_threads=step_threads, shutdown_deadline=shutdown_deadline
    )
    address = bind or os.environ.get("HOLDFAST_BIND") or DEFAULT_BIND
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve_until_signal(endpoint, address))


async def _serve_until_signal(endpoint: Endpoint, bind: str) -> None:
    loop = asyncio.get_running_loop()
    stop = loop.create_future()

    def on_signal() -> None:
        if stop.done():
            os._exit(1)  # the second one: somebody is impatient
        stop.set_result(None)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    async with endpoint.running(bind) as port:
        host = bind.rpartition(":")[0]
        logger.info("serving %s on %s:%d", ", ".join(endpoint.names), host, port)
        await stop
        logger.info("stopping: waiting for what is under way")


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None  # asyncio's own loop
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory

"""A node: one process, one event loop, all its parts put together here and nowhere else.

::

    data directory            parts, in the order of their start; stopped the other way round
      lock, identity.json       LogNode            journal and log groups
      journal/                  LmdbStore          tables, one per partition, one thread for their checkpoints
      partitions/N/             EndpointSessions   connections to the services
                                PartitionProcessor  one per partition; with duties while it leads
                                HttpServer, GrpcServer, admin  answer 503 until every partition leads

The event loop's thread owns all state. Worker threads only write to the disk.
"""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from holdfast_cluster.admin_http import LIMITS as ADMIN_LIMITS
from holdfast_cluster.admin_http import AdminHttp
from holdfast_cluster.config import Config
from holdfast_cluster.grpc_server import GrpcServer
from holdfast_cluster.http_message import HttpLimits
from holdfast_cluster.http_server import HttpServer
from holdfast_cluster.ingress import Ingress, IngressOptions
from holdfast_cluster.ingress_grpc import GrpcIngress
from holdfast_cluster.ingress_http import IngressHttp
from holdfast_cluster.registry import Registry
from holdfast_cluster.router import Router
from holdfast_log.identity import NodeIdentity
from holdfast_log.multi_raft import LogNode, LogOptions
from holdfast_partition_processor.catalog import Catalog, Settings
from holdfast_partition_processor.checkpoints import CheckpointOptions
from holdfast_partition_processor.command import Deployment
from holdfast_partition_processor.endpoint_session import EndpointSessions
from holdfast_partition_processor.invoker import Invoker, InvokerOptions
from holdfast_partition_processor.leadership import LeaderDuties
from holdfast_partition_processor.processor import PartitionProcessor, ProcessorOptions
from holdfast_partition_processor.store import LmdbStore, StoreOptions

logger = logging.getLogger(__name__)

LAST_ANSWERS_SECONDS = 1.0
"""After the grace of a stop, for the answers that say that the node stops."""


def clock_ms() -> int:
    return time.time_ns() // 1_000_000


class Node:
    """Made by `Node.start`. ``fatal`` is done when the node can't go on, and holds why: the process must then end,
    without `stop`, since what the disk said last can't be trusted."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.name = config.node.name
        self.cluster = config.node.cluster
        self.started_at_ms = clock_ms()
        self.processors: dict[int, PartitionProcessor] = {}
        self.catalog = Catalog.of((), _defaults(config))
        self.router = Router(self.processors)
        self.registry = Registry(self, clock_ms=clock_ms)
        self.ingress = Ingress(self.router, lambda: self.catalog, clock_ms, _ingress_options(config))
        self.http = HttpServer("ingress", IngressHttp(self.ingress), _http_limits(config))
        self.grpc_ingress = GrpcIngress(self.ingress)
        self.grpc = GrpcServer(self, self.grpc_ingress)
        self.admin = HttpServer("admin", AdminHttp(self), ADMIN_LIMITS)
        self.fatal: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        self._log: LogNode | None = None
        self._sessions = EndpointSessions(self.name)
        self._store_thread = ThreadPoolExecutor(1, thread_name_prefix="tables")
        self._changed = asyncio.Event()

    @classmethod
    async def start(cls, config: Config) -> Node:
        """Returns when the node answers. Raises LogError (DirectoryInUse, WrongDirectory, ...), StoreError or OSError
        when it can't start; nothing of it is left then."""
        node = cls(config)
        try:
            await node._open()
            await node._listen()
            await node._lead()
        except BaseException:
            await node.stop()
            raise
        return node

    @property
    def journal_flushes(self) -> int:
        return 0 if self._log is None else self._log.flushes

    # ------------------------------------------------------------ starting

    async def _open(self) -> None:
        config, directory = self.config, Path(self.config.node.data_dir)
        self._log = log = await LogNode.open(
            directory,
            identity=NodeIdentity(self.cluster, self.name),
            partitions=config.node.partitions,
            options=LogOptions(segment_bytes=config.log.segment_size_bytes),
        )
        log.on_fatal = self._fail
        options = StoreOptions(overlay_bytes_max=config.tables.pending_max_bytes)
        for partition in range(config.node.partitions):
            path = directory / "partitions" / str(partition)
            store = await asyncio.to_thread(
                LmdbStore.open, path, partition=partition, options=options, executor=self._store_thread
            )
            self.processors[partition] = PartitionProcessor(
                log.group(partition),
                store,
                partitions=config.node.partitions,
                clock_ms=clock_ms,
                duties=self._duties,
                on_deployments=self._set_deployments,
                on_fatal=self._fail,
                options=ProcessorOptions(
                    checkpoints=CheckpointOptions(seconds=config.tables.checkpoint_interval_ms / 1000)
                ),
            )

    async def _listen(self) -> None:
        listen = self.config.listen
        await self.http.start(listen.host, listen.http)
        await self.grpc.start(listen.host, listen.grpc)
        await self.admin.start(listen.host, listen.admin)

    async def _lead(self) -> None:
        assert self._log is not None, "_open comes first"
        for processor in self.processors.values():
            processor.start()
        await self._log.start()
        while not all(processor.is_leading or processor.failure for processor in self.processors.values()):
            if self.fatal.done():
                raise self.fatal.result()
            self._changed.clear()
            await self._changed.wait()
        await self.grpc.set_ready(self.router.ready)

    def _duties(self, processor: PartitionProcessor) -> LeaderDuties:
        asyncio.get_running_loop().call_soon(self._changed.set)  # when it says so itself that it leads
        config = self.config.invoker
        options = InvokerOptions(
            concurrent_attempts_max=config.concurrent_attempts_max, eager_state_bytes_max=config.eager_state_max_bytes
        )
        return LeaderDuties(
            processor,
            clock_ms=clock_ms,
            invoker=lambda host: Invoker(host, self._sessions, lambda: self.catalog, options),
            courier=self.router.deliver,
        )

    def _set_deployments(self, deployments: list[Deployment]) -> None:
        self.catalog = Catalog.of(deployments, self.catalog.defaults)

    def _fail(self, error: BaseException) -> None:
        self._changed.set()
        if not self.fatal.done():
            self.fatal.set_result(error)

    # ------------------------------------------------------------ stopping

    async def stop(self) -> None:
        """Answer what can still be answered, take a last checkpoint, close the journal."""
        grace = self.config.node.stop_grace_ms / 1000
        timer = asyncio.get_running_loop().call_later(grace, self.ingress.close)
        await asyncio.gather(
            self.http.close(grace + LAST_ANSWERS_SECONDS), self.grpc.close(grace + LAST_ANSWERS_SECONDS)
        )
        timer.cancel()
        self.ingress.close()
        await asyncio.gather(*(processor.close() for processor in self.processors.values()))
        await self._sessions.close()
        if self._log is not None:
            await self._log.close()
        await self.admin.close(0)
        self._store_thread.shutdown(wait=False)


def _defaults(config: Config) -> Settings:
    return Settings(**msgspec.structs.asdict(config.services))


def _ingress_options(config: Config) -> IngressOptions:
    ingress = config.ingress
    return IngressOptions(
        request_seconds_max=ingress.request_timeout_ms / 1000,
        requests_outstanding_max=ingress.requests_outstanding_max,
        body_bytes_max=ingress.body_max_bytes,
        stream_requests_max=ingress.stream_requests_max,
    )


def _http_limits(config: Config) -> HttpLimits:
    ingress = config.ingress
    return HttpLimits(
        header_bytes_max=ingress.header_max_bytes,
        header_count_max=ingress.header_count_max,
        body_bytes_max=ingress.body_max_bytes,
        connections_max=ingress.connections_max,
        head_seconds_max=ingress.head_timeout_ms / 1000,
        body_seconds_max=ingress.body_timeout_ms / 1000,
        idle_seconds_max=ingress.idle_timeout_ms / 1000,
    )

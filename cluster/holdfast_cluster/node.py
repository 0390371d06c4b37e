"""The composition root: everything that one node is made of, started and stopped in order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection

from holdfast_cluster.admin_grpc import AdminServicer
from holdfast_cluster.config import Config
from holdfast_cluster.http_server import HttpServer
from holdfast_cluster.ingress import Ingress
from holdfast_cluster.ingress_http import IngressHttp
from holdfast_cluster.registry import Registry
from holdfast_cluster.router import Router
from holdfast_log import LogError, LogNode, NodeIdentity
from holdfast_partition_processor.catalog import Catalog
from holdfast_partition_processor.command import Deployment, Ingest
from holdfast_partition_processor.endpoint_session import EndpointSessions
from holdfast_partition_processor.invoker import Invoker
from holdfast_partition_processor.leadership import LeaderDuties
from holdfast_partition_processor.processor import PartitionProcessor
from holdfast_partition_processor.store import LmdbStore
from holdfast_proto import admin_pb2
from holdfast_proto.admin_pb2_grpc import add_AdminServicer_to_server

READY_SECONDS = 60.0
DRAIN_SECONDS = 1.0


def wall_clock_ms() -> int:
    return int(time.time() * 1000)


class Node:
    """``await Node.start(config)``; ``on_fatal`` is called when the node can't go on and the process must end."""

    def __init__(self, config: Config, log: LogNode, on_fatal: Callable[[BaseException], None]) -> None:
        self.config = config
        self.started_at_ms = wall_clock_ms()
        self.catalog = Catalog()
        self.processors: dict[int, PartitionProcessor] = {}
        self.sessions = EndpointSessions(config.node)
        self.http_port = 0
        self.grpc_port = 0
        self._log = log
        self._on_fatal = on_fatal
        log.on_fatal = on_fatal

    @classmethod
    async def start(cls, config: Config, on_fatal: Callable[[BaseException], None]) -> Node:
        """Raises LogError, StoreError, OSError when the data can't be used or an address is taken."""
        identity = NodeIdentity(config.cluster, config.node)
        log = await LogNode.open(config.data_dir, identity=identity, partitions=config.partitions)
        node = cls(config, log, on_fatal)
        for partition in range(config.partitions):
            node._add_partition(partition)
        node.router = Router(node.processors)
        node.registry = Registry(node.processors[0], lambda: node.catalog, wall_clock_ms)
        await log.start()
        await node._led()
        await node._listen()
        return node

    router: Router
    registry: Registry

    def _add_partition(self, partition: int) -> None:
        store = LmdbStore.open(self.config.data_dir / "partitions" / str(partition), partition=partition)
        processor = PartitionProcessor(
            self._log.group(partition),
            store,
            partitions=self.config.partitions,
            clock_ms=wall_clock_ms,
            duties=self._duties,
            on_deployments=self._deployments_changed,
            on_fatal=self._on_fatal,
        )
        self.processors[partition] = processor
        processor.start()

    def _duties(self, processor: PartitionProcessor) -> LeaderDuties:
        return LeaderDuties(
            processor,
            clock_ms=wall_clock_ms,
            invoker=lambda host: Invoker(host, self.sessions, lambda: self.catalog),
            courier=self._deliver,
        )

    def _deliver(self, target: int, ingest: Ingest, durable: Callable[[], None], failed: Callable[[], None]) -> None:
        try:
            self.processors[target].submit(ingest, durable, failed)
        except LogError:
            failed()

    def _deployments_changed(self, deployments: list[Deployment]) -> None:
        self.catalog = Catalog.of(deployments)

    async def _led(self) -> None:
        async with asyncio.timeout(READY_SECONDS):
            while not all(processor.is_leading for processor in self.processors.values()):
                await asyncio.sleep(0.002)

    async def _listen(self) -> None:
        config = self.config
        ingress = Ingress(self.router, lambda: self.catalog, wall_clock_ms)
        self._ingress_http = IngressHttp(ingress, lambda: self.catalog, config.request_timeout_seconds)
        self._http = HttpServer(
            self._ingress_http.handle, self._ingress_http.refuse, body_bytes_max=config.body_bytes_max
        )
        self.http_port = await self._http.start(config.host, config.http_port)
        server = self._grpc = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        add_AdminServicer_to_server(AdminServicer(self), server)
        health = health_aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(health, server)
        names = [admin_pb2.DESCRIPTOR.services_by_name["Admin"].full_name, "grpc.health.v1.Health"]
        reflection.enable_server_reflection([*names, reflection.SERVICE_NAME], server)
        try:
            self.grpc_port = server.add_insecure_port(f"{config.host}:{config.grpc_port}")
        except RuntimeError as error:
            raise OSError(f"can't listen on {config.host}:{config.grpc_port}: {error}") from error
        await server.start()
        await health.set("", health_pb2.HealthCheckResponse.SERVING)

    async def stop(self) -> None:
        """Take no more requests, let answers go out, take a last checkpoint, release the directory."""
        self._ingress_http.close()
        await asyncio.gather(self._http.stop(DRAIN_SECONDS), self._grpc.stop(DRAIN_SECONDS))
        for processor in self.processors.values():
            await processor.close()
        await self.sessions.close()
        await self._log.close()

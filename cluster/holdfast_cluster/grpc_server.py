"""The gRPC listener for clients: ingress, admin, health and reflection."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from holdfast_cluster.admin_grpc import AdminServicer
from holdfast_cluster.ingress_grpc import GrpcIngress
from holdfast_proto import admin_pb2, admin_pb2_grpc, ingress_pb2, ingress_pb2_grpc
from holdfast_proto.framing import FRAME_BYTES_MAX

if TYPE_CHECKING:
    from holdfast_cluster.node import Node

MESSAGE_BYTES_MAX = 2 * FRAME_BYTES_MAX
"""A batch of InvokeStream; a single body is held to `ingress.body_max`."""
STREAMS_PER_CONNECTION_MAX = 1_024

OPTIONS = (
    ("grpc.so_reuseport", 0),  # a second node on the same port must fail, not share it
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_concurrent_streams", STREAMS_PER_CONNECTION_MAX),
    ("grpc.max_metadata_size", 32 * 1024),
    ("grpc.keepalive_time_ms", 30_000),  # finds clients that vanished
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),  # clients may ping as often
    ("grpc.http2.max_ping_strikes", 5),
)


class GrpcServer:
    def __init__(self, node: Node, ingress: GrpcIngress) -> None:
        self.port = 0  # the real one, after `start`
        self._ingress = ingress
        self._server = grpc.aio.server(options=OPTIONS)
        self._health = health.aio.HealthServicer()
        names = [
            ingress_pb2.DESCRIPTOR.services_by_name["Ingress"].full_name,
            admin_pb2.DESCRIPTOR.services_by_name["Admin"].full_name,
            health.SERVICE_NAME,
        ]
        self._names = ["", *names]
        ingress_pb2_grpc.add_IngressServicer_to_server(ingress, self._server)
        admin_pb2_grpc.add_AdminServicer_to_server(AdminServicer(node), self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection([*names, reflection.SERVICE_NAME], self._server)

    async def start(self, host: str, port: int) -> None:
        """Raises OSError when the address can't be bound."""
        try:
            self.port = self._server.add_insecure_port(f"{host}:{port}")
        except RuntimeError as error:
            raise OSError(f"gRPC can't listen on {host}:{port}: {error}") from error
        await self.set_ready(False)
        await self._server.start()

    async def set_ready(self, ready: bool) -> None:
        status = health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in self._names:
            await self._health.set(name, status)

    async def close(self, grace_seconds: float) -> None:
        """Take nothing new, let what is under way finish for so long, then cut it."""
        await self._health.enter_graceful_shutdown()
        self._ingress.close()
        await self._server.stop(grace_seconds)

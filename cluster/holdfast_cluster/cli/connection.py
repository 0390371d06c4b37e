"""The gRPC connection of one command, and what its errors mean for people and scripts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from holdfast_cluster.cli.failure import FAILED, NOT_FOUND, UNAVAILABLE, USAGE, CommandFailed

if TYPE_CHECKING:
    import grpc

    from holdfast_proto.admin_pb2_grpc import AdminStub
    from holdfast_proto.ingress_pb2_grpc import IngressStub

ANSWER_SECONDS_MAX = 30.0
"""For everything but calls, which may take as long as their handler does."""
MESSAGE_BYTES_MAX = 80 * 1024 * 1024
"""Twice the largest value and more: what a node sends is shown."""


class Connection:
    """``admin`` and ``ingress`` are the node's services."""

    def __init__(self, address: str, channel: grpc.Channel) -> None:
        from holdfast_proto.admin_pb2_grpc import AdminStub
        from holdfast_proto.ingress_pb2_grpc import IngressStub

        self.address = address
        self.admin: AdminStub = AdminStub(channel)
        self.ingress: IngressStub = IngressStub(channel)

    def ask(self, method: Any, request: Any, timeout_s: float | None = ANSWER_SECONDS_MAX) -> Any:
        """The answer of one rpc. Raises CommandFailed."""
        import grpc

        try:
            return method(request, timeout=timeout_s)
        except grpc.RpcError as error:
            raise failure_of(error, self.address) from error


@contextmanager
def connect(address: str) -> Iterator[Connection]:
    """Nothing is sent yet. Raises CommandFailed for what is not an address."""
    import grpc

    options = [
        ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
        ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
        ("grpc.enable_http_proxy", 0),
        ("grpc.enable_retries", 0),
    ]
    _check_address(address)
    with grpc.insecure_channel(address, options=options) as channel:
        yield Connection(address, channel)


def failure_of(error: Any, address: str) -> CommandFailed:
    """A `grpc.RpcError` in the words and with the exit code of the command line."""
    import grpc

    code, details = error.code(), error.details() or ""
    match code:
        case grpc.StatusCode.NOT_FOUND:
            return CommandFailed(details, NOT_FOUND)
        case grpc.StatusCode.INVALID_ARGUMENT:
            return CommandFailed(details, USAGE)
        case grpc.StatusCode.UNAVAILABLE if _no_connection(details):
            return CommandFailed(
                f"no node answers at {address}; start one with `holdfast dev` or `holdfast server`, or name it with "
                "--address or HOLDFAST_ADDRESS (the node's gRPC port)",
                UNAVAILABLE,
            )
        case grpc.StatusCode.UNIMPLEMENTED:
            return CommandFailed(f"{address} is a gRPC server, but not a Holdfast node: {details}", UNAVAILABLE)
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return CommandFailed(f"{address} did not answer in time; what was asked may still happen", UNAVAILABLE)
        case grpc.StatusCode.UNAVAILABLE:
            return CommandFailed(f"{address} can't do it at the moment, try again: {details}", UNAVAILABLE)
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return CommandFailed(f"{address} has no room for it at the moment: {details}", UNAVAILABLE)
        case _:
            return CommandFailed(details or str(code), FAILED)


def _no_connection(details: str) -> bool:
    """gRPC's own words; those of a node are sentences about partitions."""
    return any(
        sign in details for sign in ("failed to connect", "Connection refused", "DNS resolution", "Socket closed")
    )


def _check_address(address: str) -> None:
    host, colon, port = address.rpartition(":")
    if address.startswith("unix:"):
        return
    if not host or not colon or not port.isdigit() or not 1 <= int(port) <= 65_535 or "/" in host:
        raise CommandFailed(f"address {address!r} is not of the form host:port, such as 127.0.0.1:8081", USAGE)

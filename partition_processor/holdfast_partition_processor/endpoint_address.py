"""Where an endpoint is, and how gRPC is to speak with it."""

from __future__ import annotations

import re

from holdfast_proto.framing import FRAME_BYTES_MAX

MESSAGE_BYTES_MAX = 2 * FRAME_BYTES_MAX
"""Largest gRPC message in either direction. Twice a frame, so that a frame that is somewhat too large is still read
and costs its attempt only; beyond this gRPC ends the session."""
KEEPALIVE_MS = 20_000
"""A connection whose other side is silently gone is found after this and `KEEPALIVE_TIMEOUT_MS`. An endpoint must allow
pings this often (gRPC's server option grpc.http2.min_ping_interval_without_data_ms)."""
PATIENT_KEEPALIVE_MS = 330_000
"""For an endpoint that does not: gRPC's servers allow one ping in five minutes when nobody told them otherwise."""
KEEPALIVE_TIMEOUT_MS = 10_000


def channel_options(keepalive_ms: int = KEEPALIVE_MS) -> tuple[tuple[str, int], ...]:
    return (
        ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
        ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
        ("grpc.keepalive_time_ms", keepalive_ms),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.enable_http_proxy", 0),  # endpoints are reached directly, whatever the environment says
        ("grpc.use_local_subchannel_pool", 1),  # each connection attempt stands alone; the back-off is ours
    )


_HOST_PORT = re.compile(r"(\[[0-9a-fA-F:.%]+\]|[^\s:/@?#\[\]]+):([0-9]{1,5})")
PORT_MAX = 65_535


class MalformedAddress(ValueError):
    """The text is not an address of an endpoint."""


def grpc_target(address: str) -> str:
    """What gRPC dials for "host:port", "grpc://host:port" or "unix:/path". Raises MalformedAddress."""
    bare = address.removeprefix("grpc://").rstrip("/") if address.startswith("grpc://") else address
    if bare.startswith("unix:") and len(bare) > len("unix:"):
        return bare
    match = _HOST_PORT.fullmatch(bare)
    if match is None or not 1 <= int(match[2]) <= PORT_MAX:
        forms = "host:port, grpc://host:port or unix:/path with a port of 1 to 65535"
        raise MalformedAddress(f"endpoint address {address[:200]!r} is not of the form {forms}")
    return bare

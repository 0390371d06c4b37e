"""The first message of each direction of a session: who speaks, and how much it takes."""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf.message import DecodeError

from holdfast_partition_processor.session_credit import BALANCE_BYTES_MAX
from holdfast_proto import endpoint_pb2 as ep
from holdfast_proto.framing import FRAME_BYTES_MAX

SESSION_VERSION = 1
MIB = 1024 * 1024


class SessionViolation(Exception):
    """The peer broke the session's rules in a way that can't be blamed on one stream."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the sender of a Hello imposes on what it receives. The defaults are a node's: half of the session's credit
    is more than the largest frame, so that a peer which sends only what its credit covers never starves."""

    stream_credit_bytes: int = 8 * MIB
    session_credit_bytes: int = 80 * MIB
    frame_bytes_max: int = FRAME_BYTES_MAX
    streams_max: int = 0  # 0: as many as there are ids


def read_hello(data: bytes) -> tuple[Limits, str]:
    """The peer's limits and name, from its first message. Raises SessionViolation."""
    flush = decode_flush(data)
    if not flush.HasField("hello"):
        raise SessionViolation("its first message has no hello")
    hello = flush.hello
    if hello.session_version != SESSION_VERSION:
        raise SessionViolation(f"it speaks session version {hello.session_version}, this node speaks {SESSION_VERSION}")
    if not (hello.stream_credit_bytes and hello.session_credit_bytes):
        raise SessionViolation("its hello gives no credit (stream_credit_bytes, session_credit_bytes: at least 1)")
    frame_bytes_max = min(hello.frame_bytes_max or FRAME_BYTES_MAX, FRAME_BYTES_MAX)
    stream_credit_bytes = min(hello.stream_credit_bytes, BALANCE_BYTES_MAX)
    session_credit_bytes = min(hello.session_credit_bytes, BALANCE_BYTES_MAX)
    return Limits(stream_credit_bytes, session_credit_bytes, frame_bytes_max, hello.streams_max), hello.peer


def write_hello(limits: Limits, peer: str) -> bytes:
    hello = ep.Hello(
        session_version=SESSION_VERSION,
        stream_credit_bytes=limits.stream_credit_bytes,
        session_credit_bytes=limits.session_credit_bytes,
        frame_bytes_max=limits.frame_bytes_max,
        peer=peer,
    )
    return ep.SessionFlush(hello=hello).SerializeToString()


def decode_flush(data: bytes) -> ep.SessionFlush:
    """Raises SessionViolation."""
    try:
        return ep.SessionFlush.FromString(data)
    except DecodeError as error:
        raise SessionViolation(f"it sent {len(data)} bytes that are not a SessionFlush: {error}") from error

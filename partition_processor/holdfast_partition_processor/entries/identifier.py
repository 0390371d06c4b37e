"""Ids of invocations and awakeables as handlers pass them."""

from __future__ import annotations

from holdfast_partition_processor.frame_body import InvalidFrame
from holdfast_proto.framing import SIGNAL_FIRST_AWAKEABLE
from holdfast_proto.identifiers import MalformedIdentifier, decode_awakeable_id, decode_invocation_id


def invocation_id(name: str, text: str) -> bytes:
    """Raises InvalidFrame."""
    try:
        return decode_invocation_id(text)
    except MalformedIdentifier as error:
        raise InvalidFrame(f"{name}: {error}") from error


def awakeable_id(name: str, text: str) -> tuple[bytes, int]:
    """Raises InvalidFrame."""
    try:
        target, signal = decode_awakeable_id(text)
    except MalformedIdentifier as error:
        raise InvalidFrame(f"{name}: {error}") from error
    if signal < SIGNAL_FIRST_AWAKEABLE:
        raise InvalidFrame(f"{name}: signal {signal} is reserved, awakeables count from {SIGNAL_FIRST_AWAKEABLE}")
    return target, signal

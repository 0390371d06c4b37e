"""Reading the body of a frame that an endpoint sent."""

from __future__ import annotations

from typing import TypeVar

from google.protobuf.message import DecodeError, Message

M = TypeVar("M", bound=Message)


class InvalidFrame(ValueError):
    """The endpoint sent what its handler may not send, or what can't be read: the attempt fails with these words."""


def decode(kind: type[M], name: str, body: bytes) -> M:
    """Raises InvalidFrame."""
    try:
        return kind.FromString(body)
    except DecodeError as error:
        raise InvalidFrame(f"{name}: the body of {len(body)} bytes can't be decoded: {error}") from error


def check_length(name: str, what: str, size: int, limit: int) -> None:
    """Raises InvalidFrame."""
    if size > limit:
        raise InvalidFrame(f"{name}: {what} has {size} bytes, the limit is {limit}")

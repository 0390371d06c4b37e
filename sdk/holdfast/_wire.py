"""Errors and values on the wire."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from holdfast.errors import Cancelled, InvalidValue, TerminalError
from holdfast.serde import Serde
from holdfast_proto import protocol_pb2 as pb

T = TypeVar("T")
Decode = Callable[[pb.Notification], T]

TERMINAL_CODE = 500


def to_failure(error: TerminalError) -> pb.Failure:
    metadata = [pb.FailureMetadata(key=key, value=str(value)) for key, value in error.metadata.items()]
    return pb.Failure(code=error.code, message=error.message, metadata=metadata)


def from_failure(failure: pb.Failure) -> TerminalError:
    code = failure.code if 400 <= failure.code <= 599 else TERMINAL_CODE
    # By position, because a peer's metadata may be called `code`.
    error = TerminalError(failure.message, code=code)
    error.metadata = {item.key: item.value for item in failure.metadata}
    return error


def terminal_cause(error: BaseException) -> TerminalError | None:
    """The TerminalError that ``error`` is, or consists of: an exception group of nothing else. A cancellation goes
    before the others."""
    if isinstance(error, TerminalError):
        return error
    if not isinstance(error, BaseExceptionGroup):
        return None
    group = cast("BaseExceptionGroup[BaseException]", error)
    causes = [terminal_cause(member) for member in group.exceptions]
    if not all(causes):
        return None
    return next((cause for cause in causes if isinstance(cause, Cancelled)), causes[0])


def value_decoder(serde: Serde[Any]) -> Decode[Any]:
    def decode(notification: pb.Notification) -> Any:
        return read_value(serde, notification.value.content, "the result")

    return decode


def optional_decoder(serde: Serde[Any], what: str, default: Any) -> Decode[Any]:
    def decode(notification: pb.Notification) -> Any:
        if notification.HasField("value"):
            return read_value(serde, notification.value.content, what)
        return default

    return decode


def decode_state_keys(notification: pb.Notification) -> list[str]:
    return sorted(key.decode(errors="replace") for key in notification.state_keys.keys)


def read_value(serde: Serde[Any], data: bytes, what: str) -> Any:
    """Raises TerminalError: data that do not fit will not fit in the next attempt either."""
    try:
        return serde.deserialize(data)
    except (ValueError, TypeError) as error:
        raise TerminalError(f"{what} is not what its type says: {error}") from error


def write_value(serde: Serde[Any], value: Any, what: str) -> bytes:
    """Raises TerminalError (500) with words that name the value."""
    try:
        return serde.serialize(value)
    except InvalidValue as error:
        raise TerminalError(f"{what} can't be serialised: {error}") from error
    except (ValueError, TypeError) as error:
        raise TerminalError(f"{what} can't be serialised: {type(error).__name__}: {error}") from error


def decode_none(notification: pb.Notification) -> None:
    return None


def decode_invocation_id(notification: pb.Notification) -> str:
    return notification.invocation_id

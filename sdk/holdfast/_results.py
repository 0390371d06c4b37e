"""Notifications to results of durable awaitables, and errors to failures."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from holdfast import serde
from holdfast.context import DurableFuture
from holdfast.errors import TerminalError
from holdfast_proto import protocol_pb2 as pb


def complete(future: DurableFuture[Any], read: Callable[[pb.Notification], Any], notification: pb.Notification) -> None:
    if future.done():
        return
    if notification.WhichOneof("result") == "failure":
        failure = notification.failure
        metadata = {item.key: item.value for item in failure.metadata}
        future.set_exception(TerminalError(failure.message, code=failure.code, **metadata))
        future._log_traceback = False
        return
    try:
        future.set_result(read(notification))
    except ValueError as error:
        future.set_exception(TerminalError(f"a recorded value does not fit the type asked for: {error}"))


def nothing(notification: pb.Notification) -> None:
    return None


def value_or_none(notification: pb.Notification, kind: Any) -> Any:
    return serde.decode(notification.value.content, kind) if notification.WhichOneof("result") == "value" else None


def found(found: bool, data: bytes, kind: Any) -> tuple[bool, Any]:
    return found, serde.decode(data, kind) if found else None


def failure_message(error: TerminalError) -> pb.Failure:
    metadata = [pb.FailureMetadata(key=key, value=value) for key, value in sorted(error.metadata.items())]
    return pb.Failure(code=error.code, message=error.message, metadata=metadata)


def result_type(fn: Callable[..., Any]) -> Any:
    annotations = getattr(fn, "__annotations__", {})
    if "return" not in annotations:
        return Any
    if isinstance(annotations["return"], str):
        return inspect.get_annotations(fn, eval_str=True)["return"]
    return annotations["return"]

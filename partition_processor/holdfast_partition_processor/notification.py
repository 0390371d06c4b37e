"""Bodies of Notification frames: what a command's completion or a signal looks like in the journal."""

from __future__ import annotations

from holdfast_partition_processor.command import Failure
from holdfast_proto import protocol_pb2 as pb

UNKNOWN_FAILURE = 500


def failure_of(message: pb.Failure) -> Failure:
    metadata = tuple((item.key, item.value) for item in message.metadata)
    return Failure(message.code or UNKNOWN_FAILURE, message.message, metadata)


def failure_message(failure: Failure) -> pb.Failure:
    metadata = [pb.FailureMetadata(key=key, value=value) for key, value in failure.metadata]
    code = failure.code if 0 < failure.code < 2**32 else UNKNOWN_FAILURE
    return pb.Failure(code=code, message=failure.message, metadata=metadata)


def completion(completion_id: int, value: bytes | None, failure: Failure | None) -> bytes:
    """Neither value nor failure: void."""
    if failure is not None:
        notification = pb.Notification(completion_id=completion_id, failure=failure_message(failure))
    elif value is not None:
        notification = pb.Notification(completion_id=completion_id, value=pb.Value(content=value))
    else:
        notification = pb.Notification(completion_id=completion_id, void=pb.Void())
    return notification.SerializeToString()


def completion_key(completion_id: int) -> bytes:
    """Sub key in COMPLETED_COMMANDS. Those of signals begin with a letter and have another length."""
    return completion_id.to_bytes(4, "big")


def signal_key(index: int) -> bytes:
    return b"s" + index.to_bytes(4, "big")


def named_signal_key(name: str) -> bytes:
    return b"named " + name.encode()

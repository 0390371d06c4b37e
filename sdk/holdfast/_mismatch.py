"""Whether a handler does again what it did before, and the words for it when it does not."""

from __future__ import annotations

import sys

from google.protobuf.message import Message

from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import MessageType


def mismatch(index: int, recorded: tuple[int, bytes], now: tuple[int, bytes]) -> str:
    return (
        f"command {index} was recorded as {describe(*recorded)}, but the code now does {describe(*now)} at "
        f"{calling_line()}. The code changed since this invocation began, or it does not do the same twice: move what "
        "is random, reads a clock or does IO into ctx.run, or register changed code at a new address."
    )


def same_command(code: MessageType, message: Message, body: bytes, recorded: bytes) -> bool:
    if body == recorded:
        return True
    before = type(message).FromString(recorded)
    match message:
        case pb.SleepCommandMessage():
            assert isinstance(before, pb.SleepCommandMessage)
            return before.result_completion_id == message.result_completion_id
        case pb.OneWayCallCommandMessage():
            assert isinstance(before, pb.OneWayCallCommandMessage)
            before.invoke_time = message.invoke_time
            return before == message
        case pb.OutputCommandMessage():
            return False
        case _:
            return before == message


def describe(code: int, body: bytes) -> str:
    name = MessageType(code).name if code in MessageType._value2member_map_ else f"0x{code:04x}"
    kind = _MESSAGES.get(code)
    if kind is None:
        return name
    fields = ", ".join(f"{field.name}={value!r}"[:120] for field, value in kind.FromString(body).ListFields())
    return f"{name}({fields})"


_MESSAGES: dict[int, type[Message]] = {
    MessageType.RUN: pb.RunCommandMessage,
    MessageType.CALL: pb.CallCommandMessage,
    MessageType.ONE_WAY_CALL: pb.OneWayCallCommandMessage,
    MessageType.SLEEP: pb.SleepCommandMessage,
    MessageType.SET_STATE: pb.SetStateCommandMessage,
    MessageType.OUTPUT: pb.OutputCommandMessage,
}


def calling_line() -> str:
    frame = sys._getframe(1)
    package = __file__.rsplit("/", 1)[0]
    while frame.f_back is not None and frame.f_code.co_filename.startswith(package):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"

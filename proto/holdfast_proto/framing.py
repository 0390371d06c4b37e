"""Frames of the service protocol: what journals are made of, and what crosses an endpoint session.

::

    0       2       4               8
    +-------+-------+---------------+-----------------------+
    | type  | flags | length of body| body: a protobuf      |
    | u16   | u16   | u32           | message, see          |
    |       |       |               | protocol.proto        |
    +-------+-------+---------------+-----------------------+
      all big-endian; the whole is stored in the journal and replayed unmodified

Commands are things a handler did, notifications are results handed to it; the completion of a command has the
command's code plus 0x7C00. Codes 0xFC00 to 0xFFFF steer an endpoint session and are never stored.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum

HEADER = struct.Struct(">HHI")
HEADER_BYTES = HEADER.size
FRAME_BYTES_MAX = 32 * 1024 * 1024
"""Largest body of one frame: the service protocol's own limit for a message."""

REQUESTED_ACK = 0x8000
"""Flag bit: the sender wants an acknowledgement once the frame is stored."""


class MessageType(IntEnum):
    """Codes of the service protocol, version 6."""

    START = 0x0000
    SUSPENSION = 0x0001
    ERROR = 0x0002
    END = 0x0003
    COMMAND_ACK = 0x0004
    PROPOSE_RUN_COMPLETION = 0x0005

    INPUT = 0x0400
    OUTPUT = 0x0401
    GET_LAZY_STATE = 0x0402
    SET_STATE = 0x0403
    CLEAR_STATE = 0x0404
    CLEAR_ALL_STATE = 0x0405
    GET_LAZY_STATE_KEYS = 0x0406
    GET_EAGER_STATE = 0x0407
    GET_EAGER_STATE_KEYS = 0x0408
    GET_PROMISE = 0x0409
    PEEK_PROMISE = 0x040A
    COMPLETE_PROMISE = 0x040B
    SLEEP = 0x040C
    CALL = 0x040D
    ONE_WAY_CALL = 0x040E
    SEND_SIGNAL = 0x0410
    RUN = 0x0411
    ATTACH_INVOCATION = 0x0412
    GET_INVOCATION_OUTPUT = 0x0413
    COMPLETE_AWAKEABLE = 0x0414

    GET_LAZY_STATE_COMPLETION = 0x8002
    GET_LAZY_STATE_KEYS_COMPLETION = 0x8006
    GET_PROMISE_COMPLETION = 0x8009
    PEEK_PROMISE_COMPLETION = 0x800A
    COMPLETE_PROMISE_COMPLETION = 0x800B
    SLEEP_COMPLETION = 0x800C
    CALL_COMPLETION = 0x800D
    CALL_INVOCATION_ID_COMPLETION = 0x800E
    RUN_COMPLETION = 0x8011
    ATTACH_INVOCATION_COMPLETION = 0x8012
    GET_INVOCATION_OUTPUT_COMPLETION = 0x8013
    SIGNAL = 0xFBFF

    OPEN = 0xFC01
    HALF_CLOSE = 0xFC02
    RESET = 0xFC03
    CREDIT = 0xFC04


SIGNAL_CANCEL = 1
"""Built-in signal: the invocation is asked to end."""
SIGNAL_FIRST_AWAKEABLE = 17
"""Signals 2 to 16 are reserved; awakeables count from here."""

PROTOCOL_VERSION = 6
"""The service protocol version that this release speaks."""


class MalformedFrame(ValueError):
    """The peer sent bytes that are not frames: unknown flags are ignored, but lengths must hold."""


def is_command(code: int) -> bool:
    return 0x0400 <= code < 0x8000


def is_notification(code: int) -> bool:
    return 0x8000 <= code <= MessageType.SIGNAL


def completion_of(command: int) -> int:
    """The code of the notification that completes ``command``."""
    return command + 0x7C00


def encode_frame(code: int, body: bytes, flags: int = 0) -> bytes:
    return HEADER.pack(code, flags, len(body)) + body


def decode_frames(data: bytes, body_bytes_max: int = FRAME_BYTES_MAX) -> Iterator[tuple[int, int, int, int]]:
    """Yield ``(code, flags, start, end)`` of each whole frame in ``data``; ``data[start:end]`` is its body.

    Raises MalformedFrame when ``data`` does not end with a frame, or a body is longer than ``body_bytes_max``.
    """
    position, size = 0, len(data)
    while position < size:
        if size - position < HEADER_BYTES:
            raise MalformedFrame(f"{size - position} bytes left at offset {position}, a header has {HEADER_BYTES}")
        code, flags, length = HEADER.unpack_from(data, position)
        start = position + HEADER_BYTES
        position = start + length
        if length > body_bytes_max:
            raise MalformedFrame(f"frame of type 0x{code:04x} has {length} bytes, the limit is {body_bytes_max}")
        if position > size:
            raise MalformedFrame(f"frame of type 0x{code:04x} ends {position - size} bytes after the data")
        yield code, flags, start, position

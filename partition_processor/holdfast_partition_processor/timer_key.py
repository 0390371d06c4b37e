"""Keys of the TIMERS table behind the due time: kind u8, invocation id, extra u32."""

from __future__ import annotations

from enum import IntEnum


class TimerKind(IntEnum):
    SLEEP = 0  # extra: completion id
    START = 1  # a delayed invocation
    RETRY = 2  # extra: attempt that failed
    PURGE = 3  # the result's retention is over
    PURGE_JOURNAL = 4


def encode(kind: TimerKind, invocation_id: bytes, extra: int = 0) -> bytes:
    return bytes((kind,)) + invocation_id + extra.to_bytes(4, "big")


def decode(timer: bytes) -> tuple[TimerKind, bytes, int]:
    return TimerKind(timer[0]), timer[1:25], int.from_bytes(timer[25:29], "big")

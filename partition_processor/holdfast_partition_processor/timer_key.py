"""Keys of the TIMERS table: due time u64, then what the shell treats as opaque: kind u8, invocation id, extra u32."""

from __future__ import annotations

from enum import IntEnum

from holdfast_proto.identifiers import INVOCATION_ID_BYTES

TIME_MS_MAX = 2**63 - 1
"""Later than this nothing is due: whatever adds to a time stays storable."""
_TIMER_BYTES = 1 + INVOCATION_ID_BYTES + 4


class TimerKind(IntEnum):
    """The numbers are stored."""

    SLEEP = 0  # extra: completion id
    START = 1  # of a delayed invocation
    RETRY = 2  # extra: attempt that failed
    PURGE = 3  # all retention is over
    PURGE_JOURNAL = 4  # before the rest
    PURGE_OBJECT = 5  # state and promises of a workflow, before the rest


def encode(kind: TimerKind, invocation_id: bytes, extra: int = 0) -> bytes:
    return bytes((kind,)) + invocation_id + extra.to_bytes(4, "big")


def decode(timer: bytes) -> tuple[TimerKind, bytes, int]:
    """``timer`` was in the table."""
    assert len(timer) == _TIMER_BYTES, timer
    return TimerKind(timer[0]), timer[1:-4], int.from_bytes(timer[-4:], "big")


def row_key(due_ms: int, timer: bytes) -> bytes:
    return in_range(due_ms).to_bytes(8, "big") + timer


def in_range(time_ms: int) -> int:
    """The nearest time that can be stored: a log may hold any number."""
    return min(max(time_ms, 0), TIME_MS_MAX)

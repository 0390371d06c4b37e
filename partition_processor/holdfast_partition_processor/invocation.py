"""The life of an invocation, and the row that holds it.

::

                 delayed          object is busy
    Invoke ──▶ SCHEDULED ──────▶ INBOXED ──────▶ INVOKED ◀───────────────┐
                                                 │  │  │  failed          │ due
                                                 │  │  └────────▶ BACKING_OFF
                                                 │  │ waits              │ attempts used up
                                                 │  └──▶ SUSPENDED       ▼
                                                 ▼        (completion) PAUSED ──▶ INVOKED (resume)
                                              COMPLETED

Every way into INVOKED begins a new attempt: ``attempt`` counts up in the same step, so that what an earlier attempt
still sends is recognised and ignored. Kill leads to COMPLETED from everywhere; cancel does so at once while nothing has
run yet, and otherwise lets the handler end it: what is BACKING_OFF or PAUSED begins another attempt for that.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

from holdfast_partition_processor.command import Failure, InvokedBy, ResponseSink, Target


class Status(IntEnum):
    """The numbers are stored."""

    SCHEDULED = 1
    INBOXED = 2
    INVOKED = 3
    BACKING_OFF = 4
    SUSPENDED = 5
    PAUSED = 6
    COMPLETED = 7


MAY_FOLLOW: dict[Status, frozenset[Status]] = {
    Status.SCHEDULED: frozenset({Status.INBOXED, Status.INVOKED, Status.COMPLETED}),
    Status.INBOXED: frozenset({Status.INVOKED, Status.COMPLETED}),
    Status.INVOKED: frozenset({Status.INVOKED, Status.BACKING_OFF, Status.SUSPENDED, Status.PAUSED, Status.COMPLETED}),
    Status.BACKING_OFF: frozenset({Status.INVOKED, Status.PAUSED, Status.COMPLETED}),
    Status.SUSPENDED: frozenset({Status.INVOKED, Status.PAUSED, Status.COMPLETED}),
    Status.PAUSED: frozenset({Status.INVOKED, Status.COMPLETED}),
    Status.COMPLETED: frozenset(),
}


class Waiting(msgspec.Struct, frozen=True, array_like=True):
    """What ends a suspension: any one of these."""

    completions: tuple[int, ...] = ()
    signals: tuple[int, ...] = ()
    named_signals: tuple[str, ...] = ()


class LastFailure(msgspec.Struct, frozen=True, array_like=True):
    failure: Failure
    at_ms: int
    related_index: int = -1
    related_name: str = ""
    related_type: int = -1


class Invocation(msgspec.Struct, frozen=True, array_like=True):
    """One row per invocation, replaced as a whole. Input, journal and result live in rows of their own."""

    id: bytes
    target: Target
    status: Status
    created_ms: int
    modified_ms: int
    by: InvokedBy
    by_id: bytes
    sinks: tuple[ResponseSink, ...]
    idempotency_key: str | None
    execute_at_ms: int
    completion_retention_ms: int
    journal_retention_ms: int
    attempt: int = 0
    journal_length: int = 0  # frames stored, commands and notifications
    commands: int = 0  # commands among them
    retry_count: int = 0  # failed attempts since the last stored command
    last_progress_ms: int = 0  # when the last command was stored
    next_retry_ms: int = 0
    last_failure: LastFailure | None = None
    deployment: str = ""  # pinned to; empty: to whatever is the latest when an attempt starts
    waiting: Waiting | None = None
    inbox_sequence: int = 0
    completed_ms: int = 0
    failure: Failure | None = None  # result, when it is one; a value has a row of its own
    journal_purged: bool = False
    incarnation: int = 0  # log index of its Invoke: tells it from an earlier, purged one with the same id
    replayed: int = 0  # journal_length when the current attempt began: the endpoint has seen so much for sure
    output_index: int = 0  # journal index of the last Output command, 0: none yet
    sleeps: int = 0  # rows in TIMERS for sleeps that are not over
    object_purged: bool = False  # a completed workflow's state and promises are gone already

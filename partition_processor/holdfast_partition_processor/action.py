"""Actions: what applying a command asks of the outside world. Only the leader of the current term carries them out.

An action never decides anything: whatever it leads to comes back as a command. Losing one is harmless, because the
tables hold what is needed to derive it again when a replica becomes leader (running invocations, timers, outbox).
"""

from __future__ import annotations

from enum import Enum
from typing import TypeAlias

import msgspec

from holdfast_partition_processor.command import Failure, Message
from holdfast_partition_processor.invocation import Invocation


class StartAttempt(msgspec.Struct, frozen=True):
    """Run the next attempt of this invocation. ``journal`` holds its frames when they are at hand, so that a first
    attempt reads nothing; otherwise they are read from the tables. By then there may be more than the row says: those
    are notifications that ForwardNotifications hands over as well, see ``first_index`` there."""

    invocation: Invocation
    journal: bytes | None = None


class AbortAttempt(msgspec.Struct, frozen=True):
    """Whatever attempt of this invocation is under way is over: close its stream, forget it."""

    id: bytes


class ForwardNotifications(msgspec.Struct, frozen=True):
    """These frames were appended to the journal: hand them to the attempt, if it is under way. ``first_index`` is the
    place of the first of them in the journal: an attempt that was sent that many frames at its start or more has it."""

    id: bytes
    attempt: int
    frames: bytes
    first_index: int = 0


class EffectsStored(msgspec.Struct, frozen=True):
    """So many bytes of frames of this attempt are in the log now: give the endpoint credit for them."""

    id: bytes
    attempt: int
    size: int


class InvocationCompleted(msgspec.Struct, frozen=True):
    """Answer whoever waits for this invocation on this node. Exactly one of value and failure is set."""

    id: bytes
    value: bytes | None
    failure: Failure | None


class Outcome(Enum):
    ACCEPTED = "accepted"
    PREVIOUSLY_ACCEPTED = "previously accepted"
    DONE = "done"
    APPENDED = "appended"
    NOT_FOUND = "not found"
    ALREADY_COMPLETED = "already completed"
    NOT_COMPLETED = "not completed"
    CONFLICT = "conflict"
    INVALID = "invalid"


class Reply(msgspec.Struct, frozen=True):
    """The answer to a command that carried a correlation number."""

    request: int
    outcome: Outcome
    detail: str = ""


class SetTimer(msgspec.Struct, frozen=True):
    due_ms: int
    timer: bytes


class Ship(msgspec.Struct, frozen=True):
    """A message was put into the outbox."""

    target: int
    sequence: int
    message: Message


class DeploymentsChanged(msgspec.Struct, frozen=True):
    """Partition 0: read the registry tables again. Followers carry this out as well: it is only a view."""


Action: TypeAlias = (
    StartAttempt
    | AbortAttempt
    | ForwardNotifications
    | EffectsStored
    | InvocationCompleted
    | Reply
    | SetTimer
    | Ship
    | DeploymentsChanged
)

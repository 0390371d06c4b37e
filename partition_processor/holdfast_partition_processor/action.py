"""Actions: what applying a command asks of the outside world. Only the leader of the current term carries them out.

An action never decides anything: whatever it leads to comes back as a command. Losing one is harmless, because the
tables hold what is needed to derive it again when a replica becomes leader (running invocations, timers, outbox).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from holdfast_partition_processor.command import Failure, Message
from holdfast_partition_processor.invocation import Invocation


@dataclass(frozen=True, slots=True)
class StartAttempt:
    """Run the next attempt of this invocation. ``journal`` holds its frames when they are at hand, so that a first
    attempt reads nothing; otherwise they are read from the tables."""

    invocation: Invocation
    journal: bytes | None = None


@dataclass(frozen=True, slots=True)
class AbortAttempt:
    """Whatever attempt of this invocation is under way is over: close its stream, forget it."""

    id: bytes


@dataclass(frozen=True, slots=True)
class ForwardNotifications:
    """These frames were appended to the journal: hand them to the attempt, if it is under way."""

    id: bytes
    attempt: int
    frames: bytes


@dataclass(frozen=True, slots=True)
class EffectsStored:
    """So many bytes of frames of this attempt are in the log now: give the endpoint credit for them."""

    id: bytes
    attempt: int
    size: int


@dataclass(frozen=True, slots=True)
class InvocationCompleted:
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


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a command that carried a correlation number."""

    request: int
    outcome: Outcome
    detail: str = ""


@dataclass(frozen=True, slots=True)
class SetTimer:
    due_ms: int
    timer: bytes


@dataclass(frozen=True, slots=True)
class Ship:
    """A message was put into the outbox."""

    target: int
    sequence: int
    message: Message


@dataclass(frozen=True, slots=True)
class DeploymentsChanged:
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

"""The journal of one attempt, from the handler's side. No IO: frames in, commands out.

An attempt begins with what is recorded: commands and notifications, in journal order. The handler runs; each command it
issues is compared with the next recorded one, and is new when there is none left. Notifications are handed over one at
a time, in journal order, and each time the handler runs on until it rests. So what a handler does is a function of the
notifications it has seen; this is why replay gives the same commands.

::

    server ──▶ recorded commands ──────▶ command(): same as recorded? ──▶ nothing to send
                                                     └─ none left: new ──▶ out
    server ──▶ notifications (a queue) ─▶ deliver_next() ─▶ the waiter with that id ─▶ handler runs on

The caller's duties: `load` all known entries before the handler starts; run the handler until it rests before the
first `deliver_next` and between two; send `out` whenever the handler rests; end the attempt when `failure` is set.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from threading import get_ident
from typing import Protocol

from google.protobuf.message import Message

from holdfast._location import caller
from holdfast._mismatch import describe, explain_mismatch, explain_missing, same
from holdfast.errors import AttemptStopped, JournalMismatch, NotDurable, Suspended, TerminalError
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import FRAME_BYTES_MAX, HEADER, SIGNAL_CANCEL, SIGNAL_FIRST_AWAKEABLE, is_command


class Waiter(Protocol):
    """Somebody who wants a notification."""

    @property
    def awaited(self) -> bool:
        """Whether the handler would go on if it came now."""
        ...

    def complete(self, notification: pb.Notification) -> None: ...

    def fail(self, error: BaseException) -> None: ...


class ProtocolError(Exception):
    """The server sent what it should not."""


class Journal:
    """See the module. An instance serves one attempt."""

    __slots__ = (
        "_awakeables",
        "_completed",
        "_early_signals",
        "_known_left",
        "_next_completion_id",
        "_notifications",
        "_owner",
        "_position",
        "_recorded",
        "_signals",
        "_waiting",
        "cancel_requested",
        "closed",
        "command_bytes_max",
        "delivered",
        "failure",
        "invocation_id",
        "out",
    )

    def __init__(self, invocation_id: str, command_bytes_max: int = FRAME_BYTES_MAX) -> None:
        self.invocation_id = invocation_id
        self.command_bytes_max = command_bytes_max
        self.out: list[bytes] = []
        """Frames to send: the caller takes them away."""
        self.failure: AttemptStopped | None = None
        """Why this attempt can't go on. Once set, every command raises it."""
        self.closed = False
        """The attempt is over: whatever still runs of the handler is unwinding."""
        self.cancel_requested = False
        """The cancel signal was taken from the queue and is not yet raised in the handler."""
        self.delivered = 0
        """How many notifications the handler has seen."""
        self._recorded: list[tuple[int, bytes]] = []
        self._position = 0  # how many of them the handler has issued again
        self._notifications: deque[pb.Notification] = deque()
        self._completed: set[int] = set()  # ids whose notification was known at the start
        self._known_left = 0  # notifications known at the start that the handler has not seen yet
        self._waiting: dict[int, Waiter] = {}
        self._signals: dict[int, Waiter] = {}
        self._early_signals: dict[int, pb.Notification] = {}
        self._next_completion_id = 1
        self._awakeables = SIGNAL_FIRST_AWAKEABLE
        self._owner = 0  # thread that may issue commands now; 0 is none

    # ---------------------------------------------------------------- from the server

    def load(self, code: int, body: bytes) -> None:
        """Take a recorded entry, in journal order, before the handler starts."""
        if is_command(code):
            self._recorded.append((code, body))
        else:
            notification = self.receive(code, body)
            self._known_left += 1
            if notification.HasField("completion_id"):
                self._completed.add(notification.completion_id)

    def receive(self, code: int, body: bytes) -> pb.Notification:
        """Put a notification into the queue. Raises DecodeError and ProtocolError."""
        notification = pb.Notification.FromString(body)
        if notification.WhichOneof("id") is None:
            raise ProtocolError(f"notification of type 0x{code:04x} says not what it is for")
        self._notifications.append(notification)
        return notification

    def deliver_next(self) -> bool:
        """Hand the next notification to whoever waits for it. False when there is none."""
        if not self._notifications:
            return False
        notification = self._notifications.popleft()
        self.delivered += 1
        self._known_left -= self._known_left > 0
        if notification.HasField("completion_id"):
            self._deliver_completion(notification)
        elif notification.signal_id == SIGNAL_CANCEL:
            self.cancel_requested = True
        elif notification.HasField("signal_id"):
            waiter = self._signals.pop(notification.signal_id, None)
            if waiter is None:
                self._early_signals.setdefault(notification.signal_id, notification)
            else:
                waiter.complete(notification)
        return True

    def _deliver_completion(self, notification: pb.Notification) -> None:
        number = notification.completion_id
        if number >= self._next_completion_id:
            self.check_all_issued(ends=False)  # finds the command that belongs to it, when that is recorded
            if self.failure is None:
                self._stop(explain_missing(self.invocation_id, f"a result (number {number}) of a command"), None)
            return
        waiter = self._waiting.pop(number, None)
        if waiter is not None:  # else a duplicate, or a timer that nobody waits for any more
            waiter.complete(notification)

    # ---------------------------------------------------------------- from the handler

    def completion_id(self) -> int:
        """The number under which the server will answer the next command."""
        number = self._next_completion_id
        self._next_completion_id = number + 1
        return number

    def command(self, code: int, message: Message) -> bytes | None:
        """Issue a command. Gives the recorded body when it was issued in an earlier attempt, None when it is new."""
        self.check()
        body = message.SerializeToString()
        position = self._position
        if position < len(self._recorded):
            self._position = position + 1
            recorded_code, recorded = self._recorded[position]
            if (recorded_code != code or recorded != body) and not same(recorded_code, recorded, code, message):
                now = describe(code, body)
                where = caller()
                text = explain_mismatch(self.invocation_id, position, recorded_code, recorded, code, body, where)
                raise self._stop(text, (position, code, now))
            return recorded
        if len(body) > self.command_bytes_max:
            raise TerminalError(
                f"{describe(code, b'')} holds {len(body)} bytes, the limit is {self.command_bytes_max}", code=413
            )
        self._position = position + 1
        self.out.append(HEADER.pack(code, 0, len(body)) + body)
        return None

    def peek(self) -> tuple[int, bytes] | None:
        """Type and body of the next recorded command, None when the handler has caught up."""
        self.check()
        return self._recorded[self._position] if self._position < len(self._recorded) else None

    def wait(self, completion_id: int, waiter: Waiter) -> None:
        self._waiting[completion_id] = waiter

    def awakeable(self, waiter: Waiter) -> int:
        """The index of the signal that completes a new awakeable."""
        self.check()
        index = self._awakeables
        self._awakeables = index + 1
        early = self._early_signals.pop(index, None)
        if early is None:
            self._signals[index] = waiter
        else:
            waiter.complete(early)
        return index

    def has_result(self, completion_id: int) -> bool:
        """Whether the result of this command is recorded, so that a step need not run."""
        return completion_id in self._completed

    # ---------------------------------------------------------------- whose turn it is

    def enter(self) -> None:
        """The handler runs now, in this thread. Only it may issue commands."""
        self._owner = get_ident()

    def leave(self) -> None:
        """The handler rests."""
        self._owner = 0

    def check(self) -> None:
        """Raise what keeps the handler from doing anything through its context now."""
        if self.closed:
            raise Suspended("this attempt is over: what runs now is only unwinding, and nothing of it is recorded")
        if self.failure is not None:
            raise self.failure
        if self._owner != get_ident():
            raise NotDurable(
                f"a context was used outside of its handler, in {caller()}: a function that is given to ctx.run, or a "
                "thread or task of your own, must not use the context; do it in the handler, before or after"
            )

    # ---------------------------------------------------------------- at rest

    @property
    def replaying(self) -> bool:
        """Whether an earlier attempt has been here before."""
        return self._position < len(self._recorded) or self._known_left > 0

    @property
    def command_index(self) -> int:
        """Index in the journal of the last command issued, counting the input as 0."""
        return self._position

    def check_all_issued(self, ends: bool) -> None:
        """At rest with every recorded notification seen, or at its end, the handler must have issued every recorded
        command again. Sets `failure` if not."""
        if self._position < len(self._recorded) and self.failure is None:
            code, body = self._recorded[self._position]
            does = "ends" if ends else "waits"
            what = (
                f"command {self._position + 1}, {describe(code, body)}, but the code now {does} without it: a command"
            )
            self._stop(explain_missing(self.invocation_id, what), (self._position, code, describe(code, body)))

    def awaited(self) -> Iterator[Waiter]:
        """Everything that the handler waits for."""
        for waiter in self._waiting.values():
            if waiter.awaited:
                yield waiter
        for waiter in self._signals.values():
            if waiter.awaited:
                yield waiter

    def suspension(self) -> pb.SuspensionMessage:
        """What must happen before the handler can go on. A cancellation always wakes it."""
        return pb.SuspensionMessage(
            waiting_completions=[number for number, waiter in self._waiting.items() if waiter.awaited],
            waiting_signals=[
                SIGNAL_CANCEL,
                *(index for index, waiter in self._signals.items() if waiter.awaited),
            ],
        )

    def take_out(self) -> list[bytes]:
        out, self.out = self.out, []
        return out

    def _stop(self, text: str, command: tuple[int, int, str] | None) -> JournalMismatch:
        position, code, name = command if command is not None else (self._position, 0, "")
        failure = JournalMismatch(text, position + 1, code, name)
        self.failure = failure
        return failure

"""One attempt to run an invocation: what is remembered between two flushes, what opens it, and what its frames mean.

::

    QUEUED ──▶ WAITING ─────────▶ OPEN ──▶ ENDING ──▶ over (forgotten)
    the invoker's  for room in     │         its last command is handed to the host, which may
    limit          the session     └──────▶  ask to wait; what still arrives is dropped
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Protocol

from google.protobuf.message import DecodeError, Message

from holdfast_partition_processor.action import StartAttempt
from holdfast_partition_processor.attempt_failure import FrameRefused
from holdfast_partition_processor.catalog import Catalog, CatalogError, ResolvedHandler
from holdfast_partition_processor.command import ResolvedCall, StoredFrame
from holdfast_partition_processor.frame_validation import InvalidFrame, validate
from holdfast_partition_processor.invocation import Invocation
from holdfast_partition_processor.session_mux import PROTOCOL_VIOLATION, Stream
from holdfast_proto import endpoint_pb2 as ep
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import (
    HEADER_BYTES,
    REQUESTED_ACK,
    MalformedFrame,
    decode_frames,
    encode_frame,
    is_command,
)
from holdfast_proto.framing import MessageType as M

UNKNOWN_TARGET = 404
HALF_CLOSE_FRAME = encode_frame(M.HALF_CLOSE, b"")
_RESULT = ("result_completion_id",)
_INVOCATION_ID = ("invocation_id_notification_idx",)
_NEW_COMPLETIONS: dict[int, tuple[str, ...]] = {
    M.GET_LAZY_STATE: _RESULT,
    M.GET_LAZY_STATE_KEYS: _RESULT,
    M.GET_PROMISE: _RESULT,
    M.PEEK_PROMISE: _RESULT,
    M.COMPLETE_PROMISE: _RESULT,
    M.SLEEP: _RESULT,
    M.CALL: _INVOCATION_ID + _RESULT,
    M.ONE_WAY_CALL: _INVOCATION_ID,
    M.RUN: _RESULT,
    M.ATTACH_INVOCATION: _RESULT,
    M.GET_INVOCATION_OUTPUT: _RESULT,
}
"""Under which fields a command says how its completions will be numbered."""


class Phase(Enum):
    QUEUED = auto()
    WAITING = auto()
    OPEN = auto()
    ENDING = auto()


@dataclass(slots=True)
class Received:
    """What one flush brought for one attempt."""

    stored: list[StoredFrame] = field(default_factory=list)
    commands: int = 0
    acks: list[int] = field(default_factory=list)  # indices of commands whose storing is to be acknowledged
    over: bool = False  # End or Suspension is among the stored
    error: pb.ErrorMessage | None = None
    reset: ep.Reset | None = None
    granted: int = 0  # credit
    control_bytes: int = 0  # of frames that are dealt with already


class AttemptOwner(Protocol):
    def on_opened(self, attempt: Attempt) -> None: ...
    def on_received(self, attempt: Attempt, data: bytes) -> None: ...
    def on_lost(self, attempt: Attempt, code: int, message: str) -> None: ...


class Attempt:
    """`opened`, `received` and `lost` are what its session calls."""

    __slots__ = (
        "_completions", "_owner", "_proposed", "_runs", "acks", "commands", "half_closed", "invocation", "journal",
        "known_entries", "phase", "pin", "progressed", "quiet_since_ms", "resolved", "stored_bytes", "stream",
        "submitted_bytes",
    )  # fmt: skip

    def __init__(self, owner: AttemptOwner, action: StartAttempt) -> None:
        self._owner = owner
        self.invocation: Invocation = action.invocation
        self.journal = action.journal  # dropped when it can't be sent at once
        self.known_entries = action.invocation.journal_length  # with what was forwarded before it is opened
        self.commands = action.invocation.commands
        self.phase = Phase.QUEUED
        self.resolved: ResolvedHandler | None = None
        self.stream: Stream | None = None
        self.pin = ""  # deployment that the next effects pin the invocation to
        self.progressed = False  # stored a command, so the retries count from zero again
        self.half_closed = False
        self.quiet_since_ms = 0  # on the invoker's clock
        self.submitted_bytes = 0  # of frames handed to the log since the attempt began
        self.stored_bytes = 0  # of those, the part that is stored
        self.acks: list[tuple[int, int]] = []  # (submitted_bytes to be reached, command index)
        self._completions: set[int] = set()  # ids that commands of this attempt announced
        self._runs: set[int] = set()  # of those, the durable steps
        self._proposed: set[int] = set()  # whose outcome was sent

    def opened(self, stream: Stream) -> None:
        self.stream = stream
        self._owner.on_opened(self)

    def received(self, data: bytes) -> None:
        self._owner.on_received(self, data)

    def lost(self, code: int, message: str) -> None:
        self._owner.on_lost(self, code, message)

    # ------------------------------------------------------------ what its frames mean

    def read(self, data: bytes, catalog: Callable[[], Catalog]) -> Received:
        """Judge all before any is stored: with one wrong frame, none of the flush is. Raises FrameRefused."""
        received = Received()
        try:
            for code, flags, start, end in decode_frames(data):
                if received.over or received.error is not None:
                    raise self._refused(received, code, f"message type 0x{code:04x} after the end of the attempt")
                body = data[start:end]
                if code > M.SIGNAL:
                    self._steer(received, code, body)
                elif code == M.ERROR:
                    received.error = pb.ErrorMessage.FromString(body)
                else:
                    self._store(received, code, flags, body, catalog)
        except MalformedFrame as error:
            raise FrameRefused(PROTOCOL_VIOLATION, f"the endpoint sent garbage: {error}") from error
        except DecodeError as error:
            raise FrameRefused(PROTOCOL_VIOLATION, f"the endpoint sent a broken message: {error}") from error
        return received

    def _store(self, received: Received, code: int, flags: int, body: bytes, catalog: Callable[[], Catalog]) -> None:
        try:
            message = validate(code, body, self.invocation.target.type)
        except InvalidFrame as error:
            raise self._refused(received, code, str(error)) from error
        self._check_completions(received, code, message)
        resolved = None
        if isinstance(message, pb.CallCommandMessage | pb.OneWayCallCommandMessage):
            resolved = self._resolve_call(received, code, message, catalog())
        if flags & REQUESTED_ACK:
            received.acks.append(self.commands + received.commands)
        received.commands += is_command(code)
        received.over = code in (M.END, M.SUSPENSION)
        received.stored.append(StoredFrame(code, body, resolved))

    def _resolve_call(
        self,
        received: Received,
        code: int,
        message: pb.CallCommandMessage | pb.OneWayCallCommandMessage,
        catalog: Catalog,
    ) -> ResolvedCall:
        """What the call means at this moment; the log holds the answer, not the question."""
        idempotency_key = message.idempotency_key if message.HasField("idempotency_key") else None
        try:
            return catalog.call(message.service_name, message.handler_name, message.key, idempotency_key)
        except CatalogError as error:
            what = f"it calls {message.service_name[:80]}/{message.handler_name[:80]}: {error.message}"
            raise self._refused(received, code, what, UNKNOWN_TARGET, message.name) from error

    def _check_completions(self, received: Received, code: int, message: Message) -> None:
        """Numbers must be new, and a step has one outcome: what is stored twice would be lost silently."""
        for name in _NEW_COMPLETIONS.get(code, ()):
            number = getattr(message, name)
            if number == 0 or number in self._completions:
                twice = "is used twice" if number else "is not set; they count from 1"
                raise self._refused(received, code, f"{M(code).name}: {name} {number} {twice}")
            self._completions.add(number)
            if code == M.RUN:
                self._runs.add(number)
        if code == M.PROPOSE_RUN_COMPLETION:
            assert isinstance(message, pb.ProposeRunCompletionMessage)
            number = message.result_completion_id
            # Steps of earlier attempts are in the journal, which is not parsed here; a first attempt has none.
            known = number in self._runs or (number not in self._completions and self.invocation.commands > 1)
            if number in self._proposed or not known:
                what = "was proposed before" if number in self._proposed else "belongs to no durable step"
                raise self._refused(received, code, f"the outcome of step {number} {what}")
            self._proposed.add(number)

    def _steer(self, received: Received, code: int, body: bytes) -> None:
        received.control_bytes += HEADER_BYTES + len(body)
        if code == M.CREDIT:
            received.granted += ep.Credit.FromString(body).bytes
        elif code == M.RESET:
            received.reset = ep.Reset.FromString(body)
            received.over = True
        else:
            raise self._refused(received, code, f"message type 0x{code:04x} is not one that an endpoint may send")

    def _refused(
        self, received: Received, code: int, what: str, status: int = PROTOCOL_VIOLATION, name: str = ""
    ) -> FrameRefused:
        related = (self.commands + received.commands, name, code) if is_command(code) else (-1, "", -1)
        return FrameRefused(status, f"the endpoint's frame was refused: {what}", related)

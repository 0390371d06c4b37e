"""Runs attempts: opens a stream to the endpoint, replays the journal, and turns what comes back into commands."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from holdfast_log.types import NotLeader
from holdfast_partition_processor import retry_policy
from holdfast_partition_processor.action import EffectsStored, ForwardNotifications, StartAttempt
from holdfast_partition_processor.catalog import Catalog, CatalogError, ResolvedHandler, Settings
from holdfast_partition_processor.command import (
    AttemptFailed,
    Effects,
    Failure,
    GiveUp,
    HandlerType,
    Pause,
    ResolvedCall,
    Retry,
    StoredFrame,
)
from holdfast_partition_processor.discovery import grpc_address
from holdfast_partition_processor.endpoint_session import EndpointSessions, Session, payload_frames
from holdfast_partition_processor.frame_validation import InvalidFrame, validate
from holdfast_partition_processor.invocation import Invocation
from holdfast_proto import endpoint_pb2 as ep
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import PROTOCOL_VERSION, MalformedFrame, MessageType, encode_frame
from holdfast_proto.identifiers import encode_invocation_id

CREDIT_BATCH_BYTES = 1024 * 1024
SWEEP_SECONDS = 1.0
"""Time-outs of attempts are looked at this often, all in one go."""
HALF_CLOSE = encode_frame(MessageType.HALF_CLOSE, b"")
TRANSIENT = 500
UNSTORED = (MessageType.ERROR, MessageType.RESET, MessageType.CREDIT)


class InvokerHost(Protocol):
    now_ms: Callable[[], int]

    def submit(self, command: Effects | AttemptFailed) -> None: ...
    def read_journal(self, invocation_id: bytes) -> bytes: ...
    def read_state(self, service: str, key: str) -> list[tuple[bytes, bytes]]: ...


@dataclass(frozen=True, slots=True)
class InvokerOptions:
    concurrent_attempts_max: int = 1_000  # per partition leader; more wait their turn
    eager_state_bytes_max: int = 1024 * 1024  # state sent with the start of an attempt; the rest is read on demand


class Attempt:
    """One attempt under way."""

    __slots__ = ("half_closed", "invoker", "last_heard", "resolved", "row", "session", "stream", "uncredited")

    def __init__(self, invoker: Invoker, row: Invocation, resolved: ResolvedHandler, session: Session) -> None:
        self.invoker = invoker
        self.row = row
        self.resolved = resolved
        self.session = session
        self.stream = 0
        self.last_heard = 0.0
        self.half_closed = False
        self.uncredited = 0

    def on_frames(self, data: bytes) -> None:
        self.invoker.received(self, data)

    def on_reset(self, message: str) -> None:
        self.invoker.fail(self, Failure(TRANSIENT, message))


class Invoker:
    def __init__(
        self,
        host: InvokerHost,
        sessions: EndpointSessions,
        catalog: Callable[[], Catalog],
        options: InvokerOptions | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._host = host
        self._sessions = sessions
        self._catalog = catalog
        self._options = options or InvokerOptions()
        self._rng = rng or random.Random()
        self._attempts: dict[bytes, Attempt] = {}
        self._queue: deque[StartAttempt] = deque()
        self._aborted: set[bytes] = set()
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self._sweeper = self._loop.call_later(SWEEP_SECONDS, self._sweep)

    @property
    def in_flight(self) -> int:
        return len(self._attempts)

    @property
    def queued(self) -> int:
        return len(self._queue)

    def start(self, action: StartAttempt) -> None:
        old = self._attempts.pop(action.invocation.id, None)
        if old is not None:
            self._drop(old, "a later attempt began")
        if len(self._attempts) >= self._options.concurrent_attempts_max:
            self._queue.append(StartAttempt(action.invocation))
        else:
            self._begin(action)

    def abort(self, invocation_id: bytes) -> None:
        attempt = self._attempts.pop(invocation_id, None)
        if attempt is not None:
            self._drop(attempt, "the invocation was ended")
            self._next()
        elif self._queue:
            self._queue = deque(a for a in self._queue if a.invocation.id != invocation_id)

    def forward(self, action: ForwardNotifications) -> None:
        attempt = self._attempts.get(action.id)
        if attempt is not None and attempt.row.attempt == action.attempt:
            attempt.last_heard = self._loop.time()
            attempt.session.write(attempt.stream, action.frames)

    def stored(self, action: EffectsStored) -> None:
        attempt = self._attempts.get(action.id)
        if attempt is not None and attempt.row.attempt == action.attempt:
            attempt.uncredited += action.size
            if attempt.uncredited >= CREDIT_BATCH_BYTES:
                attempt.session.give_credit(attempt.stream, attempt.uncredited)
                attempt.uncredited = 0

    def close(self) -> None:
        self._closed = True
        self._sweeper.cancel()
        self._queue.clear()
        attempts, self._attempts = self._attempts, {}
        for attempt in attempts.values():
            self._drop(attempt, "this node does not lead the partition any more")

    def _begin(self, action: StartAttempt) -> None:
        row = action.invocation
        target = row.target
        catalog = self._catalog()
        try:
            if row.deployment:
                resolved = catalog.resolve_at(row.deployment, target.service, target.handler)
            else:
                resolved = catalog.resolve(target.service, target.handler)
        except CatalogError as error:
            self._failed(row, Settings(), Failure(TRANSIENT, error.message), "")
            return
        session = self._sessions.session(grpc_address(resolved.deployment.address))
        attempt = Attempt(self, row, resolved, session)
        attempt.last_heard = self._loop.time()
        self._attempts[row.id] = attempt
        attempt.stream = session.open(attempt, self._opening(row, resolved, action.journal))

    def _opening(self, row: Invocation, resolved: ResolvedHandler, journal: bytes | None) -> bytes:
        """Open, Start and the journal, as one payload."""
        target = row.target
        debug_id = encode_invocation_id(row.id)
        opening = ep.Open(
            service=target.service,
            handler=target.handler,
            key=target.key or "",
            protocol_version=PROTOCOL_VERSION,
            attempt=row.attempt,
            invocation_id=debug_id,
        )
        start = pb.StartMessage(
            id=row.id,
            debug_id=debug_id,
            known_entries=row.journal_length,
            partial_state=True,
            key=target.key or "",
            retry_count_since_last_stored_entry=row.retry_count,
            random_seed=int.from_bytes(row.id[8:16], "big") ^ int.from_bytes(row.id[16:], "big"),
        )
        if row.retry_count:
            start.duration_since_last_stored_entry = max(0, self._host.now_ms() - row.last_progress_ms)
        if target.type is not HandlerType.SERVICE and not resolved.settings.enable_lazy_state:
            self._add_state(start, target.service, target.key or "")
        frames = self._host.read_journal(row.id) if journal is None else journal
        return (
            encode_frame(MessageType.OPEN, opening.SerializeToString())
            + encode_frame(MessageType.START, start.SerializeToString())
            + frames
        )

    def _add_state(self, start: pb.StartMessage, service: str, key: str) -> None:
        size = 0
        for name, value in self._host.read_state(service, key):
            size += len(name) + len(value)
            if size > self._options.eager_state_bytes_max:
                return
            start.state_map.add(key=name, value=value)
        start.partial_state = False

    def _next(self) -> None:
        while self._queue and len(self._attempts) < self._options.concurrent_attempts_max and not self._closed:
            self._begin(self._queue.popleft())

    def received(self, attempt: Attempt, data: bytes) -> None:
        attempt.last_heard = self._loop.time()
        try:
            frames, over, error = self._checked(attempt, data)
        except (MalformedFrame, InvalidFrame) as problem:
            what = f"endpoint {attempt.session.address} broke the protocol: {problem}"
            attempt.session.write(attempt.stream, _reset(400, str(problem)))
            self.fail(attempt, Failure(571, what))
            return
        row = attempt.row
        if frames:
            pin = "" if row.deployment else attempt.resolved.deployment.id
            self._submit(Effects(row.id, row.attempt, tuple(frames), pin))
        if error is not None:
            self._error(attempt, error)
        elif over:
            self._finish(attempt)

    def _checked(
        self, attempt: Attempt, data: bytes
    ) -> tuple[list[StoredFrame], bool, pb.ErrorMessage | Failure | None]:
        """Frames to store, whether the attempt is over, and its error. Raises MalformedFrame, InvalidFrame."""
        frames: list[StoredFrame] = []
        over = False
        for code, body in payload_frames(data):
            if over:
                raise InvalidFrame(f"message type 0x{code:04x} after the end of the attempt")
            if code == MessageType.ERROR:
                return frames, True, pb.ErrorMessage.FromString(body)
            if code == MessageType.RESET:
                reset = ep.Reset.FromString(body)
                return frames, True, Failure(reset.code or TRANSIENT, reset.message)
            if code == MessageType.CREDIT:
                continue
            message = validate(code, body, attempt.row.target.type)
            resolved = None
            if isinstance(message, (pb.CallCommandMessage, pb.OneWayCallCommandMessage)):
                resolved = self._resolve_call(message)
            frames.append(StoredFrame(code, body, resolved))
            over = code in (MessageType.END, MessageType.SUSPENSION)
        return frames, over, None

    def _resolve_call(self, message: pb.CallCommandMessage | pb.OneWayCallCommandMessage) -> ResolvedCall:
        catalog = self._catalog()
        idempotency_key = message.idempotency_key if message.HasField("idempotency_key") else None
        try:
            resolved = catalog.resolve(message.service_name, message.handler_name)
            keyed = resolved.handler.type is not HandlerType.SERVICE
            target = catalog.target(resolved, message.key if keyed or message.key else None)
        except CatalogError as error:
            raise InvalidFrame(error.message) from error
        retention = resolved.completion_retention_ms(idempotency_key)
        return ResolvedCall(target, retention, resolved.settings.journal_retention_ms)

    def _error(self, attempt: Attempt, error: pb.ErrorMessage | Failure) -> None:
        if isinstance(error, Failure):
            self.fail(attempt, error)
            return
        failure = Failure(error.code or TRANSIENT, error.message or "the handler failed without a message")
        then: Retry | Pause | GiveUp | None = None
        if error.behavior == pb.PAUSE:
            then = Pause()
        elif error.behavior == pb.FAIL:
            then = GiveUp()
        elif error.HasField("next_retry_delay"):
            then = Retry(self._host.now_ms() + error.next_retry_delay)
        index = error.related_command_index if error.HasField("related_command_index") else -1
        kind = error.related_command_type if error.HasField("related_command_type") else -1
        self.fail(attempt, failure, then, index, error.related_command_name, kind)

    def fail(
        self,
        attempt: Attempt,
        failure: Failure,
        then: Retry | Pause | GiveUp | None = None,
        index: int = -1,
        name: str = "",
        kind: int = -1,
    ) -> None:
        if self._attempts.get(attempt.row.id) is not attempt:
            return
        row = attempt.row
        self._failed(row, attempt.resolved.settings, failure, attempt.resolved.deployment.id, then, index, name, kind)
        self._finish(attempt)

    def _failed(
        self,
        row: Invocation,
        settings: Settings,
        failure: Failure,
        deployment: str,
        then: Retry | Pause | GiveUp | None = None,
        index: int = -1,
        name: str = "",
        kind: int = -1,
    ) -> None:
        decision = then or retry_policy.decide(settings, row.retry_count, self._host.now_ms(), self._rng.random())
        self._submit(AttemptFailed(row.id, row.attempt, failure, decision, deployment, index, name, kind))

    def _finish(self, attempt: Attempt) -> None:
        self._attempts.pop(attempt.row.id, None)
        attempt.session.release(attempt.stream)
        if self._queue:
            self._next()

    def _drop(self, attempt: Attempt, why: str) -> None:
        attempt.session.write(attempt.stream, _reset(499, why))
        attempt.session.release(attempt.stream)

    def _submit(self, command: Effects | AttemptFailed) -> None:
        try:
            self._host.submit(command)
        except NotLeader:
            return  # the next leader runs the attempt again from the journal

    def _sweep(self) -> None:
        now = self._loop.time()
        for attempt in list(self._attempts.values()):
            settings = attempt.resolved.settings
            silent_ms = (now - attempt.last_heard) * 1000
            if silent_ms < settings.inactivity_timeout_ms:
                continue
            if not attempt.half_closed:
                attempt.half_closed = True
                attempt.session.write(attempt.stream, HALF_CLOSE)
            elif silent_ms >= settings.inactivity_timeout_ms + settings.abort_timeout_ms:
                what = f"the endpoint was silent for {silent_ms / 1000:.0f} s (abort timeout)"
                attempt.session.write(attempt.stream, _reset(504, what))
                self.fail(attempt, Failure(504, what))
        self._sweeper = self._loop.call_later(SWEEP_SECONDS, self._sweep)


def _reset(code: int, message: str) -> bytes:
    return encode_frame(MessageType.RESET, ep.Reset(code=code, message=message).SerializeToString())

"""Runs the attempts of one led partition: starts them at endpoints, and turns what comes back into commands.

What is promised:
* Everything that an endpoint sends in one flush for one attempt is judged as a whole, then proposed as ONE Effects
  command. Whatever goes wrong with an attempt becomes ONE AttemptFailed with words for people; nothing else notices.
* Commands of an attempt reach the host in the order in which their frames came, also while the log is full: then they
  wait here, no credit is given for them, and the endpoint comes to rest. Nothing is dropped as long as we lead.
* Journals and state are read when an attempt is really opened, not while it waits for its turn.

What the caller must do, always on the event loop's thread:
1. Carry out the actions of one entry in order, directly after they were applied.
2. Call `close` when leadership is lost, before the sessions are closed.
3. Let `InvokerHost.submit` raise Overloaded and LogFull: the waiting line that keeps the order is in here.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from holdfast_partition_processor import attempt_failure
from holdfast_partition_processor.action import EffectsStored, ForwardNotifications, StartAttempt
from holdfast_partition_processor.attempt import HALF_CLOSE_FRAME, UNKNOWN_TARGET, Attempt, Phase, Received
from holdfast_partition_processor.attempt_failure import Failed, FrameRefused
from holdfast_partition_processor.attempt_opening import first_frames, frame_count, opening_frames
from holdfast_partition_processor.catalog import Catalog, CatalogError, ResolvedHandler
from holdfast_partition_processor.command import AttemptFailed, Effects, Failure, HandlerType
from holdfast_partition_processor.session_mux import FrameTooLarge, StreamUser
from holdfast_partition_processor.submissions import Submissions
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import PROTOCOL_VERSION, MessageType, encode_frame

logger = logging.getLogger(__name__)

ABORTED = 499
NOT_LEADING = 503
SILENT = 504


class InvokerHost(Protocol):
    """What an invoker may ask of its partition."""

    def now_ms(self) -> int: ...

    def submit(self, command: Effects | AttemptFailed) -> None:
        """Raises NotLeader, Overloaded, LogFull: then nothing was taken."""

    def read_journal(self, invocation_id: bytes) -> bytes: ...
    def read_state(self, service: str, key: str) -> list[tuple[bytes, bytes]]: ...


class Sessions(Protocol):
    """What an invoker needs of `EndpointSessions`."""

    def open(self, address: str, user: StreamUser) -> None: ...
    def withdraw(self, address: str, user: StreamUser) -> None: ...


@dataclass(frozen=True, slots=True)
class InvokerOptions:
    concurrent_attempts_max: int = 1_000  # per partition leader; more wait their turn
    eager_state_bytes_max: int = 1024 * 1024  # state sent with the start of an attempt; the rest is read on demand
    tick_seconds: float = 1.0  # time-outs of attempts are looked at this often, all in one go
    hold_seconds: float = 0.05  # until the log is asked again after it refused


class Invoker:
    def __init__(
        self,
        host: InvokerHost,
        sessions: Sessions,
        catalog: Callable[[], Catalog],
        options: InvokerOptions | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._host = host
        self._sessions = sessions
        self._catalog = catalog
        self._options = options or InvokerOptions()
        self._rng = rng or random.Random()
        self._loop = asyncio.get_running_loop()
        self._attempts: dict[bytes, Attempt] = {}  # every attempt that is not over, whatever its phase
        self._queue: deque[Attempt] = deque()  # in phase QUEUED, or over meanwhile
        self._begun = 0  # attempts in the other phases
        self._beginning = False
        self._submissions = Submissions(
            host.submit,
            lambda call: self._loop.call_later(self._options.hold_seconds, call),
            on_last_taken=self._finish,
            on_flowing=self._begin_queued,
            on_deposed=self.close,
        )
        self._closed = False
        # Time-outs are counted in ticks, not read from a clock: time in which this process itself did not run
        # (paused, overloaded) is not held against the endpoints.
        self._quiet_clock_ms = 0
        self._ticker = self._loop.call_later(self._options.tick_seconds, self._tick)

    @property
    def in_flight(self) -> int:
        """Attempts that are at an endpoint, or on their way to it."""
        return self._begun

    @property
    def queued(self) -> int:
        """Attempts that wait for their turn."""
        return len(self._attempts) - self._begun

    # ------------------------------------------------------------ actions

    def start(self, action: StartAttempt) -> None:
        old = self._attempts.get(action.invocation.id)
        if old is not None:
            self._abandon(old, ABORTED, "a later attempt has begun")
        if self._closed:
            return
        attempt = Attempt(self, action)
        self._attempts[action.invocation.id] = attempt
        if self._begun < self._options.concurrent_attempts_max and not self._submissions.blocked:
            self._begin(attempt)
        else:
            attempt.journal = None
            self._queue.append(attempt)

    def abort(self, invocation_id: bytes) -> None:
        attempt = self._attempts.get(invocation_id)
        if attempt is not None:
            self._abandon(attempt, ABORTED, "the invocation was ended")
            self._begin_queued()

    def forward(self, action: ForwardNotifications) -> None:
        attempt = self._attempts.get(action.id)
        if attempt is None or attempt.invocation.attempt != action.attempt:
            return
        if action.first_index and action.first_index < attempt.known_entries:
            return  # was sent with the journal
        if attempt.stream is None:
            attempt.known_entries += frame_count(action.frames)  # will be read with the journal
        elif attempt.phase is Phase.OPEN and not attempt.half_closed:
            attempt.quiet_since_ms = self._quiet_clock_ms
            self._send(attempt, action.frames)

    def stored(self, action: EffectsStored) -> None:
        attempt = self._attempts.get(action.id)
        if attempt is None or attempt.invocation.attempt != action.attempt or attempt.stream is None:
            return
        if attempt.stored_bytes + action.size > attempt.submitted_bytes:
            return  # not ours: of an invocation that had the same id, was purged, and came again
        attempt.stored_bytes += action.size
        attempt.quiet_since_ms = self._quiet_clock_ms
        attempt.stream.consumed(action.size)
        while attempt.acks and attempt.acks[0][0] <= attempt.stored_bytes:
            _, index = attempt.acks.pop(0)
            if not attempt.half_closed and attempt.stream is not None:
                body = pb.CommandAckMessage(command_index=index).SerializeToString()
                self._send(attempt, encode_frame(MessageType.COMMAND_ACK, body))

    def close(self) -> None:
        """This node does not lead the partition any more: end all attempts, forget what is held."""
        self._closed = True
        self._ticker.cancel()
        self._submissions.close()
        self._queue.clear()
        for attempt in list(self._attempts.values()):
            self._abandon(attempt, NOT_LEADING, "this node does not lead the partition any more")

    # ------------------------------------------------------------ starting

    def _begin_queued(self) -> None:
        """As many as there is room for. An attempt that fails at once comes back here; one loop serves them all."""
        if self._beginning:
            return
        self._beginning = True
        try:
            while self._queue and self._begun < self._options.concurrent_attempts_max and not self._submissions.blocked:
                attempt = self._queue.popleft()
                if self._attempts.get(attempt.invocation.id) is attempt:
                    self._begin(attempt)
        finally:
            self._beginning = False

    def _begin(self, attempt: Attempt) -> None:
        self._begun += 1
        attempt.phase = Phase.WAITING
        try:
            resolved = self._resolve(attempt)
        except CatalogError as error:
            self._fail(attempt, Failure(UNKNOWN_TARGET, error.message))
            return
        attempt.resolved = resolved
        if not attempt.invocation.deployment:
            attempt.pin = resolved.deployment.id
        self._sessions.open(resolved.deployment.address, attempt)
        if attempt.phase is Phase.WAITING:
            attempt.journal = None  # it may wait for long: read it again when there is room

    def _resolve(self, attempt: Attempt) -> ResolvedHandler:
        """Raises CatalogError."""
        invocation = attempt.invocation
        target, catalog = invocation.target, self._catalog()
        if invocation.deployment:
            resolved = catalog.resolve_at(invocation.deployment, target.service, target.handler)
        else:
            resolved = catalog.resolve(target.service, target.handler)
        deployment = resolved.deployment
        if not deployment.min_protocol_version <= PROTOCOL_VERSION <= deployment.max_protocol_version:
            spoken = f"{deployment.min_protocol_version} to {deployment.max_protocol_version}"
            raise CatalogError(f"deployment {deployment.id} speaks protocol {spoken}, this node {PROTOCOL_VERSION}")
        return resolved

    def on_opened(self, attempt: Attempt) -> None:
        """There is room in the session: send Open, Start and the journal."""
        invocation, resolved = attempt.invocation, attempt.resolved
        assert resolved is not None
        attempt.phase = Phase.OPEN
        attempt.quiet_since_ms = self._quiet_clock_ms
        journal, attempt.journal = attempt.journal, None
        if journal is None:
            journal = first_frames(self._host.read_journal(invocation.id), attempt.known_entries)
            if journal is None:
                # Its journal is gone: the invocation was completed and purged by an entry whose actions are being
                # carried out right now, and the action that aborts this attempt is among them.
                self._abandon(attempt, ABORTED, "the invocation is over")
                return
        state, partial = self._eager_state(attempt, resolved)
        self._send(
            attempt, opening_frames(invocation, journal, attempt.known_entries, state, partial, self._host.now_ms())
        )
        if resolved.settings.inactivity_timeout_ms == 0:
            self._half_close(attempt)

    def _eager_state(self, attempt: Attempt, resolved: ResolvedHandler) -> tuple[list[tuple[bytes, bytes]], bool]:
        """State to send along, and whether there may be more of it."""
        target = attempt.invocation.target
        if target.type is HandlerType.SERVICE or resolved.settings.enable_lazy_state:
            return [], True
        rows = self._host.read_state(target.service, target.key or "")
        room = self._options.eager_state_bytes_max
        for number, (name, value) in enumerate(rows):
            room -= len(name) + len(value)
            if room < 0:
                return rows[:number], True
        return rows, False

    def _send(self, attempt: Attempt, frames: bytes) -> None:
        assert attempt.stream is not None
        try:
            attempt.stream.send(frames)
        except FrameTooLarge as error:
            self._fail(attempt, Failure(413, f"the journal can't be sent to the endpoint: {error}"))

    # ------------------------------------------------------------ what sessions tell

    def on_received(self, attempt: Attempt, data: bytes) -> None:
        if attempt.phase is not Phase.OPEN:
            return  # its last command waits for the log; credit is given when it is taken
        attempt.quiet_since_ms = self._quiet_clock_ms
        try:
            received = attempt.read(data, self._catalog)
        except FrameRefused as refused:
            self._fail(attempt, refused.failed)
            return
        if received.control_bytes and attempt.stream is not None:
            attempt.stream.consumed(received.control_bytes)
            if received.granted:
                attempt.stream.granted(received.granted)
        if received.stored:
            self._store(attempt, received)
            if attempt.phase is not Phase.OPEN:
                return  # that was its last command, or we lead no longer
        if received.error is not None:
            self._fail(attempt, attempt_failure.of_error(received.error))
        elif received.reset is not None:
            self._fail(attempt, attempt_failure.of_reset(received.reset))

    def on_lost(self, attempt: Attempt, code: int, message: str) -> None:
        """The session failed, could not be made, or found a breach of flow control."""
        attempt.stream = None
        if attempt.phase is not Phase.ENDING:
            self._fail(attempt, Failure(code, message))

    def _store(self, attempt: Attempt, received: Received) -> None:
        invocation = attempt.invocation
        frames = tuple(received.stored)
        command = Effects(invocation.id, invocation.attempt, frames, attempt.pin, invocation.incarnation)
        attempt.pin = ""
        attempt.submitted_bytes += sum(len(frame.body) + 8 for frame in received.stored)
        if received.commands:
            attempt.commands += received.commands
            attempt.progressed = True
        for index in received.acks:
            attempt.acks.append((attempt.submitted_bytes, index))
        self._submit(attempt, command, received.over and received.reset is None)

    # ------------------------------------------------------------ failing

    def _fail(self, attempt: Attempt, failed: Failed | Failure) -> None:
        """The attempt is over without result."""
        assert attempt.phase is not Phase.ENDING, "an attempt fails once"
        command = attempt_failure.command(
            failed if isinstance(failed, Failed) else Failed(failed),
            attempt.invocation,
            deployment=attempt.pin,
            progressed=attempt.progressed,
            settings=self._catalog().defaults if attempt.resolved is None else attempt.resolved.settings,
            now_ms=self._host.now_ms(),
            jitter=self._rng.random(),
        )
        failure = command.failure
        logger.debug("attempt %d of %s failed: %s", command.attempt, command.id.hex(), failure.message)
        if attempt.stream is not None:
            attempt.stream.reset(failure.code, failure.message)
            attempt.stream = None
        self._submit(attempt, command, last=True)

    def _submit(self, attempt: Attempt, command: Effects | AttemptFailed, last: bool) -> None:
        if last:
            attempt.phase = Phase.ENDING
        self._submissions.put(command, attempt, last)

    # ------------------------------------------------------------ ending

    def _finish(self, attempt: Attempt) -> None:
        """Its last command is with the host."""
        if self._attempts.get(attempt.invocation.id) is not attempt:
            return  # abandoned while the command waited
        del self._attempts[attempt.invocation.id]
        self._begun -= 1
        stream, attempt.stream = attempt.stream, None
        if stream is not None:
            stream.close()
        if self._queue:
            self._begin_queued()

    def _abandon(self, attempt: Attempt, code: int, why: str) -> None:
        """Forget it without a command: what it still sends is of no interest."""
        del self._attempts[attempt.invocation.id]
        phase, attempt.phase = attempt.phase, Phase.ENDING
        if phase is Phase.QUEUED:
            return  # skipped when its turn comes
        self._begun -= 1
        stream, attempt.stream = attempt.stream, None
        if stream is not None:
            stream.reset(code, why)
        elif phase is Phase.WAITING and attempt.resolved is not None:
            self._sessions.withdraw(attempt.resolved.deployment.address, attempt)

    # ------------------------------------------------------------ time

    def _tick(self) -> None:
        tick_seconds = self._options.tick_seconds
        self._ticker = self._loop.call_later(tick_seconds, self._tick)
        self._quiet_clock_ms += int(tick_seconds * 1000)
        for attempt in list(self._attempts.values()):
            if attempt.phase is Phase.OPEN and attempt.stream is not None:
                attempt.stream.settle()
                self._check_quiet(attempt)

    def _check_quiet(self, attempt: Attempt) -> None:
        assert attempt.resolved is not None
        if attempt.stored_bytes < attempt.submitted_bytes:
            attempt.quiet_since_ms = self._quiet_clock_ms  # the endpoint waits for us, not we for it
            return
        settings = attempt.resolved.settings
        quiet_ms = self._quiet_clock_ms - attempt.quiet_since_ms
        if not attempt.half_closed:
            if quiet_ms >= settings.inactivity_timeout_ms:
                self._half_close(attempt)
        elif quiet_ms >= settings.abort_timeout_ms:
            limits = (
                f"inactivity_timeout {settings.inactivity_timeout_ms} ms, abort_timeout {settings.abort_timeout_ms} ms"
            )
            what = f"the endpoint did not suspend: no frame for {quiet_ms / 1000:g} s after it was asked to ({limits})"
            self._fail(attempt, Failure(SILENT, what))

    def _half_close(self, attempt: Attempt) -> None:
        """Ask the endpoint to suspend as soon as it must wait. From now on nothing is sent to it."""
        if attempt.phase is not Phase.OPEN:
            return
        attempt.half_closed = True
        attempt.quiet_since_ms = self._quiet_clock_ms
        self._send(attempt, HALF_CLOSE_FRAME)

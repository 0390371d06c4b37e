"""One attempt of one invocation: frames of its stream in, frames out.

::

    LOADING ── all known entries are here ──▶ RUNNING ── output, error or suspension ──▶ OVER
       └───────────────────────── reset by the node, or garbage ──────────────────────────┘

Each time the handler rests, what it did goes out in one piece: commands, then how it ended if it did.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Protocol

from holdfast import _wire
from holdfast._async_runner import AsyncRunner
from holdfast._cancellation import Cancellation
from holdfast._clock import HandlerClock
from holdfast._context import HandlerContext
from holdfast._failure import error_message
from holdfast._invocation import Invocation
from holdfast._replay import Journal, ProtocolError
from holdfast._runner import Outcome, Runner
from holdfast._state import State
from holdfast._steps import Step, StepExecutor
from holdfast._thread_runner import ThreadRunner
from holdfast._worker_threads import WorkerThreads
from holdfast.errors import InvalidValue, TerminalError
from holdfast.handler import HandlerDefinition
from holdfast.retry_policy import RetryPolicy
from holdfast_proto import endpoint_pb2 as ep
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import FRAME_BYTES_MAX, MessageType, encode_frame, is_command, is_notification

logger = logging.getLogger("holdfast")

END = encode_frame(MessageType.END, b"")
KNOWN_ENTRIES_MAX = 10_000_000


class Stream(Protocol):
    """Where an attempt's frames go."""

    @property
    def congested(self) -> bool:
        """Whether so much waits to be sent that the handler should not go on for now."""
        ...

    def send(self, frames: list[bytes]) -> None: ...

    def end(self, frames: list[bytes], last: bytes) -> None:
        """Send these, then ``last``, which needs no credit. Nothing follows."""
        ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What attempts of one process share."""

    steps: StepExecutor
    handler_threads: WorkerThreads
    wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000


class Phase(Enum):
    LOADING = auto()
    RUNNING = auto()
    OVER = auto()


class Attempt:
    """See the module. Everything is called on the process's event loop."""

    __slots__ = (
        "_context",
        "_definition",
        "_executing",
        "_half_closed",
        "_invocation",
        "_journal",
        "_left",
        "_runner",
        "_start",
        "_stream",
        "_surroundings",
        "phase",
    )

    def __init__(
        self,
        definition: HandlerDefinition,
        opening: ep.Open,
        stream: Stream,
        surroundings: Surroundings,
        frame_bytes_max: int = FRAME_BYTES_MAX,
    ) -> None:
        self._definition = definition
        self._stream = stream
        self._surroundings = surroundings
        self._journal = Journal(opening.invocation_id, frame_bytes_max)
        self._invocation = Invocation(
            definition.service, definition.name, opening.key, opening.invocation_id, opening.attempt, self._journal
        )
        self._start: pb.StartMessage | None = None
        self._left = 0  # known entries that have not come yet
        self._half_closed = False
        self._executing: dict[int, Step] = {}  # by completion id
        self._runner: Runner | None = None
        self._context: HandlerContext | None = None
        self.phase = Phase.LOADING

    # ---------------------------------------------------------------- from the node

    def receive(self, code: int, body: bytes) -> None:
        """Take a frame. Raises ProtocolError and DecodeError for one that makes no sense here."""
        if self.phase is Phase.RUNNING:
            if is_notification(code):
                self._journal.receive(code, body)
            elif code != MessageType.COMMAND_ACK:
                raise ProtocolError(f"message type 0x{code:04x} after the known entries")
        elif self.phase is Phase.LOADING:
            self._load(code, body)

    def half_close(self) -> None:
        """The node sends nothing more: leave when the handler must wait."""
        self._half_closed = True

    def advance(self) -> None:
        """Let the handler go on with what was received."""
        if self.phase is Phase.RUNNING and not self._stream.congested:
            if self._runner is None:
                self._begin()
            else:
                self._runner.advance()

    def abort(self) -> None:
        """End without a word: the stream is gone."""
        if self.phase is not Phase.OVER:
            self._over()

    @property
    def busy(self) -> bool:
        """Whether something runs now that a suspension would have to wait for."""
        return bool(self._executing) or self._runner is None or not self._runner.resting

    # ---------------------------------------------------------------- beginning

    def _load(self, code: int, body: bytes) -> None:
        if self._start is None:
            if code != MessageType.START:
                raise ProtocolError(f"message type 0x{code:04x} instead of the start message")
            self._start = pb.StartMessage.FromString(body)
            self._left = self._start.known_entries
            if not 1 <= self._left <= KNOWN_ENTRIES_MAX:
                raise ProtocolError(f"{self._left} known entries; at least the input must be there")
            return
        if not self._invocation.raw_id:
            if code != MessageType.INPUT:
                raise ProtocolError(f"message type 0x{code:04x} instead of the input as the first entry")
            self._take_input(self._start, pb.InputCommandMessage.FromString(body))
        elif is_command(code) or is_notification(code):
            self._journal.load(code, body)
        else:
            raise ProtocolError(f"message type 0x{code:04x} among the known entries")
        self._left -= 1
        if self._left == 0:
            self.phase = Phase.RUNNING

    def _take_input(self, start: pb.StartMessage, message: pb.InputCommandMessage) -> None:
        invocation = self._invocation
        if not start.id:
            raise ProtocolError("the start message has no invocation id")
        invocation.raw_id = start.id
        invocation.random_seed = start.random_seed
        invocation.body = message.value.content
        if message.headers:
            invocation.headers = {header.key: header.value for header in message.headers}

    def _begin(self) -> None:
        start = self._start
        assert start is not None
        definition, journal, invocation, around = self._definition, self._journal, self._invocation, self._surroundings
        clock = HandlerClock(journal, around.wall_ms)
        cancellation = Cancellation(journal)
        runner: AsyncRunner | ThreadRunner
        if definition.is_async:
            runner = AsyncRunner(invocation, journal, clock, cancellation, self._rested)
        else:
            runner = ThreadRunner(invocation, journal, cancellation, around.handler_threads, self._rested)
        state = State(journal, start.state_map, start.partial_state)
        context = HandlerContext(definition, invocation, journal, runner, clock, cancellation, state, around.wall_ms)
        context.retried = (start.retry_count_since_last_stored_entry, start.duration_since_last_stored_entry)
        self._runner, self._context, self._start = runner, context, None
        try:
            args, kwargs = definition.parameters.decode(invocation.body)
        except InvalidValue as error:
            self._finish(Outcome(error=TerminalError(f"input of {definition.path} is not valid: {error}", code=400)))
            return
        runner.start(definition.function, [context, *args], kwargs)

    # ---------------------------------------------------------------- the handler rests

    def _rested(self) -> None:
        """The runner calls this: the handler has seen everything there is, or has ended."""
        if self.phase is Phase.OVER:
            return
        assert self._runner is not None
        assert self._context is not None
        journal, outcome = self._journal, self._runner.outcome
        if journal.failure is not None:
            self._fail(journal.failure)
        elif outcome is not None:
            self._finish(outcome)
        else:
            journal.check_all_issued(ends=False)
            if journal.failure is not None:
                self._fail(journal.failure)
                return
            if journal.out:
                self._stream.send(journal.take_out())
            if self._context.new_steps:
                self._start_steps(self._context)
            self._leave_if_wished()

    def _leave_if_wished(self) -> None:
        """Suspend, when the node or another handler asks for it and nothing is under way here."""
        runner = self._runner
        assert runner is not None
        if (self._half_closed or runner.wanted) and runner.resting and not self._executing:
            self.suspend()

    def suspend(self) -> None:
        """Leave memory; the node starts the next attempt when what the handler waits for is there."""
        message = self._journal.suspension()
        self._end(encode_frame(MessageType.SUSPENSION, message.SerializeToString()))

    # ---------------------------------------------------------------- the handler has ended

    def _finish(self, outcome: Outcome) -> None:
        error = outcome.error
        try:
            if error is None:
                content = _wire.write_value(
                    self._definition.output, outcome.value, f"result of {self._definition.path}"
                )
                output = pb.OutputCommandMessage(value=pb.Value(content=content))
            else:
                terminal = _wire.terminal_cause(error)
                if terminal is None:
                    self._fail(error)
                    return
                output = pb.OutputCommandMessage(failure=_wire.to_failure(terminal))
            self._output(output)
        except TerminalError as problem:
            self._output(pb.OutputCommandMessage(failure=_wire.to_failure(problem)))

    def _output(self, output: pb.OutputCommandMessage) -> None:
        journal = self._journal
        journal.enter()
        try:
            journal.command(MessageType.OUTPUT, output)
        except BaseException as mismatch:
            if mismatch is not journal.failure:
                raise
        finally:
            journal.leave()
        journal.check_all_issued(ends=True)
        if journal.failure is not None:
            self._fail(journal.failure)
        else:
            self._end(END)

    def _fail(self, error: BaseException, step: Step | None = None, retry_ms: int | None = None) -> None:
        """End this attempt; the node tries again."""
        logger.warning(
            "%s (%s) failed and will be tried again", self._invocation.path, self._invocation.id, exc_info=error
        )
        message = error_message(error, step, retry_ms)
        self._end(encode_frame(MessageType.ERROR, message.SerializeToString()))

    def _end(self, last: bytes) -> None:
        frames = self._journal.take_out()
        self._over()
        self._stream.end(frames, last)

    def _over(self) -> None:
        self.phase = Phase.OVER
        for step in self._executing.values():
            self._surroundings.steps.cancel(step)
        self._executing = {}
        if self._runner is not None:
            self._runner.close()
        self._runner = self._context = self._start = None

    # ---------------------------------------------------------------- durable steps

    def _start_steps(self, context: HandlerContext) -> None:
        steps, context.new_steps = context.new_steps, []
        for step in steps:
            self._executing[step.completion_id] = step
        for step in steps:
            if self.phase is Phase.RUNNING:
                self._surroundings.steps.start(step, self._step_done)

    def _step_done(self, step: Step, value: Any, error: BaseException | None) -> None:
        if self.phase is not Phase.RUNNING:
            return
        proposal = pb.ProposeRunCompletionMessage(result_completion_id=step.completion_id)
        failure = _wire.terminal_cause(error) if error is not None else None
        if error is None:
            try:
                proposal.value = self._step_value(step, value)
            except TerminalError as problem:
                failure = problem
        elif failure is None:
            failure = self._retry_step(step, error)
            if failure is None:
                return
        if failure is not None:
            proposal.failure.CopyFrom(_wire.to_failure(failure))
        del self._executing[step.completion_id]
        self._stream.send([encode_frame(MessageType.PROPOSE_RUN_COMPLETION, proposal.SerializeToString())])
        self._leave_if_wished()

    def _step_value(self, step: Step, value: Any) -> bytes:
        content = _wire.write_value(step.serde, value, f"result of step {step.name!r}")
        if len(content) > self._journal.command_bytes_max - 64:
            limit = self._journal.command_bytes_max
            raise TerminalError(
                f"result of step {step.name!r} has {len(content)} bytes, the limit is {limit}", code=413
            )
        return content

    def _retry_step(self, step: Step, error: BaseException) -> TerminalError | None:
        """What the step fails with when its policy is exhausted; None when it is tried again.

        That is up to the node, which counts attempts durably, so this attempt ends. Unless other steps run: they are
        not to be repeated for a sibling's failure, so then the step is repeated here."""
        step.failures += 1
        policy = step.retry
        steps = self._surroundings.steps
        elapsed_ms = step.elapsed_ms + steps.now_ms() - step.started_ms
        if policy is not None and policy.exhausted(step.failures, elapsed_ms):
            words = f"{type(error).__name__}: {error}"
            return TerminalError(f"step {step.name!r} failed {step.failures} times, the last time with {words}")
        if len(self._executing) > 1:
            delay_ms = (policy or RetryPolicy()).delay_ms(step.failures)
            logger.warning(
                "step %s of %s failed, tried again in %d ms", step.name, self._invocation.path, delay_ms, exc_info=error
            )
            steps.start_later(step, delay_ms, self._step_done)
            return None
        self._fail(error, step, None if policy is None else policy.delay_ms(step.failures))
        return None

"""A node in memory, for tests of the SDK: it keeps journals as a real one does and speaks the protocol to attempts.

Two ways to run an invocation: ``live`` keeps one attempt and hands it each notification; ``replay`` half-closes every
attempt at once, so that a handler is suspended at each wait, and replayed from its journal when a notification is there.
Both must give the same journal. `check_every_prefix` goes further: whatever part of a journal is known, the code
continues it as it went.
"""

from __future__ import annotations

import asyncio
import hashlib
import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

from holdfast._attempt import Attempt, Surroundings
from holdfast._mismatch import MESSAGES
from holdfast._registration import ServiceBase
from holdfast._steps import StepExecutor
from holdfast._wire import from_failure, to_failure
from holdfast._worker_threads import WorkerThreads
from holdfast.errors import TerminalError
from holdfast.handler import Handler, HandlerDefinition
from holdfast_proto import endpoint_pb2 as ep
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import MessageType as M
from holdfast_proto.framing import completion_of, decode_frames, is_command
from holdfast_proto.identifiers import decode_awakeable_id, encode_invocation_id

P = ParamSpec("P")
R = TypeVar("R")

Entry = tuple[int, bytes]
START_MS = 1_700_000_000_000
SPEED_UP = 1000
"""The driver's clock runs so much faster than the real one."""


class AttemptFailed(Exception):
    """The SDK reported an error of an attempt, and the driver has no retries left."""

    def __init__(self, error: pb.ErrorMessage) -> None:
        super().__init__(f"{error.code}: {error.message}\n{error.stacktrace}")
        self.error = error


@dataclass
class Record:
    """One invocation."""

    id: str
    raw_id: bytes
    definition: HandlerDefinition
    key: str
    journal: list[Entry]
    done: asyncio.Future[bytes]
    state_before: dict[bytes, bytes]
    attempts: int = 0
    failures: int = 0
    failed_at_ms: int = 0
    errors: list[pb.ErrorMessage] = field(default_factory=list)
    suspensions: list[pb.SuspensionMessage] = field(default_factory=list)
    running: DriverStream | None = None
    output: pb.OutputCommandMessage | None = None

    def commands(self) -> list[Entry]:
        return [entry for entry in self.journal if is_command(entry[0])]


class DriverStream:
    """What one attempt sends."""

    def __init__(self, driver: Driver, record: Record | None) -> None:
        self._driver = driver
        self._record = record
        self.congested = False
        self.sent: list[Entry] = []
        self.over = False
        self.attempt: Attempt | None = None

    def send(self, frames: list[bytes]) -> None:
        for code, _, start, end in decode_frames(data := b"".join(frames)):
            self.sent.append((code, data[start:end]))
            if self._record is not None:
                self._driver.on_frame(self._record, self, code, data[start:end])

    def end(self, frames: list[bytes], last: bytes) -> None:
        self.send(frames)
        self.over = True
        self.send([last])


class Driver:
    """See the module. To be made and used inside a running event loop."""

    def __init__(
        self,
        services: Iterable[ServiceBase],
        *,
        replay: bool = False,
        retries: int = 0,
        lazy_state: bool = False,
        handler_threads: int = 8,
    ) -> None:
        self.handlers = {(s.name, h.name): h for s in services for h in s.handlers.values()}
        self.replay = replay
        self.retries = retries
        self.lazy_state = lazy_state
        self.now_ms = START_MS
        self.state: dict[tuple[str, str], dict[bytes, bytes]] = {}
        self.promises: dict[tuple[str, str, str], pb.Notification] = {}
        self.records: dict[str, Record] = {}
        self.delayed: list[tuple[int, Handler[..., Any] | None, bytes]] = []
        self._promise_waiters: dict[tuple[str, str, str], list[tuple[Record, int]]] = {}
        self._timers: list[tuple[int, int, Record, int]] = []
        self._loop = asyncio.get_running_loop()
        self._threads = WorkerThreads(self._loop, "driver", 16)
        self.handler_threads = WorkerThreads(self._loop, "driver-handler", handler_threads)
        self._surroundings = Surroundings(
            StepExecutor(self._loop, self._threads), self.handler_threads, lambda: self.now_ms
        )

    # ---------------------------------------------------------------- for tests

    def begin(self, handler: Handler[P, R], *args: P.args, **kwargs: P.kwargs) -> Record:
        return self.begin_raw(handler.definition, handler.key or "", handler.encode_input(*args, **kwargs))

    async def call(self, handler: Handler[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        record = self.begin(handler, *args, **kwargs)
        return handler.decode_output(await self.result(record))

    async def result(self, record: Record) -> bytes:
        return await asyncio.wait_for(asyncio.shield(record.done), 10)

    def begin_raw(self, definition: HandlerDefinition, key: str, body: bytes) -> Record:
        raw_id = hashlib.sha256(f"{definition.path} {key} {len(self.records)}".encode()).digest()[:24]
        command = pb.InputCommandMessage(value=pb.Value(content=body), headers=[pb.Header(key="h", value="v")])
        entry = (int(M.INPUT), command.SerializeToString())
        before = dict(self.state.get((definition.service, key), {}))
        id, done = encode_invocation_id(raw_id), self._loop.create_future()
        record = Record(id, raw_id, definition, key, [entry], done, before)
        self.records[record.id] = record
        self._loop.call_soon(self._start, record)
        return record

    def signal(self, record: Record, index: int, **result: Any) -> None:
        self._notify(record, M.SIGNAL, pb.Notification(signal_id=index, **(result or {"void": pb.Void()})))

    def half_close(self, record: Record) -> None:
        assert record.running is not None
        assert record.running.attempt is not None
        record.running.attempt.half_close()
        record.running.attempt.advance()

    def close(self) -> None:
        self._threads.close()
        self.handler_threads.close()

    # ---------------------------------------------------------------- attempts

    def attempt(self, record: Record, journal: list[Entry], stream: DriverStream) -> Attempt:
        """An attempt that has received its start and ``journal``, but not yet run."""
        definition = record.definition
        opening = ep.Open(
            service=definition.service,
            handler=definition.name,
            key=record.key,
            protocol_version=6,
            attempt=record.attempts,
            invocation_id=record.id,
        )
        state = dict(record.state_before)
        for code, body in journal:
            write_state(state, MESSAGES[code].FromString(body) if is_command(code) else None)
        entries = [pb.StartMessage.StateEntry(key=k, value=v) for k, v in sorted(state.items())]
        start = pb.StartMessage(
            id=record.raw_id,
            known_entries=len(journal),
            state_map=[] if self.lazy_state else entries,
            partial_state=self.lazy_state,
            key=record.key,
            random_seed=int.from_bytes(record.raw_id[8:16], "big"),
            retry_count_since_last_stored_entry=record.failures,
            duration_since_last_stored_entry=self.now_ms - record.failed_at_ms if record.failures else 0,
        )
        stream.attempt = attempt = Attempt(definition, opening, stream, self._surroundings)
        attempt.receive(M.START, start.SerializeToString())
        for code, body in journal:
            attempt.receive(code, body)
        return attempt

    def _start(self, record: Record) -> None:
        if record.running is not None or record.done.done():
            return
        record.attempts += 1
        stream = record.running = DriverStream(self, record)
        attempt = self.attempt(record, record.journal, stream)
        if self.replay:
            attempt.half_close()
        attempt.advance()

    def on_frame(self, record: Record, stream: DriverStream, code: int, body: bytes) -> None:
        if is_command(code):
            record.journal.append((code, body))
            record.failures = 0
            self._carry_out(record, code, MESSAGES[code].FromString(body))
        elif code == M.PROPOSE_RUN_COMPLETION:
            proposal = pb.ProposeRunCompletionMessage.FromString(body)
            result = pb.Notification(completion_id=proposal.result_completion_id)
            if proposal.HasField("failure"):
                result.failure.CopyFrom(proposal.failure)
            else:
                result.value.content = proposal.value
            self._notify(record, M.RUN_COMPLETION, result)
        else:
            record.running = None
            self._ended(record, code, body)

    def _ended(self, record: Record, code: int, body: bytes) -> None:
        if code == M.SUSPENSION:
            suspension = pb.SuspensionMessage.FromString(body)
            record.suspensions.append(suspension)
            assert suspension.waiting_signals or suspension.waiting_completions
            if self._satisfied(record, suspension):
                self._loop.call_soon(self._start, record)
        elif code == M.ERROR:
            error = pb.ErrorMessage.FromString(body)
            record.errors.append(error)
            if len(record.errors) > self.retries:
                if not record.done.done():
                    record.done.set_exception(AttemptFailed(error))
                return
            if not record.failures:
                record.failed_at_ms = self.now_ms
            record.failures += 1
            self.now_ms += error.next_retry_delay
            self._loop.call_soon(self._start, record)
        else:
            assert code == M.END, code
            assert record.output is not None
            self._complete(record, record.output)

    def _satisfied(self, record: Record, suspension: pb.SuspensionMessage) -> bool:
        for code, body in record.journal:
            if not is_command(code):
                notification = pb.Notification.FromString(body)
                if notification.HasField("completion_id"):
                    if notification.completion_id in suspension.waiting_completions:
                        return True
                elif notification.signal_id in suspension.waiting_signals and notification.signal_id != 1:
                    return True
        return False

    def _complete(self, record: Record, output: pb.OutputCommandMessage) -> None:
        if output.HasField("failure"):
            record.done.set_exception(from_failure(output.failure))
            record.done.exception()  # looked at
        else:
            record.done.set_result(output.value.content)

    # ---------------------------------------------------------------- what commands do

    def _notify(self, record: Record, code: int, notification: pb.Notification) -> None:
        body = notification.SerializeToString()
        record.journal.append((int(code), body))
        stream = record.running
        if stream is None:
            self._loop.call_soon(self._start, record)
        elif not self.replay:
            self._loop.call_soon(self._deliver, stream, int(code), body)

    def _deliver(self, stream: DriverStream, code: int, body: bytes) -> None:
        if not stream.over and stream.attempt is not None:
            stream.attempt.receive(code, body)
            stream.attempt.advance()

    def _carry_out(self, record: Record, code: int, command: Any) -> None:
        state = self.state.setdefault((record.definition.service, record.key), {})
        reply = pb.Notification(completion_id=getattr(command, "result_completion_id", 0))
        match command:
            case pb.OutputCommandMessage():
                record.output = command
            case pb.SetStateCommandMessage() | pb.ClearStateCommandMessage() | pb.ClearAllStateCommandMessage():
                write_state(state, command)
            case pb.GetLazyStateCommandMessage():
                if command.key in state:
                    reply.value.content = state[command.key]
                else:
                    reply.void.SetInParent()
                self._notify(record, completion_of(code), reply)
            case pb.GetLazyStateKeysCommandMessage():
                reply.state_keys.keys.extend(sorted(state))
                self._notify(record, completion_of(code), reply)
            case pb.SleepCommandMessage():
                heapq.heappush(self._timers, (command.wake_up_time, len(record.journal), record, reply.completion_id))
                delay = max(0, command.wake_up_time - self.now_ms) / 1000 / SPEED_UP
                self._loop.call_later(delay, self._fire)
            case pb.CallCommandMessage() | pb.OneWayCallCommandMessage():
                self._call(record, command)
            case pb.SendSignalCommandMessage():
                self.signal(self.records[command.target_invocation_id], command.idx)
            case pb.AttachInvocationCommandMessage():
                target = self.records[command.invocation_id]
                target.done.add_done_callback(lambda done: self._answer(record, completion_of(code), reply, done))
            case pb.CompleteAwakeableCommandMessage():
                raw, index = decode_awakeable_id(command.awakeable_id)
                target = next(r for r in self.records.values() if r.raw_id == raw)
                if command.HasField("failure"):
                    self.signal(target, index, failure=command.failure)
                else:
                    self.signal(target, index, value=command.value)
            case pb.GetPromiseCommandMessage() | pb.PeekPromiseCommandMessage() | pb.CompletePromiseCommandMessage():
                self._promise(record, code, command, reply)
            case _:
                assert code in (M.RUN, M.GET_EAGER_STATE, M.GET_EAGER_STATE_KEYS), code

    def _fire(self) -> None:
        due, _, record, number = heapq.heappop(self._timers)
        self.now_ms = max(self.now_ms, due)
        self._notify(record, M.SLEEP_COMPLETION, pb.Notification(completion_id=number, void=pb.Void()))

    def _call(self, record: Record, command: Any) -> None:
        definition = self.handlers[command.service_name, command.handler_name]
        callee = self.begin_raw(definition, command.key, command.parameter)
        number = command.invocation_id_notification_idx
        answer = pb.Notification(completion_id=number, invocation_id=callee.id)
        self._notify(record, M.CALL_INVOCATION_ID_COMPLETION, answer)
        if isinstance(command, pb.CallCommandMessage):
            reply = pb.Notification(completion_id=command.result_completion_id)
            callee.done.add_done_callback(lambda done: self._answer(record, M.CALL_COMPLETION, reply, done))

    def _answer(self, record: Record, code: int, reply: pb.Notification, done: asyncio.Future[bytes]) -> None:
        error = done.exception()
        if isinstance(error, TerminalError):
            reply.failure.CopyFrom(to_failure(error))
        elif error is None:
            reply.value.content = done.result()
        else:
            return  # An invocation that is tried again for ever never answers.
        self._notify(record, code, reply)

    def _promise(self, record: Record, code: int, command: Any, reply: pb.Notification) -> None:
        name = (record.definition.service, record.key, command.key)
        known = self.promises.get(name)
        match command:
            case pb.CompletePromiseCommandMessage() if known is not None:
                reply.failure.CopyFrom(pb.Failure(code=409, message="the promise is completed already"))
            case pb.CompletePromiseCommandMessage():
                known = self.promises[name] = pb.Notification()
                if command.HasField("completion_failure"):
                    known.failure.CopyFrom(command.completion_failure)
                else:
                    known.value.CopyFrom(command.completion_value)
                reply.void.SetInParent()
                for waiter, number in self._promise_waiters.pop(name, []):
                    answer = pb.Notification(completion_id=number)
                    answer.MergeFrom(known)
                    self._notify(waiter, M.GET_PROMISE_COMPLETION, answer)
            case _ if known is not None:
                reply.MergeFrom(known)
            case pb.GetPromiseCommandMessage():
                self._promise_waiters.setdefault(name, []).append((record, reply.completion_id))
                return
            case _:
                reply.void.SetInParent()
        self._notify(record, completion_of(code), reply)


def write_state(state: dict[bytes, bytes], command: Any) -> None:
    match command:
        case pb.SetStateCommandMessage():
            state[command.key] = command.value.content
        case pb.ClearStateCommandMessage():
            state.pop(command.key, None)
        case pb.ClearAllStateCommandMessage():
            state.clear()
        case _:
            pass


# -------------------------------------------------------------------- determinism


def timeless(entry: Entry) -> tuple[int, Any]:
    """A command without the times in it."""
    code, body = entry
    message: Any = MESSAGES[code].FromString(body)
    if code == M.SLEEP:
        message.ClearField("wake_up_time")
    if code == M.ONE_WAY_CALL:
        message.ClearField("invoke_time")
    return code, message.SerializeToString(deterministic=True)


async def check_every_prefix(driver: Driver, record: Record) -> int:
    """Start the handler with each prefix of its journal: what it does then must be what it went on to do. Gives how many
    prefixes there were."""
    full = [timeless(entry) for entry in record.commands()]
    for length in range(1, len(record.journal) + 1):
        prefix = record.journal[:length]
        stream = DriverStream(driver, None)
        attempt = driver.attempt(record, prefix, stream)
        attempt.half_close()
        attempt.advance()
        await _until(stream)
        issued = [timeless(entry) for entry in stream.sent if is_command(entry[0])]
        known = sum(is_command(code) for code, _ in prefix)
        assert not [b for c, b in stream.sent if c == M.ERROR], (length, stream.sent)
        assert issued == full[known : known + len(issued)], (length, issued, full[known:])
    return len(record.journal)


async def _until(stream: DriverStream) -> None:
    for _ in range(500):
        if stream.over:
            return
        await asyncio.sleep(0.001 if _ > 20 else 0)
    raise AssertionError("the attempt neither ended nor suspended")



"""One attempt of one invocation: frames in, frames out.

Notifications reach the handler one at a time in journal order, and it comes to rest between two of them; so a replay
takes every decision as the first run did. While recorded commands are left, what the code does is compared with them.
"""

from __future__ import annotations

import asyncio
import inspect
import time
import traceback
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from random import Random
from typing import Any, TypeVar

from google.protobuf.message import Message

from holdfast import serde
from holdfast._handler_log import HandlerLogger
from holdfast._loop import InvocationLoop
from holdfast._mismatch import mismatch, same_command
from holdfast._results import complete, failure_message, found, nothing, result_type, value_or_none
from holdfast.context import Awakeable, CallHandle, DurableFuture
from holdfast.errors import Cancelled, JournalMismatch, NotDurable, TerminalError
from holdfast.handler import Handler
from holdfast.retry_policy import RetryPolicy
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import (
    SIGNAL_CANCEL,
    SIGNAL_FIRST_AWAKEABLE,
    MessageType,
    encode_frame,
    is_command,
    is_notification,
)
from holdfast_proto.identifiers import encode_awakeable_id

T = TypeVar("T")
JOURNAL_MISMATCH = 570
STEP_RETRY = RetryPolicy()


class Attempt:
    """``write`` takes the frames for the node; ``done`` is called once when the attempt is over."""

    def __init__(
        self,
        handler: Handler[Any, Any],
        make_context: Callable[[Attempt], Any],
        start: pb.StartMessage,
        number: int,
        outer: asyncio.AbstractEventLoop,
        threads: Executor,
        write: Callable[[bytes], None],
        done: Callable[[], None],
    ) -> None:
        self.handler = handler
        self.number = number
        self.debug_id = start.debug_id
        self.key = start.key
        self.headers: dict[str, str] = {}
        self.random = Random(start.random_seed)
        self.over = False
        self._id = start.id
        self._make_context = make_context
        self._expected = start.known_entries
        self._retry_count = start.retry_count_since_last_stored_entry
        self._state = {entry.key: entry.value for entry in start.state_map}
        self._state_partial = start.partial_state
        self._outer = outer
        self._threads = threads
        self._write = write
        self._done = done
        self._loop = InvocationLoop(self.sleep)  # type: ignore[abstract]
        self._task: asyncio.Task[Any] | None = None
        self._recorded: deque[tuple[int, bytes]] = deque()
        self._notifications: deque[pb.Notification] = deque()
        self._recorded_completions: set[int] = set()
        self._input = b""
        self._command_index = 0
        self._next_completion = 1
        self._next_awakeable = SIGNAL_FIRST_AWAKEABLE
        self._pending: dict[
            int | tuple[str, int | str], tuple[DurableFuture[Any], Callable[[pb.Notification], Any]]
        ] = {}
        self._early: dict[int | tuple[str, int | str], pb.Notification] = {}
        self._children: dict[int, str] = {}
        self._calls: dict[int, int] = {}
        self._steps_running = 0
        self._half_closed = False
        self._cancelled = False
        self._out: list[bytes] = []
        self.logger = HandlerLogger(handler.service, self.debug_id, self)

    @property
    def replaying(self) -> bool:
        return bool(self._recorded) or bool(self._notifications)

    def receive(self, code: int, body: bytes) -> None:
        if self._expected:
            self._expected -= 1
            if code == MessageType.INPUT:
                message = pb.InputCommandMessage.FromString(body)
                self._input = message.value.content
                self.headers = {header.key: header.value for header in message.headers}
            elif is_command(code):
                self._recorded.append((code, body))
            else:
                self._note(body, recorded=True)
        elif is_notification(code):
            self._note(body, recorded=False)
        elif code == MessageType.HALF_CLOSE:
            self._half_closed = True

    def _note(self, body: bytes, recorded: bool) -> None:
        notification = pb.Notification.FromString(body)
        self._notifications.append(notification)
        if recorded and notification.WhichOneof("id") == "completion_id":
            self._recorded_completions.add(notification.completion_id)

    def advance(self) -> None:
        """Go on as far as what has arrived allows, then say what came of it."""
        if self.over or self._expected:
            return
        if self._task is None:
            self._task = self._loop.create_task(self._main())
        self._settle()
        while self._notifications and not self.over:
            self._deliver(self._notifications.popleft())
            self._settle()
        if not self.over and self._half_closed and not self._steps_running:
            self._suspend()
        self._flush()

    def abort(self) -> None:
        """The node ended the attempt: nothing of it may be sent any more."""
        if not self.over:
            self._out.clear()
            self._end()

    async def _main(self) -> Any:
        arguments = self.handler.decode_arguments(self._input)
        return serde.encode(await self.handler.fn(self._make_context(self), *arguments))

    def _settle(self) -> None:
        self._loop.drain()
        task = self._task
        assert task is not None
        if self.over:
            return
        if task.done():
            self._finish(task)
        elif not self._pending and not self._steps_running:
            where = "".join(traceback.format_stack(task.get_stack()[-1])[-1:]) if task.get_stack() else "?"
            problem = f"the handler waits for something that is not durable; wrap it in ctx.run:\n{where}"
            self._fail(NotDurable(problem))

    def _finish(self, task: asyncio.Task[Any]) -> None:
        try:
            value = task.result()
        except TerminalError as error:
            self._output(None, error)
        except asyncio.CancelledError:
            self._output(None, Cancelled())
        except TypeError as error:
            if "JSON" in str(error) or "Encoding objects" in str(error):
                self._output(None, TerminalError(f"the result can't be serialised: {error}"))
            else:
                self._fail(error)
        except Exception as error:  # noqa: BLE001 - whatever the handler raised becomes the attempt's failure
            self._fail(error)
        else:
            self._output(value, None)

    def _output(self, value: bytes | None, error: TerminalError | None) -> None:
        output = pb.OutputCommandMessage()
        if error is not None:
            output.failure.CopyFrom(failure_message(error))
        else:
            output.value.content = value or b""
        try:
            self._command(MessageType.OUTPUT, output)
        except JournalMismatch as mismatch:
            self._fail(mismatch)
            return
        self._out.append(encode_frame(MessageType.END, b""))
        self._end()

    def _fail(self, error: BaseException, next_retry_ms: int | None = None) -> None:
        if self.over:
            return
        code = JOURNAL_MISMATCH if isinstance(error, JournalMismatch) else 500
        message = pb.ErrorMessage(
            code=code,
            message=f"{type(error).__name__}: {error}",
            stacktrace="".join(traceback.format_exception(error))[-8_000:],
            related_command_index=self._command_index,
        )
        if next_retry_ms is not None:
            message.next_retry_delay = next_retry_ms
        self._out.append(encode_frame(MessageType.ERROR, message.SerializeToString()))
        self._end()

    def _suspend(self) -> None:
        message = pb.SuspensionMessage()
        for key in self._pending:
            if isinstance(key, int):
                message.waiting_completions.append(key)
            elif isinstance(key[1], int):
                message.waiting_signals.append(key[1])
            else:
                message.waiting_named_signals.append(key[1])
        if not self._cancelled:
            message.waiting_signals.append(SIGNAL_CANCEL)
        self._out.append(encode_frame(MessageType.SUSPENSION, message.SerializeToString()))
        self._end()

    def _end(self) -> None:
        self.over = True
        self._flush()
        self._pending.clear()
        task, self._task = self._task, None
        if task is not None and not task.done():
            # Dropping the coroutine runs its finally blocks; commands they issue are refused, see _command.
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            task.get_coro().close()  # type: ignore[union-attr,unused-ignore]
        self._done()

    def _flush(self) -> None:
        if self._out:
            data, self._out = b"".join(self._out), []
            self._write(data)

    def _deliver(self, notification: pb.Notification) -> None:
        kind = notification.WhichOneof("id")
        if kind == "signal_id" and notification.signal_id == SIGNAL_CANCEL:
            self._cancel_all()
            return
        key: int | tuple[str, int | str]
        if kind == "completion_id":
            key = notification.completion_id
        elif kind == "signal_id":
            key = ("signal", notification.signal_id)
        else:
            key = ("signal", notification.signal_name)
        waiting = self._pending.pop(key, None)
        if waiting is None:
            self._early[key] = notification
            return
        complete(waiting[0], waiting[1], notification)

    def _cancel_all(self) -> None:
        self._cancelled = True
        for result_id, id_id in list(self._calls.items()):
            child = self._children.get(id_id)
            if result_id in self._pending and child is not None:
                self.cancel(child)
        pending, self._pending = self._pending, {}
        for future, _ in pending.values():
            if not future.done():
                future.set_exception(Cancelled())
                future._log_traceback = False

    def _future(self, key: int | tuple[str, int | str], read: Callable[[pb.Notification], T]) -> DurableFuture[T]:
        future: DurableFuture[T] = DurableFuture(loop=self._loop)
        early = self._early.pop(key, None)
        if early is not None:
            complete(future, read, early)
        else:
            self._pending[key] = (future, read)
        return future

    def _completion_id(self) -> int:
        number = self._next_completion
        self._next_completion += 1
        return number

    def _command(self, code: MessageType, message: Message) -> None:
        if self.over and self._task is None:
            raise NotDurable("this attempt is over; nothing can be done on its context any more")
        self._command_index += 1
        body = message.SerializeToString()
        if not self._recorded:
            self._out.append(encode_frame(code, body))
            return
        recorded_code, recorded = self._recorded.popleft()
        if code != recorded_code or not same_command(code, message, body, recorded):
            raise JournalMismatch(mismatch(self._command_index, (recorded_code, recorded), (code, body)))

    def run(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        name: str | None,
        retry: RetryPolicy | None,
    ) -> DurableFuture[Any]:
        number = self._completion_id()
        shown = name or str(getattr(fn, "__name__", "step"))
        self._command(MessageType.RUN, pb.RunCommandMessage(result_completion_id=number, name=shown))
        kind = result_type(fn)
        future: DurableFuture[Any] = self._future(number, lambda n: serde.decode(n.value.content, kind))
        if not future.done() and number not in self._recorded_completions:
            self._steps_running += 1
            self._execute(number, fn, args, kwargs, shown, retry)
        return future

    def _execute(
        self,
        number: int,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        name: str,
        retry: RetryPolicy | None,
    ) -> None:
        def finished(outcome: asyncio.Future[bytes]) -> None:
            self._step_done(number, outcome, name, retry)

        if inspect.iscoroutinefunction(fn):

            async def step() -> bytes:
                return serde.encode(await fn(*args, **kwargs))

            asyncio.Task(step(), loop=self._outer).add_done_callback(finished)
        else:

            def blocking() -> bytes:
                return serde.encode(fn(*args, **kwargs))

            self._outer.run_in_executor(self._threads, blocking).add_done_callback(finished)

    def _step_done(self, number: int, outcome: asyncio.Future[bytes], name: str, retry: RetryPolicy | None) -> None:
        self._steps_running -= 1
        if self.over:
            outcome.cancelled() or outcome.exception()
            return
        proposal = pb.ProposeRunCompletionMessage(result_completion_id=number)
        error = asyncio.CancelledError() if outcome.cancelled() else outcome.exception()
        if error is None:
            proposal.value = outcome.result()
        elif isinstance(error, TerminalError):
            proposal.failure.CopyFrom(failure_message(error))
        else:
            failed = self._retry_count + 1
            limit = retry.max_attempts if retry else None
            if limit is None or failed < limit:
                delay = (retry or STEP_RETRY).delay_ms(failed) if retry else None
                self._fail(error, delay)
                return
            proposal.failure.code = 500
            proposal.failure.message = f"step '{name}' failed {failed} times: {type(error).__name__}: {error}"
        self._out.append(encode_frame(MessageType.PROPOSE_RUN_COMPLETION, proposal.SerializeToString()))
        self._flush()

    def call(self, handler: Handler[Any, T], body: bytes, idempotency_key: str | None) -> CallHandle[T]:
        id_number, number = self._completion_id(), self._completion_id()
        self._command(
            MessageType.CALL,
            pb.CallCommandMessage(
                service_name=handler.service,
                handler_name=handler.name,
                parameter=body,
                key=handler.key or "",
                idempotency_key=idempotency_key,
                invocation_id_notification_idx=id_number,
                result_completion_id=number,
            ),
        )
        self._calls[number] = id_number
        result: DurableFuture[T] = self._future(number, lambda n: serde.decode(n.value.content, handler.returns))
        return CallHandle(result, self._invocation_id(id_number))

    def _invocation_id(self, number: int) -> DurableFuture[str]:
        def read(notification: pb.Notification) -> str:
            self._children[number] = notification.invocation_id
            return notification.invocation_id

        return self._future(number, read)

    def send(self, handler: Handler[Any, T], body: bytes, delay: float, idempotency_key: str | None) -> CallHandle[T]:
        number = self._completion_id()
        self._command(
            MessageType.ONE_WAY_CALL,
            pb.OneWayCallCommandMessage(
                service_name=handler.service,
                handler_name=handler.name,
                parameter=body,
                key=handler.key or "",
                idempotency_key=idempotency_key,
                invoke_time=int((time.time() + delay) * 1000) if delay > 0 else 0,
                invocation_id_notification_idx=number,
            ),
        )
        return CallHandle(None, self._invocation_id(number))

    def sleep(self, seconds: float) -> DurableFuture[None]:
        number = self._completion_id()
        wake_up = int((time.time() + seconds) * 1000)
        self._command(MessageType.SLEEP, pb.SleepCommandMessage(wake_up_time=wake_up, result_completion_id=number))
        return self._future(number, nothing)

    def awakeable(self, kind: type[T]) -> Awakeable[T]:
        index = self._next_awakeable
        self._next_awakeable += 1
        future: DurableFuture[T] = self._future(("signal", index), lambda n: serde.decode(n.value.content, kind))
        return Awakeable(encode_awakeable_id(self._id, index), future)

    def complete_awakeable(self, awakeable_id: str, value: Any, rejection: str | None) -> None:
        command = pb.CompleteAwakeableCommandMessage(awakeable_id=awakeable_id)
        if rejection is not None:
            command.failure.CopyFrom(pb.Failure(code=500, message=rejection))
        else:
            command.value.content = serde.encode(value)
        self._command(MessageType.COMPLETE_AWAKEABLE, command)

    def cancel(self, invocation_id: str) -> None:
        command = pb.SendSignalCommandMessage(target_invocation_id=invocation_id, idx=SIGNAL_CANCEL, void=pb.Void())
        self._command(MessageType.SEND_SIGNAL, command)

    def attach(self, invocation_id: str, kind: type[T]) -> DurableFuture[T]:
        number = self._completion_id()
        command = pb.AttachInvocationCommandMessage(invocation_id=invocation_id, result_completion_id=number)
        self._command(MessageType.ATTACH_INVOCATION, command)
        return self._future(number, lambda n: serde.decode(n.value.content, kind))

    def get_output(self, invocation_id: str, kind: type[T]) -> DurableFuture[T | None]:
        number = self._completion_id()
        command = pb.GetInvocationOutputCommandMessage(invocation_id=invocation_id, result_completion_id=number)
        self._command(MessageType.GET_INVOCATION_OUTPUT, command)
        return self._future(number, lambda n: value_or_none(n, kind))

    def get_promise(self, name: str, kind: type[T]) -> DurableFuture[T]:
        number = self._completion_id()
        self._command(MessageType.GET_PROMISE, pb.GetPromiseCommandMessage(key=name, result_completion_id=number))
        return self._future(number, lambda n: serde.decode(n.value.content, kind))

    def peek_promise(self, name: str, kind: type[T]) -> DurableFuture[T | None]:
        number = self._completion_id()
        self._command(MessageType.PEEK_PROMISE, pb.PeekPromiseCommandMessage(key=name, result_completion_id=number))
        return self._future(number, lambda n: value_or_none(n, kind))

    def complete_promise(self, name: str, value: Any, rejection: str | None) -> DurableFuture[None]:
        number = self._completion_id()
        command = pb.CompletePromiseCommandMessage(key=name, result_completion_id=number)
        if rejection is not None:
            command.completion_failure.CopyFrom(pb.Failure(code=500, message=rejection))
        else:
            command.completion_value.content = serde.encode(value)
        self._command(MessageType.COMPLETE_PROMISE, command)
        return self._future(number, nothing)

    async def get_state(self, name: str, kind: Any) -> tuple[bool, Any]:
        key = name.encode()
        number = self._completion_id()
        lazy = self._state_partial and key not in self._state
        if self._recorded:
            lazy = self._recorded[0][0] == MessageType.GET_LAZY_STATE
        if lazy:
            command = pb.GetLazyStateCommandMessage(key=key, result_completion_id=number)
            self._command(MessageType.GET_LAZY_STATE, command)
            return await self._future(number, lambda n: found(n.WhichOneof("result") == "value", n.value.content, kind))
        eager = pb.GetEagerStateCommandMessage(key=key)
        value = self._state.get(key)
        if self._recorded and self._recorded[0][0] == MessageType.GET_EAGER_STATE:
            recorded = pb.GetEagerStateCommandMessage.FromString(self._recorded[0][1])
            value = recorded.value.content if recorded.WhichOneof("result") == "value" else None
        if value is None:
            eager.void.SetInParent()
        else:
            eager.value.content = value
        self._command(MessageType.GET_EAGER_STATE, eager)
        return found(value is not None, value or b"", kind)

    async def state_keys(self) -> list[str]:
        number = self._completion_id()
        command = pb.GetLazyStateKeysCommandMessage(result_completion_id=number)
        self._command(MessageType.GET_LAZY_STATE_KEYS, command)
        return await self._future(number, lambda n: [key.decode() for key in n.state_keys.keys])

    def set_state(self, name: str, value: Any) -> None:
        data = serde.encode(value)
        command = pb.SetStateCommandMessage(key=name.encode(), value=pb.Value(content=data))
        self._command(MessageType.SET_STATE, command)
        self._state[name.encode()] = data

    def clear_state(self, name: str | None) -> None:
        if name is None:
            self._command(MessageType.CLEAR_ALL_STATE, pb.ClearAllStateCommandMessage())
            self._state, self._state_partial = {}, False
            return
        self._command(MessageType.CLEAR_STATE, pb.ClearStateCommandMessage(key=name.encode()))
        if self._state_partial:
            self._state[name.encode()] = b""
        else:
            self._state.pop(name.encode(), None)

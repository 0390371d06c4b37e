"""Durable steps: the functions given to ``ctx.run``, and where they run.

An ``async def`` runs as a task on the process's event loop, a ``def`` in a thread; never on the handler's own loop. A
result goes to the server first and reaches the handler when it comes back from there, recorded.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any

from holdfast._worker_threads import WorkerThreads
from holdfast.retry_policy import RetryPolicy
from holdfast.serde import Serde


@dataclass(slots=True, eq=False)
class Step:
    """One ``ctx.run`` whose result is not recorded yet."""

    completion_id: int
    command_index: int
    name: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    serde: Serde[Any]
    retry: RetryPolicy | None
    context: Context
    failures: int  # executions that failed before
    elapsed_ms: int  # since the first execution, at the start of this attempt
    started_ms: int = 0  # when this attempt first executed it, on the executor's clock
    task: asyncio.Task[Any] | asyncio.TimerHandle | None = field(default=None)
    cancelled: bool = False


StepDone = Callable[[Step, Any, BaseException | None], None]
"""Called on the event loop with the result or the error."""


class StepExecutor:
    """Runs the steps of all invocations of this process."""

    def __init__(self, loop: asyncio.AbstractEventLoop, threads: WorkerThreads) -> None:
        self._loop = loop
        self._threads = threads

    def now_ms(self) -> int:
        """A clock for how long steps take."""
        return int(self._loop.time() * 1000)

    def start(self, step: Step, done: StepDone) -> None:
        if not step.started_ms:
            step.started_ms = self.now_ms()
        if not inspect.iscoroutinefunction(step.function):
            self._run_in_thread(step, done)
            return
        try:
            coroutine = step.context.run(step.function, *step.args, **step.kwargs)
        except TypeError as error:  # the arguments do not fit
            done(step, None, error)
            return
        self._run_async(step, coroutine, done)

    def start_later(self, step: Step, delay_ms: int, done: StepDone) -> None:
        step.task = self._loop.call_later(delay_ms / 1000, self.start, step, done)

    def cancel(self, step: Step) -> None:
        """A step that is a task is cancelled; a thread can't be, so its result is dropped."""
        step.cancelled = True
        if step.task is not None:
            step.task.cancel()

    def _run_async(self, step: Step, awaitable: Awaitable[Any], done: StepDone) -> None:
        def finished(task: asyncio.Task[Any]) -> None:
            step.task = None
            if task.cancelled():
                error: BaseException | None = asyncio.CancelledError("the step was cancelled by its own code")
            else:
                error = task.exception()
            if not step.cancelled:
                done(step, None if error is not None else task.result(), error)

        coroutine = awaitable if inspect.iscoroutine(awaitable) else _awaited(awaitable)
        step.task = task = self._loop.create_task(coroutine, context=step.context)
        task.add_done_callback(finished)

    def _run_in_thread(self, step: Step, done: StepDone) -> None:
        value: Any = None
        error: BaseException | None = None

        def work() -> None:
            nonlocal value, error
            if step.cancelled:
                return
            try:
                value = step.context.run(step.function, *step.args, **step.kwargs)
            except BaseException as problem:  # noqa: BLE001 - it is handed to whoever waits for the step
                error = problem

        def finished() -> None:
            if step.cancelled:
                if inspect.iscoroutine(value):
                    value.close()
            elif inspect.isawaitable(value):  # such as `lambda: charge(card)` with an async charge
                self._run_async(step, value, done)
            else:
                done(step, value, error)

        self._threads.submit(work, finished)


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable

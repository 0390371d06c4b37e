"""Runs an ``async def`` handler on an event loop of its own, from callbacks of the process's loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from holdfast._cancellation import Cancellation
from holdfast._clock import HandlerClock
from holdfast._future import AsyncFuture
from holdfast._invocation import Invocation
from holdfast._location import awaiting
from holdfast._loop import InvocationLoop, enter, leave
from holdfast._replay import Journal
from holdfast._runner import Outcome
from holdfast._wire import Decode
from holdfast.errors import AttemptStopped, Cancelled, NotDurable

T = TypeVar("T")

_CLOSE_TRIES_MAX = 10
"""A coroutine that goes on awaiting while it is closed is asked so often, then left to itself."""


class AsyncRunner:
    """See `Runner`."""

    __slots__ = ("_cancellation", "_journal", "_loop", "_main", "_rested", "outcome")

    resting = True
    wanted = False

    def __init__(
        self,
        invocation: Invocation,
        journal: Journal,
        clock: HandlerClock,
        cancellation: Cancellation,
        rested: Callable[[], None],
    ) -> None:
        self._journal = journal
        self._cancellation = cancellation
        self._rested = rested
        self._loop = InvocationLoop(invocation, clock)
        self._main: asyncio.Task[Any] | None = None
        self.outcome: Outcome | None = None

    def future(self, decode: Decode[T]) -> AsyncFuture[T]:
        return AsyncFuture(decode, self._loop, self._loop.next_number())

    def start(self, function: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]) -> None:
        self._main = asyncio.Task(function(*args, **kwargs), loop=self._loop, name="handler")
        self.advance()

    def advance(self) -> None:
        journal, main = self._journal, self._main
        assert main is not None
        before = enter(self._loop)
        journal.enter()
        try:
            self._loop.run()
            while not main.done() and journal.failure is None and journal.deliver_next():
                self._loop.run()
                if journal.cancel_requested and self._cancellation.ready():
                    self._cancel(main)
        except (SystemExit, KeyboardInterrupt) as error:
            self.outcome = Outcome(error=RuntimeError(f"the handler raised {type(error).__name__}"))
        finally:
            journal.leave()
            leave(before)
        if self.outcome is None:
            self.outcome = self._outcome(main)
        self._rested()

    def _cancel(self, main: asyncio.Task[Any]) -> None:
        """Raise Cancelled at what is awaited. A handler that waits for a task of its own, which swallowed it, or for
        something like an event, is cancelled as a task."""
        cancelled = self._cancellation.carry_out()
        self._loop.run()
        if not main.done() and (not cancelled or next(self._journal.awaited(), None) is None):
            main.cancel()
            self._loop.run()

    def _outcome(self, main: asyncio.Task[Any]) -> Outcome | None:
        if main.done():
            return self._ended(main)
        if self._journal.failure is None and next(self._journal.awaited(), None) is None:
            return Outcome(error=_waits_for_nothing(main))
        return None

    def _ended(self, main: asyncio.Task[Any]) -> Outcome:
        if main.cancelled():
            if self._cancellation.carried_out:
                return Outcome(error=Cancelled())
            return Outcome(error=RuntimeError("the handler was cancelled by its own code (asyncio.CancelledError)"))
        error = main.exception()
        return Outcome(value=main.result()) if error is None else Outcome(error=_advised(error))

    def close(self) -> None:
        main = self._main
        if main is None:
            return
        self._main = None
        loop = self._loop
        self._journal.closed = True
        if not main.done() or loop.tasks:
            before = enter(loop)
            try:
                for task in (*loop.tasks, main):
                    if not task.done():
                        _close(task)
            finally:
                leave(before)
        loop.close()


def _close(task: asyncio.Task[Any]) -> None:
    """Unwind a handler's code. It can't do anything durable any more; what it raises is of no interest."""
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    coroutine: Any = task.get_coro()
    for _ in range(_CLOSE_TRIES_MAX):
        try:
            coroutine.close()
            return
        except RuntimeError:
            continue  # It awaits something in a `finally`: asked again, the await itself is ended.
        except (Exception, AttemptStopped):  # noqa: BLE001 - what unwinding code raises concerns nobody
            return


def _waits_for_nothing(main: asyncio.Task[Any]) -> NotDurable:
    coroutine: Any = main.get_coro()
    return NotDurable(
        f"the handler waits for something that will never come, in {awaiting(coroutine)}: nothing durable is under "
        "way. Await what a context gives (ctx.run, ctx.call, ctx.sleep, ...); wrap anything else in ctx.run"
    )


def _advised(error: BaseException) -> BaseException:
    """asyncio's words for a future of another loop don't help; ours do."""
    if isinstance(error, RuntimeError) and "attached to a different loop" in str(error):
        where = error.__traceback__
        advised = NotDurable("the handler awaited something of another event loop: wrap this in ctx.run")
        advised.__cause__ = error
        return advised.with_traceback(where)
    return error

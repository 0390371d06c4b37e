"""Runs a ``def`` handler in a thread. It rests when the thread blocks in ``future.result()``.

::

    event loop:  start ─────────────┐            rested ── deliver ──┐            rested (with the outcome)
    thread:                         └─ handler ──┘ (blocked)         └─ handler ──┘

Thread and event loop take turns: the journal belongs to the thread while the handler runs, to the event loop while it
rests. A handler that rests holds its thread; when another one waits for a thread, it is suspended and gives it up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextvars import copy_context
from enum import Enum, auto
from threading import Lock
from typing import Any, TypeVar

from holdfast._cancellation import Cancellation
from holdfast._invocation import CURRENT, Invocation
from holdfast._location import caller
from holdfast._replay import Journal
from holdfast._runner import DurableFuture, Outcome
from holdfast._wire import Decode, from_failure
from holdfast._worker_threads import WorkerThreads
from holdfast.errors import AttemptStopped, NotDurable, Suspended
from holdfast_proto import protocol_pb2 as pb

T = TypeVar("T")


class _State(Enum):
    RUNNING = auto()  # or waiting for a thread
    RESTING = auto()
    ENDED = auto()


class ThreadRunner:
    """See `Runner`."""

    __slots__ = (
        "_awaits",
        "_cancellation",
        "_invocation",
        "_journal",
        "_rested",
        "_state",
        "_threads",
        "_wake",
        "outcome",
    )

    def __init__(
        self,
        invocation: Invocation,
        journal: Journal,
        cancellation: Cancellation,
        threads: WorkerThreads,
        rested: Callable[[], None],
    ) -> None:
        self._invocation = invocation
        self._journal = journal
        self._cancellation = cancellation
        self._threads = threads
        self._rested = rested
        self._state = _State.RUNNING
        self._awaits: BlockingFuture[Any] | None = None
        self._wake = Lock()  # held while the thread may not go on
        self._wake.acquire()
        self.outcome: Outcome | None = None

    @property
    def resting(self) -> bool:
        return self._state is not _State.RUNNING

    @property
    def wanted(self) -> bool:
        return self._state is _State.RESTING and self._threads.waiting > 0

    def future(self, decode: Decode[T]) -> BlockingFuture[T]:
        return BlockingFuture(decode, self)

    # ---------------------------------------------------------------- on the event loop

    def start(self, function: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]) -> None:
        def work() -> None:
            context = copy_context()
            context.run(CURRENT.set, (self._invocation, True))
            context.run(self._run, function, args, kwargs)

        self._threads.submit(work, self._ended)

    def advance(self) -> None:
        if self._state is _State.RUNNING:
            return  # What came waits in the journal until the handler rests.
        journal = self._journal
        while self._state is _State.RESTING and journal.failure is None and journal.deliver_next():
            if journal.cancel_requested and self._cancellation.ready():
                journal.enter()
                self._cancellation.carry_out()
                journal.leave()
            if self._awaits is not None and self._awaits.done():
                self._state = _State.RUNNING
                self._wake.release()
                return
        self._rested()

    def close(self) -> None:
        self._journal.closed = True
        if self._state is _State.RESTING:
            self._state = _State.RUNNING
            self._wake.release()

    def _on_rest(self) -> None:
        if self._journal.closed:
            self._wake.release()  # It came to rest while the attempt was ended.
            return
        self._state = _State.RESTING
        self.advance()

    def _ended(self) -> None:
        self._state = _State.ENDED
        if not self._journal.closed:
            self._rested()

    # ---------------------------------------------------------------- in the handler's thread

    def _run(self, function: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]) -> None:
        journal = self._journal
        if journal.closed:
            return
        journal.enter()
        try:
            self.outcome = Outcome(value=function(*args, **kwargs))
        except Suspended:
            pass  # The attempt has ended before: nobody asks for the outcome.
        except (Exception, AttemptStopped) as error:  # noqa: BLE001 - it is handed to the attempt
            self.outcome = Outcome(error=error)
        except BaseException as error:  # noqa: BLE001 - sys.exit() in a handler must not end the thread
            self.outcome = Outcome(error=RuntimeError(f"the handler raised {type(error).__name__}"))
        finally:
            journal.leave()

    def wait(self, future: BlockingFuture[Any]) -> None:
        """Block until ``future`` is done."""
        journal = self._journal
        journal.check()
        self._awaits = future
        journal.leave()
        self._threads.on_loop(self._on_rest)
        self._wake.acquire()
        self._awaits = None
        journal.enter()
        journal.check()

    def awaits(self, future: BlockingFuture[Any]) -> bool:
        return self._awaits is future


class BlockingFuture(DurableFuture[T]):
    """A future of a ``def`` handler."""

    def __init__(self, decode: Decode[T], runner: ThreadRunner) -> None:
        self._decode = decode
        self._runner = runner
        self._done = False
        self._value: Any = None
        self._error: BaseException | None = None

    def result(self) -> T:
        if not self._done:
            self._runner.wait(self)
        if self._error is not None:
            raise self._error
        value: T = self._value
        return value

    def done(self) -> bool:
        return self._done

    def cancel(self, msg: Any = None) -> bool:
        if self._done:
            return False
        self.fail(asyncio.CancelledError(msg) if msg is not None else asyncio.CancelledError())
        return True

    # ---------------------------------------------------------------- as a waiter of the journal

    @property
    def awaited(self) -> bool:
        return not self._done and self._runner.awaits(self)

    def complete(self, notification: pb.Notification) -> None:
        if self._done:
            return
        try:
            if notification.HasField("failure"):
                self._error = from_failure(notification.failure)
            else:
                self._value = self._decode(notification)
        except Exception as error:  # noqa: BLE001 - a serde of the user's may raise anything; it belongs to the waiter
            self._error = error
        self._done = True

    def fail(self, error: BaseException) -> None:
        if not self._done:
            self._error = error
            self._done = True

    # ---------------------------------------------------------------- not a coroutine

    def __await__(self) -> Generator[Any, Any, T]:
        raise _not_async()

    def send(self, value: Any, /) -> Any:
        raise _not_async()

    def throw(self, typ: Any, val: Any = None, tb: Any = None, /) -> Any:
        raise _not_async()

    def close(self) -> None:
        """A coroutine that was not begun needs no clean-up."""


def _not_async() -> NotDurable:
    return NotDurable(f"a plain `def` handler waits with .result(), not with await, in {caller()}")

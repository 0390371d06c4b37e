"""The event loop of one invocation: asyncio for a handler, made durable.

Everything in asyncio that only schedules works here as everywhere: tasks, gather, TaskGroup, timeout, sleep, Event,
Queue. Callbacks run in the order in which they were scheduled, timers are durable sleeps, and there is no IO, so what
happens is the same on replay. Whatever would do IO raises NotDurable, with advice.

The loop does not run by itself: `run` runs what is ready, inside a callback of the process's loop, and returns when the
handler rests. (Not inside a task: tasks of two loops must not nest.)
"""

from __future__ import annotations

import asyncio
import asyncio.futures
import logging
import sys
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from math import ceil
from threading import get_ident
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

from holdfast._clock import HandlerClock
from holdfast._location import caller
from holdfast.errors import NotDurable
from holdfast_proto import protocol_pb2 as pb

if TYPE_CHECKING:
    from holdfast._invocation import Invocation

    Base = asyncio.BaseEventLoop  # to the type checkers: nothing is abstract, see the end of the module
else:
    Base = asyncio.AbstractEventLoop

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

logger = logging.getLogger("holdfast")


class DurableTask(asyncio.Task[T]):
    """A task whose place in a set is the same on replay: asyncio keeps tasks in sets, and cancels in their order."""

    number = 0

    def __hash__(self) -> int:
        return self.number


class InvocationLoop(Base):
    """See the module."""

    def __init__(self, invocation: Invocation, clock: HandlerClock) -> None:
        self.invocation = invocation
        """Whose loop this is, for log records."""
        self._clock = clock
        self._ready: deque[asyncio.Handle] = deque()
        self._tasks: list[asyncio.Task[Any]] = []
        self._numbers = 0
        self._thread = get_ident()
        self._closed = False

    # ---------------------------------------------------------------- for the runner

    def run(self) -> None:
        """Run what is ready until nothing is. The caller has made this the running loop."""
        ready = self._ready
        while ready:
            handle = ready.popleft()
            if not handle.cancelled():
                handle._run()

    def next_number(self) -> int:
        self._numbers += 1
        return self._numbers

    @property
    def tasks(self) -> list[asyncio.Task[Any]]:
        """Every task that a handler made, without the handler's own."""
        return self._tasks

    # ---------------------------------------------------------------- scheduling

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        if get_ident() != self._thread:
            raise _not_durable("a callback from another thread")
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        delay_ms = ceil(round(when * 1000 - self._clock.time_ms(), 3))
        if delay_ms <= 0:
            self._ready.append(handle)
        else:
            timer = _Timer(handle, self._ready, self._clock)
            timer.due_ms = self._clock.sleep(delay_ms, timer)
        return handle

    def time(self) -> float:
        return self._clock.time_ms() / 1000

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: object = None,
        context: Context | None = None,
        **options: Any,
    ) -> asyncio.Task[T]:
        number = self.next_number()
        task: DurableTask[T] = DurableTask(
            coro, loop=self, name=str(name) if name else f"task-{number}", context=context, **options
        )
        task.number = number
        self._tasks.append(task)
        if len(self._tasks) % 1024 == 0:
            self._tasks = [task for task in self._tasks if not task.done()]
        return task

    # ---------------------------------------------------------------- about the loop

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return asyncio._get_running_loop() is self

    def is_closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        self._closed = True
        self._ready.clear()

    def get_task_factory(self) -> None:
        return None

    def get_exception_handler(self) -> None:
        return None

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        self.call_exception_handler(context)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """asyncio reports what nobody looked at, such as the error of a task that nobody awaited."""
        if not self._closed and not self.invocation.replaying:
            logger.warning("%s: %s", self.invocation.path, context.get("message"), exc_info=context.get("exception"))

    async def shutdown_asyncgens(self) -> None:
        """Nothing to do: the generators end with the handler."""

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """There is none."""

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """asyncio says so when a timer is cancelled; the durable sleep just finds nobody when it is over."""


class _Timer:
    """A callback that waits for a durable sleep."""

    __slots__ = ("_clock", "_handle", "_ready", "due_ms")

    def __init__(self, handle: asyncio.TimerHandle, ready: deque[asyncio.Handle], clock: HandlerClock) -> None:
        self._handle = handle
        self._ready = ready
        self._clock = clock
        self.due_ms = 0

    @property
    def awaited(self) -> bool:
        return not self._handle.cancelled()

    def complete(self, notification: pb.Notification) -> None:
        self._clock.slept(self.due_ms)
        if not self._handle.cancelled():
            self._ready.append(self._handle)

    def fail(self, error: BaseException) -> None:
        """Only ``asyncio.sleep`` is somebody waiting; a timeout is not."""
        handle: Any = self._handle
        if handle._callback is asyncio.futures._set_result_unless_cancelled:  # type: ignore[attr-defined]
            future: asyncio.Future[Any] = handle._args[0]
            handle.cancel()
            if not future.done():
                future.set_exception(error)


def _not_durable(what: str) -> NotDurable:
    return NotDurable(
        f"{what} does not survive a restart, in {caller()}: do it in a function and wrap this in ctx.run, "
        "as in `await ctx.run(function, argument)`"
    )


def _refuse(name: str) -> Callable[..., Any]:
    def refuse(self: InvocationLoop, *args: Any, **kwargs: Any) -> Any:
        raise _not_durable(_IO[name])

    refuse.__name__ = name
    return refuse


_NETWORK, _SUBPROCESS, _FILES = "a network connection", "a subprocess", "watching a file descriptor"
_IO = {
    "run_in_executor": "work in another thread (run_in_executor, asyncio.to_thread)",
    "set_default_executor": "an executor",
    "run_forever": "running this event loop",
    "run_until_complete": "running this event loop",
    "stop": "stopping this event loop",
    "set_debug": "debug mode of this event loop",
    "set_task_factory": "a task factory",
    "set_exception_handler": "an exception handler",
    "add_signal_handler": "a signal handler",
    "remove_signal_handler": "a signal handler",
    **dict.fromkeys(("add_reader", "remove_reader", "add_writer", "remove_writer"), _FILES),
    **dict.fromkeys(("connect_read_pipe", "connect_write_pipe"), "a pipe"),
    **dict.fromkeys(("subprocess_shell", "subprocess_exec"), _SUBPROCESS),
    **dict.fromkeys(
        (
            *("getaddrinfo", "getnameinfo", "create_connection", "create_server", "create_unix_connection"),
            *("create_unix_server", "connect_accepted_socket", "create_datagram_endpoint", "start_tls", "sendfile"),
            *("sock_recv", "sock_recv_into", "sock_recvfrom", "sock_recvfrom_into", "sock_sendall", "sock_sendto"),
            *("sock_connect", "sock_accept", "sock_sendfile"),
        ),
        _NETWORK,
    ),
}
for _name in _IO:
    setattr(InvocationLoop, _name, _refuse(_name))
InvocationLoop.__abstractmethods__ = frozenset()  # type: ignore[attr-defined]


def ignore_async_generator(generator: object) -> None:
    """Hook for asynchronous generators: they end with the handler, at no other time."""


def enter(loop: InvocationLoop) -> tuple[asyncio.AbstractEventLoop | None, Any]:
    """Make ``loop`` the running loop of this thread. Give the result to `leave`."""
    before = asyncio._get_running_loop(), sys.get_asyncgen_hooks()
    asyncio._set_running_loop(loop)
    sys.set_asyncgen_hooks(firstiter=ignore_async_generator, finalizer=ignore_async_generator)
    return before


def leave(before: tuple[asyncio.AbstractEventLoop | None, Any]) -> None:
    outer, hooks = before
    asyncio._set_running_loop(outer)
    sys.set_asyncgen_hooks(*hooks)

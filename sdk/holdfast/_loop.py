"""The event loop of one invocation: deterministic, without IO, run to rest whenever something arrives.

Ready callbacks run first in, first out. Time is durable: ``call_later`` becomes a sleep in the journal. So asyncio's
gather, TaskGroup, timeout, Event and Queue work on durable awaitables and do the same again in a replay.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
import time
from asyncio import events
from collections import deque
from collections.abc import Callable
from typing import Any

from holdfast.errors import NotDurable


class InvocationLoop(asyncio.AbstractEventLoop):
    def __init__(self, sleep: Callable[[float], asyncio.Future[None]]) -> None:
        self._ready: deque[asyncio.Handle] = deque()
        self._sleep = sleep
        self.failure: BaseException | None = None

    def drain(self) -> None:
        """Run until nothing is ready. Call it from a plain callback of the process's loop, never from a task."""
        outer = events._get_running_loop()
        events._set_running_loop(self)
        try:
            ready = self._ready
            while ready:
                handle = ready.popleft()
                if not handle.cancelled():
                    handle._run()
        finally:
            events._set_running_loop(outer)

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(self.time() + delay, callback, args, self, context)
        if delay <= 0:
            self._ready.append(handle)
        else:
            self._sleep(delay).add_done_callback(lambda _: self._ready.append(handle))
        return handle

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_later(when - self.time(), callback, *args, context=context)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Its sleep stays in the journal and wakes nobody."""

    def time(self) -> float:
        return time.time()

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Any = None, **_: Any) -> asyncio.Task[Any]:
        return asyncio.Task(coro, loop=self, name=name, context=context)

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """An exception that nobody awaits: the attempt has failed or will, with what it does await."""
        self.failure = self.failure or context.get("exception")

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        self.call_exception_handler(context)

    def __getattribute__(self, name: str) -> Any:
        if name in _IO:
            raise NotDurable(f"{name} at {_user_line()}: a handler does no IO and uses no threads; wrap it in ctx.run")
        return super().__getattribute__(name)


_IO = frozenset(
    (
        "run_in_executor",
        "create_connection",
        "create_server",
        "create_datagram_endpoint",
        "create_unix_connection",
        "getaddrinfo",
        "getnameinfo",
        "sock_recv",
        "sock_recv_into",
        "sock_sendall",
        "sock_connect",
        "sock_accept",
        "add_reader",
        "add_writer",
        "subprocess_exec",
        "subprocess_shell",
        "connect_read_pipe",
        "connect_write_pipe",
        "add_signal_handler",
        "start_tls",
        "sendfile",
        "call_soon_threadsafe",
        "run_until_complete",
        "run_forever",
    )
)


def _user_line() -> str:
    frame = sys._getframe(2)
    while frame.f_back is not None and ("asyncio" in frame.f_code.co_filename or __file__ == frame.f_code.co_filename):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"

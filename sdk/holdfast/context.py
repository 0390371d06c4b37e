"""What a handler can do: the contexts, as interfaces. To read this page is to learn Holdfast.

A handler is an ordinary function. What it does through its context is *durable*: it is recorded, and when the handler
must start again (its process died, it was redeployed, it waited for a month), recorded results are handed out again
and nothing is done twice. For that to work a handler must do the same things in the same order each time; so whatever
touches the world outside, a database, an HTTP service, the clock, goes into a durable step, ``await ctx.run(...)``.

Everything here returns a `Future` at once and has already begun when it returns: await it in an ``async def`` handler;
in a plain ``def`` handler call ``.result()``, which blocks. Futures combine by asyncio's own means::

    a, b = await asyncio.gather(ctx.run(f), ctx.call(g, 1))
    async with asyncio.timeout(30):
        answer = await ctx.call(slow)
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping
from datetime import datetime
from random import Random
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, overload
from uuid import UUID

from holdfast.handler import Handler
from holdfast.retry_policy import Duration, RetryPolicy
from holdfast.serde import Serde

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Future(Coroutine[Any, Any, T_co], Generic[T_co]):
    """The result, sooner or later, of something durable.

    In an ``async def`` handler: ``await`` it, or hand it to ``asyncio.gather``, ``asyncio.wait_for``, a TaskGroup. It
    may be awaited more than once. In a ``def`` handler: ``.result()``.
    """

    @abstractmethod
    def __await__(self) -> Generator[Any, Any, T_co]: ...

    @abstractmethod
    def result(self) -> T_co:
        """In a ``def`` handler, wait for the result. In an ``async def`` handler, the result if it is there, as with
        asyncio's futures. Raises the error if it is one."""

    @abstractmethod
    def done(self) -> bool:
        """Whether the result is there."""

    @abstractmethod
    def cancel(self, msg: Any = None) -> bool:
        """No longer wait for the result. What was begun goes on; to end a call, cancel its invocation id."""


class CallFuture(Future[T_co]):
    """A call of another handler: its result, and its invocation id, which is known much earlier."""

    @property
    @abstractmethod
    def invocation_id(self) -> Future[str]: ...


class Sent(ABC):
    """A one-way call: it has an invocation id, but nobody waits for the result here."""

    @property
    @abstractmethod
    def invocation_id(self) -> Future[str]: ...


class Awakeable(Future[T_co]):
    """A result that comes from outside: whoever knows ``id`` resolves or rejects it, by ``ctx.resolve_awakeable`` in
    any handler or over HTTP."""

    @property
    @abstractmethod
    def id(self) -> str: ...


class Promise(ABC, Generic[T]):
    """A named result that belongs to one run of a workflow, resolved or rejected once, by any of its handlers."""

    @abstractmethod
    def __await__(self) -> Generator[Any, Any, T]:
        """The same as ``wait()``."""

    @abstractmethod
    def wait(self) -> Future[T]:
        """The value, once it is resolved. Raises the TerminalError that it was rejected with."""

    @abstractmethod
    def peek(self) -> Future[T | None]:
        """The value if there is one by now, or None."""

    @abstractmethod
    def resolve(self, value: T) -> Future[None]:
        """Raises TerminalError (409) when the promise was completed before."""

    @abstractmethod
    def reject(self, message: str, *, code: int = 500) -> Future[None]:
        """Whoever waits gets a TerminalError. Raises TerminalError (409) when the promise was completed before."""


class Step(Protocol):
    """What ``ctx.step(...)`` returns: ``ctx.run`` with options."""

    @overload
    def __call__(
        self, function: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Future[R]: ...
    @overload
    def __call__(self, function: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]: ...


class CallOptions(ABC):
    """What ``ctx.options(...)`` returns: ``call`` and ``send`` with options."""

    @abstractmethod
    def call(self, handler: Handler[P, R], /, *args: P.args, **kwargs: P.kwargs) -> CallFuture[R]:
        """Like `Context.call`."""

    @abstractmethod
    def send(self, handler: Handler[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Sent:
        """Like `Context.send`."""


class Context(ABC):
    """The context of a `Service` handler, and the part that all contexts share."""

    # ---------------------------------------------------------------- about this invocation

    @property
    @abstractmethod
    def id(self) -> str:
        """The invocation id, ``inv_1...``."""

    @property
    @abstractmethod
    def attempt(self) -> int:
        """How often this invocation was started or resumed, from 1. It changes on replay: don't decide by it."""

    @property
    @abstractmethod
    def headers(self) -> Mapping[str, str]:
        """Headers of the request that started this invocation."""

    @property
    @abstractmethod
    def body(self) -> bytes:
        """The request's body as it came."""

    @property
    @abstractmethod
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger that names the invocation and is silent while recorded steps are replayed."""

    # ---------------------------------------------------------------- values that stay the same on replay

    @property
    @abstractmethod
    def random(self) -> Random:
        """Random numbers, the same in each attempt."""

    @abstractmethod
    def uuid(self) -> UUID:
        """A random UUID, the same in each attempt: good as an idempotency key for other services."""

    @abstractmethod
    def now(self) -> datetime:
        """The time (UTC), recorded when it is first asked for. It stands still until the handler has waited."""

    # ---------------------------------------------------------------- durable steps

    @overload
    def run(self, function: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]: ...
    @overload
    def run(self, function: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]: ...
    @overload
    def run(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]: ...
    @abstractmethod
    def run(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run a function once and record its result: a *durable step*, the place for all that touches the world.

        An ``async def`` function runs on the process's event loop, a ``def`` function in a thread. It may run again
        when the process dies before its result is stored; afterwards never. When it raises, the invocation is tried
        again with back-off (see `step` for a policy of its own); a TerminalError is recorded and raised here.
        """

    @abstractmethod
    def step(self, *, name: str | None = None, retry: RetryPolicy | None = None, type: Any = None) -> Step:
        """`run` with options::

            await ctx.step(name="charge", retry=RetryPolicy(max_attempts=5))(charge, card, cents)

        ``name`` is what people see in the journal (default: the function's). When ``retry`` is exhausted, the step
        fails with a TerminalError that holds the last error's words. ``type`` is the type of the result, for
        functions without a type hint, or a `Serde`.
        """

    @abstractmethod
    def sleep(self, duration: Duration, /) -> Future[None]:
        """Wait for seconds or months; costs nothing meanwhile. (``asyncio.sleep`` in a handler is the same.)"""

    # ---------------------------------------------------------------- other handlers

    @abstractmethod
    def call(self, handler: Handler[P, R], /, *args: P.args, **kwargs: P.kwargs) -> CallFuture[R]:
        """Call a handler and wait for its result. It runs exactly once, wherever it is served. Its TerminalError is
        raised here; cancelling this invocation cancels the call."""

    @abstractmethod
    def send(self, handler: Handler[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Sent:
        """Call a handler without waiting for it."""

    @abstractmethod
    def options(
        self,
        *,
        delay: Duration | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> CallOptions:
        """`call` and `send` with options::

            ctx.options(delay=60, idempotency_key="k").send(remind, "Ada")

        ``delay`` is for ``send`` only.
        """

    @abstractmethod
    def attach(self, invocation_id: str, type: type[T]) -> Future[T]:
        """Wait for the result of another invocation."""

    @abstractmethod
    def cancel(self, invocation_id: str) -> None:
        """Ask another invocation to end; `Cancelled` is raised in it."""

    # ---------------------------------------------------------------- the world outside, later

    @abstractmethod
    def awakeable(self, type: type[T]) -> Awakeable[T]:
        """A result that somebody else delivers, by its ``id``::

        approval = ctx.awakeable(bool)
        await ctx.run(mail_link, approval.id)
        if await approval: ...
        """

    @abstractmethod
    def resolve_awakeable(self, id: str, value: Any) -> None:
        """Deliver the result of an awakeable."""

    @abstractmethod
    def reject_awakeable(self, id: str, message: str, *, code: int = 500) -> None:
        """Fail an awakeable: a TerminalError is raised where it is awaited."""


class SharedContext(Context):
    """The context of a virtual object's shared handler: it may read the state, beside everything else that runs."""

    @property
    @abstractmethod
    def key(self) -> str:
        """Which object (or workflow run) this is."""

    @overload
    def get(self, name: str, type: type[T]) -> Future[T | None]: ...
    @overload
    def get(self, name: str, type: type[T], default: T) -> Future[T]: ...
    @abstractmethod
    def get(self, name: str, type: Any, default: Any = None) -> Future[Any]:
        """The value stored under ``name``, or ``default``. ``type`` says what to read it as, or is a `Serde`."""

    @abstractmethod
    def keys(self) -> Future[list[str]]:
        """The names under which something is stored."""


class ObjectContext(SharedContext):
    """The context of a virtual object's exclusive handler: the only one that runs for its key, so it may write."""

    @abstractmethod
    def set(self, name: str, value: Any, *, serde: Serde[Any] | None = None) -> None:
        """Store a value under ``name``, for this key. It stays when the handler fails later: undo it if need be."""

    @abstractmethod
    def clear(self, name: str | None = None) -> None:
        """Forget the value under ``name``; without a name, everything of this key."""


class WorkflowContext(ObjectContext):
    """The context of a workflow's main handler, which runs once for each key."""

    @abstractmethod
    def promise(self, name: str, type: type[T]) -> Promise[T]:
        """The promise of that name, of this run."""


class WorkflowSharedContext(SharedContext):
    """The context of a workflow's other handlers, which look at the run, and talk to it by promises."""

    @abstractmethod
    def promise(self, name: str, type: type[T]) -> Promise[T]:
        """The promise of that name, of this run."""

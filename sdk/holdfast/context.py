"""What a handler may do durably. To read this module is to learn the product."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Generator
from datetime import datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload
from uuid import UUID

from holdfast.handler import Handler
from holdfast.retry_policy import RetryPolicy

if TYPE_CHECKING:
    from holdfast._replay import Attempt

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class DurableFuture(asyncio.Future[T]):
    """A result that survives crashes. Await it, or hand it to asyncio.gather, wait_for or a TaskGroup."""

    def send(self, value: Any, /) -> Any:
        return self._steps().send(value)

    def throw(self, *error: Any) -> Any:
        return self._steps().throw(*error)

    def close(self) -> None:
        self._steps().close()

    def _steps(self) -> Generator[Any, Any, T]:
        steps: Generator[Any, Any, T] | None = getattr(self, "_iterator", None)
        if steps is None:
            steps = self._iterator = asyncio.Future.__await__(self)
        return steps


class CallHandle(Generic[T]):
    """A call that was made. Await it for the result; ``await handle.invocation_id`` for its id."""

    def __init__(self, result: DurableFuture[T] | None, invocation_id: DurableFuture[str]) -> None:
        self._result = result
        self.invocation_id = invocation_id

    def __await__(self) -> Generator[Any, Any, T]:
        if self._result is None:
            raise TypeError("a one-way call has no result here; await handle.invocation_id, then ctx.attach")
        return self._result.__await__()


class Awakeable(Generic[T]):
    """Something that others complete: hand out ``id``, await the value."""

    def __init__(self, awakeable_id: str, future: DurableFuture[T]) -> None:
        self.id = awakeable_id
        self._future = future

    def __await__(self) -> Generator[Any, Any, T]:
        return self._future.__await__()


class DurablePromise(Generic[T]):
    """A named value of a workflow key, completed once."""

    def __init__(self, attempt: Attempt, name: str, kind: type[T]) -> None:
        self._attempt = attempt
        self._name = name
        self._kind = kind

    def __await__(self) -> Generator[Any, Any, T]:
        return self.wait().__await__()

    def wait(self) -> DurableFuture[T]:
        return self._attempt.get_promise(self._name, self._kind)

    def peek(self) -> DurableFuture[T | None]:
        return self._attempt.peek_promise(self._name, self._kind)

    def resolve(self, value: T) -> DurableFuture[None]:
        return self._attempt.complete_promise(self._name, value, None)

    def reject(self, message: str) -> DurableFuture[None]:
        return self._attempt.complete_promise(self._name, None, message)


class Step:
    """``ctx.step(...)(fn, *args)``: a durable step with options."""

    def __init__(self, attempt: Attempt, name: str | None, retry: RetryPolicy | None) -> None:
        self._attempt = attempt
        self._name = name
        self._retry = retry

    @overload
    def __call__(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> DurableFuture[R]: ...
    @overload
    def __call__(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> DurableFuture[R]: ...
    def __call__(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> DurableFuture[Any]:
        return self._attempt.run(fn, args, kwargs, self._name, self._retry)


class Calls:
    """``ctx.options(...)``: calls with a delay or an idempotency key."""

    def __init__(self, attempt: Attempt, delay: float, idempotency_key: str | None) -> None:
        self._attempt = attempt
        self._delay = delay
        self._idempotency_key = idempotency_key

    def call(self, handler: Handler[P, R], /, *args: P.args, **kwargs: P.kwargs) -> CallHandle[R]:
        return self._attempt.call(handler, handler.encode_arguments(args, kwargs), self._idempotency_key)

    def send(self, handler: Handler[P, R], /, *args: P.args, **kwargs: P.kwargs) -> CallHandle[R]:
        body = handler.encode_arguments(args, kwargs)
        return self._attempt.send(handler, body, self._delay, self._idempotency_key)


class Context:
    """Of every handler."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self.id: str = attempt.debug_id
        self.attempt: int = attempt.number
        self.headers: dict[str, str] = attempt.headers
        self.random: Random = attempt.random
        self.log: logging.LoggerAdapter[logging.Logger] = attempt.logger

    @overload
    def run(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> DurableFuture[R]: ...
    @overload
    def run(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> DurableFuture[R]: ...
    def run(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> DurableFuture[Any]:
        """A durable step: run ``fn`` (possibly again after a crash) until it has a result, which is stored and never
        computed again. An ``async def`` runs on the process's event loop, a ``def`` in a thread."""
        return self._attempt.run(fn, args, kwargs, None, None)

    def step(self, *, name: str | None = None, retry: RetryPolicy | None = None) -> Step:
        return Step(self._attempt, name, retry)

    def call(self, handler: Handler[P, R], /, *args: P.args, **kwargs: P.kwargs) -> CallHandle[R]:
        """Call another handler, exactly once, and await its result."""
        return self._attempt.call(handler, handler.encode_arguments(args, kwargs), None)

    def send(self, handler: Handler[P, R], /, *args: P.args, **kwargs: P.kwargs) -> CallHandle[R]:
        """Have another handler called, exactly once, without waiting for it."""
        return self._attempt.send(handler, handler.encode_arguments(args, kwargs), 0.0, None)

    def options(self, *, delay: float | timedelta = 0.0, idempotency_key: str | None = None) -> Calls:
        return Calls(self._attempt, _seconds(delay), idempotency_key)

    def sleep(self, duration: float | timedelta, /) -> DurableFuture[None]:
        """Seconds or a timedelta; survives crashes and costs nothing while it lasts."""
        return self._attempt.sleep(_seconds(duration))

    def awakeable(self, kind: type[T], /) -> Awakeable[T]:
        return self._attempt.awakeable(kind)

    def resolve_awakeable(self, awakeable_id: str, value: Any) -> None:
        self._attempt.complete_awakeable(awakeable_id, value, None)

    def reject_awakeable(self, awakeable_id: str, message: str) -> None:
        self._attempt.complete_awakeable(awakeable_id, None, message)

    def attach(self, invocation_id: str, kind: type[T], /) -> DurableFuture[T]:
        """The result of another invocation, once it is there."""
        return self._attempt.attach(invocation_id, kind)

    def output(self, invocation_id: str, kind: type[T], /) -> DurableFuture[T | None]:
        """The result of another invocation, or None when it is not there yet."""
        return self._attempt.get_output(invocation_id, kind)

    def cancel(self, invocation_id: str) -> None:
        self._attempt.cancel(invocation_id)

    async def now(self) -> datetime:
        """The time, the same in every replay."""
        return datetime.fromisoformat(await self._attempt.run(_now, (), {}, "now", None))

    def uuid(self) -> UUID:
        """A random UUID, the same in every replay."""
        return UUID(int=self.random.getrandbits(128), version=4)


class SharedContext(Context):
    """Of a handler with a key: reads its state."""

    def __init__(self, attempt: Attempt) -> None:
        super().__init__(attempt)
        self.key: str = attempt.key

    @overload
    async def get(self, name: str, kind: type[T], /) -> T | None: ...
    @overload
    async def get(self, name: str, kind: type[T], default: T, /) -> T: ...
    async def get(self, name: str, kind: type[T], default: T | None = None, /) -> T | None:
        found, value = await self._attempt.get_state(name, kind)
        return value if found else default

    async def keys(self) -> list[str]:
        return await self._attempt.state_keys()


class ObjectContext(SharedContext):
    """Of an exclusive handler: nobody else writes the state of this key meanwhile."""

    def set(self, name: str, value: Any) -> None:
        self._attempt.set_state(name, value)

    def clear(self, name: str | None = None) -> None:
        """One name, or all of them."""
        self._attempt.clear_state(name)


class WorkflowSharedContext(SharedContext):
    def promise(self, name: str, kind: type[T], /) -> DurablePromise[T]:
        return DurablePromise(self._attempt, name, kind)


class WorkflowContext(ObjectContext):
    def promise(self, name: str, kind: type[T], /) -> DurablePromise[T]:
        return DurablePromise(self._attempt, name, kind)


def _seconds(duration: float | timedelta) -> float:
    return duration.total_seconds() if isinstance(duration, timedelta) else float(duration)


async def _now() -> str:
    return datetime.now().astimezone().isoformat()

"""`Client` for programs without asyncio."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import CancelledError
from types import TracebackType
from typing import Any, Generic, ParamSpec, Self, TypeVar, Unpack, overload

from holdfast.client import DEFAULT_ADDRESS, DEFAULT_TIMEOUT, Caller, CallOptions, Client, InvocationHandle, SendOptions
from holdfast.handler import Handler
from holdfast.retry_policy import Duration

P = ParamSpec("P")
R = TypeVar("R")
A = TypeVar("A")
T = TypeVar("T")


class _Loop:
    """An event loop on a thread of its own. Calls of several threads meet there and travel together."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="holdfast client", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """From any thread but its own. An interrupt (Ctrl-C) cancels the work."""
        if not self._thread.is_alive():
            work.close()
            raise RuntimeError("this client is closed")
        done = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return done.result()
        except CancelledError:
            raise RuntimeError("this client was closed by another thread") from None
        except BaseException:
            done.cancel()
            raise

    def stop(self) -> None:
        """What other threads wait for is cancelled, so that none of them waits for ever."""
        self.run(_cancel_others())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class SyncInvocationHandle(Generic[R]):
    """See `InvocationHandle`."""

    def __init__(self, loop: _Loop, handle: InvocationHandle[R]) -> None:
        self._loop = loop
        self._handle = handle
        self.id = handle.id
        self.previously_accepted = handle.previously_accepted
        self.execution_time_ms = handle.execution_time_ms

    def __repr__(self) -> str:
        return repr(self._handle)

    def result(self, *, timeout: Duration | None = DEFAULT_TIMEOUT) -> R:
        """See `InvocationHandle.result`."""
        return self._loop.run(self._handle.result(timeout=timeout))

    def output(self) -> R:
        """See `InvocationHandle.output`."""
        return self._loop.run(self._handle.output())


class SyncCaller:
    """What `SyncClient` and ``client.options(...)`` have in common. See `Caller`."""

    def __init__(self, loop: _Loop, caller: Caller) -> None:
        self._loop = loop
        self._caller = caller

    def options(self, **options: Unpack[SendOptions]) -> SyncCaller:
        """See `Caller.options`."""
        return SyncCaller(self._loop, self._caller.options(**options))

    @overload
    def call(self, handler: Handler[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    def call(self, handler: Handler[[A], R], argument: A, /, **options: Unpack[CallOptions]) -> R: ...
    @overload
    def call(self, handler: Handler[[], R], /, **options: Unpack[CallOptions]) -> R: ...
    def call(self, handler: Handler[Any, Any], /, *args: Any, **kwargs: Any) -> Any:
        """See `Caller.call`."""
        return self._loop.run(self._caller.call(handler, *args, **kwargs))

    @overload
    def send(self, handler: Handler[P, R], /, *args: P.args, **kwargs: P.kwargs) -> SyncInvocationHandle[R]: ...
    @overload
    def send(
        self, handler: Handler[[A], R], argument: A, /, **options: Unpack[SendOptions]
    ) -> SyncInvocationHandle[R]: ...
    @overload
    def send(self, handler: Handler[[], R], /, **options: Unpack[SendOptions]) -> SyncInvocationHandle[R]: ...
    def send(self, handler: Handler[Any, Any], /, *args: Any, **kwargs: Any) -> SyncInvocationHandle[Any]:
        """See `Caller.send`."""
        return SyncInvocationHandle(self._loop, self._loop.run(self._caller.send(handler, *args, **kwargs)))

    @overload
    def call_by_name(
        self, service: str, handler: str, body: Any = ..., *, key: str | None = ..., type: type[T]
    ) -> T: ...
    @overload
    def call_by_name(self, service: str, handler: str, body: Any = ..., *, key: str | None = ...) -> Any: ...
    def call_by_name(
        self, service: str, handler: str, body: Any = None, *, key: str | None = None, type: Any = Any
    ) -> Any:
        """See `Caller.call_by_name`."""
        return self._loop.run(self._caller.call_by_name(service, handler, body, key=key, type=type))

    @overload
    def send_by_name(
        self, service: str, handler: str, body: Any = ..., *, key: str | None = ..., type: type[T]
    ) -> SyncInvocationHandle[T]: ...
    @overload
    def send_by_name(
        self, service: str, handler: str, body: Any = ..., *, key: str | None = ...
    ) -> SyncInvocationHandle[Any]: ...
    def send_by_name(
        self, service: str, handler: str, body: Any = None, *, key: str | None = None, type: Any = Any
    ) -> SyncInvocationHandle[Any]:
        """See `Caller.send_by_name`."""
        sending = self._caller.send_by_name(service, handler, body, key=key, type=type)
        return SyncInvocationHandle(self._loop, self._loop.run(sending))


class SyncClient(SyncCaller):
    """One connection to a node's gRPC port, for any number of threads. Use it as a context manager::

    with SyncClient() as client:
        print(client.call(greet, "Ada"))
    """

    def __init__(self, address: str = DEFAULT_ADDRESS, *, timeout: Duration | None = DEFAULT_TIMEOUT) -> None:
        loop = _Loop()
        self._client = loop.run(_make(address, timeout))
        self._closed = False
        super().__init__(loop, self._client)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Calls of other threads that wait raise; their invocations go on."""
        if not self._closed:
            self._closed = True
            self._loop.run(self._client.close())
            self._loop.stop()

    @overload
    def invocation(self, invocation_id: str, type: type[T]) -> SyncInvocationHandle[T]: ...
    @overload
    def invocation(self, invocation_id: str) -> SyncInvocationHandle[Any]: ...
    def invocation(self, invocation_id: str, type: Any = Any) -> SyncInvocationHandle[Any]:
        """See `Client.invocation`."""
        return SyncInvocationHandle(self._loop, self._client.invocation(invocation_id, type))

    @overload
    def attach(self, invocation_id: str, type: type[T], *, timeout: Duration | None = ...) -> T: ...
    @overload
    def attach(self, invocation_id: str, *, timeout: Duration | None = ...) -> Any: ...
    def attach(self, invocation_id: str, type: Any = Any, *, timeout: Duration | None = DEFAULT_TIMEOUT) -> Any:
        """See `Client.attach`."""
        return self._loop.run(self._client.attach(invocation_id, type, timeout=timeout))

    def resolve_awakeable(self, awakeable_id: str, value: Any = None) -> None:
        """See `Client.resolve_awakeable`."""
        self._loop.run(self._client.resolve_awakeable(awakeable_id, value))

    def reject_awakeable(self, awakeable_id: str, message: str) -> None:
        """See `Client.reject_awakeable`."""
        self._loop.run(self._client.reject_awakeable(awakeable_id, message))


async def _make(address: str, timeout: Duration | None) -> Client:
    """A client belongs to the event loop that it is made on."""
    return Client(address, timeout=timeout)


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)

"""Clients: calling handlers from programs that are not handlers.

::

    async with Client("127.0.0.1:8081") as client:
        greeting = await client.call(greet, "Ada")
        handle = await client.send(add["apples"], 5, delay=60)
        total = await handle.result()

Handlers are the objects that the service's decorators made, so arguments and results are typed; a program that does
not have them names the target with `Client.call_by_name`. An invocation that fails raises its `TerminalError` here;
what the node refuses raises an `IngressError`, see `holdfast.ingress_errors`.

Without an idempotency key a call may have been started when its connection breaks, so it is not repeated and raises
`Unavailable`. With one it is repeated until there is a result, and still runs once.

`SyncClient`, in `holdfast.sync_client`, is the same for programs without asyncio.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from types import TracebackType
from typing import Any, Generic, ParamSpec, Self, TypedDict, TypeVar, Unpack, overload

from holdfast._ingress_connection import NOT_READY, IngressConnection
from holdfast._wire import from_failure
from holdfast.handler import Handler
from holdfast.ingress_errors import CallTimeout, IngressError
from holdfast.retry_policy import Duration, to_ms
from holdfast.serde import Serde, serde_for, serde_of
from holdfast_proto import ingress_pb2 as pb

P = ParamSpec("P")
R = TypeVar("R")
A = TypeVar("A")
T = TypeVar("T")

DEFAULT_ADDRESS = "127.0.0.1:8081"
DEFAULT_TIMEOUT: Duration = 600.0
"""Ten minutes, less than a node lets a request wait by default."""
OPTION_NAMES = frozenset(("idempotency_key", "headers", "timeout", "delay"))


class CallOptions(TypedDict, total=False):
    """What goes with a call besides its arguments."""

    idempotency_key: str
    """The same key again gives the result of the first call instead of another run."""
    headers: Mapping[str, str]
    """For the handler, which finds them in ``ctx.headers``."""
    timeout: Duration | None
    """Ends the waiting, not the invocation. None: wait as long as it takes."""


class SendOptions(CallOptions, total=False):
    delay: Duration
    """Start it so much later."""


class InvocationHandle(Generic[R]):
    """An invocation that was started. It goes on whatever becomes of this object; ``id`` finds it again."""

    def __init__(
        self, caller: Caller, id: str, output: Serde[R], previously_accepted: bool = False, execution_time_ms: int = 0
    ) -> None:
        self._caller = caller
        self._output = output
        self.id = id
        self.previously_accepted = previously_accepted
        """The idempotency key (or the workflow's key) was used before: this is the invocation from then."""
        self.execution_time_ms = execution_time_ms
        """When it will start, in milliseconds since the epoch; 0: at once."""

    def __repr__(self) -> str:
        return f"<invocation {self.id}>"

    async def result(self, *, timeout: Duration | None = DEFAULT_TIMEOUT) -> R:
        """Wait for the result. Raises the invocation's TerminalError, IngressError, CallTimeout."""
        return await self._caller.attach_to(pb.AttachRequest(invocation_id=self.id), self._output, timeout)

    async def output(self) -> R:
        """The result if it is there. Raises the invocation's TerminalError, and IngressError with code 470 when there
        is none yet."""
        return await self._caller.output_of(pb.AttachRequest(invocation_id=self.id), self._output)


class Caller:
    """What `Client` and ``client.options(...)`` have in common."""

    def __init__(self, connection: IngressConnection, options: SendOptions) -> None:
        self._connection = connection
        self._options = options

    def options(self, **options: Unpack[SendOptions]) -> Caller:
        """Options for handlers with several parameters, or with one that has the name of an option::

        await client.options(idempotency_key=order.id).call(place, sku="tea", count=2)
        """
        return Caller(self._connection, {**self._options, **options})

    # ------------------------------------------------------------ by handler

    @overload
    async def call(self, handler: Handler[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    async def call(self, handler: Handler[[A], R], argument: A, /, **options: Unpack[CallOptions]) -> R: ...
    @overload
    async def call(self, handler: Handler[[], R], /, **options: Unpack[CallOptions]) -> R: ...
    async def call(self, handler: Handler[Any, Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call a handler and wait for its result.

        Raises the invocation's TerminalError; IngressError, Unavailable, CallTimeout; InvalidValue for an argument that
        can't be serialised."""
        options, arguments = self._split(handler, kwargs)
        request = _request(_target(handler), options, handler.encode_input(*args, **arguments), handler.content_type)
        return await self._invoke(request, handler.definition.output, options)

    @overload
    async def send(self, handler: Handler[P, R], /, *args: P.args, **kwargs: P.kwargs) -> InvocationHandle[R]: ...
    @overload
    async def send(
        self, handler: Handler[[A], R], argument: A, /, **options: Unpack[SendOptions]
    ) -> InvocationHandle[R]: ...
    @overload
    async def send(self, handler: Handler[[], R], /, **options: Unpack[SendOptions]) -> InvocationHandle[R]: ...
    async def send(self, handler: Handler[Any, Any], /, *args: Any, **kwargs: Any) -> InvocationHandle[Any]:
        """Start an invocation, after ``delay`` if given, and return once it is durable. Raises as `call` does, except
        for the invocation's own failure."""
        options, arguments = self._split(handler, kwargs)
        request = _request(_target(handler), options, handler.encode_input(*args, **arguments), handler.content_type)
        return await self._send(request, handler.definition.output, options)

    def _split(self, handler: Handler[Any, Any], kwargs: dict[str, Any]) -> tuple[SendOptions, dict[str, Any]]:
        """A keyword is the handler's if it has a parameter of that name, else it may be an option."""
        if not isinstance(handler, Handler):  # pyright: ignore[reportUnnecessaryIsInstance]
            name = getattr(handler, "name", handler)
            raise TypeError(f"{name!r} can't be called; a handler of a virtual object or workflow needs a key: h[key]")
        if not OPTION_NAMES & kwargs.keys():
            return self._options, kwargs
        own = handler.definition.parameters.signature.parameters
        given: Any = {name: kwargs.pop(name) for name in OPTION_NAMES & kwargs.keys() - own.keys()}
        options = self._options.copy()
        options.update(given)
        return options, kwargs

    # ------------------------------------------------------------ by name

    @overload
    async def call_by_name(
        self, service: str, handler: str, body: Any = ..., *, key: str | None = ..., type: type[T]
    ) -> T: ...
    @overload
    async def call_by_name(self, service: str, handler: str, body: Any = ..., *, key: str | None = ...) -> Any: ...
    async def call_by_name(
        self, service: str, handler: str, body: Any = None, *, key: str | None = None, type: Any = Any
    ) -> Any:
        """Call a handler whose object this program does not have. ``body`` goes as JSON, bytes as they are, None as no
        body; the result is read as ``type``. Options: ``client.options(...).call_by_name(...)``."""
        request = _request(pb.Target(service=service, handler=handler, key=key), self._options, *_encode(body))
        return await self._invoke(request, serde_for(type), self._options)

    @overload
    async def send_by_name(
        self, service: str, handler: str, body: Any = ..., *, key: str | None = ..., type: type[T]
    ) -> InvocationHandle[T]: ...
    @overload
    async def send_by_name(
        self, service: str, handler: str, body: Any = ..., *, key: str | None = ...
    ) -> InvocationHandle[Any]: ...
    async def send_by_name(
        self, service: str, handler: str, body: Any = None, *, key: str | None = None, type: Any = Any
    ) -> InvocationHandle[Any]:
        """As `call_by_name`, without waiting for the result."""
        request = _request(pb.Target(service=service, handler=handler, key=key), self._options, *_encode(body))
        return await self._send(request, serde_for(type), self._options)

    # ------------------------------------------------------------ what all of them do

    async def _invoke(self, request: pb.InvokeRequest, output: Serde[R], options: SendOptions) -> R:
        if "delay" in options:
            raise ValueError("a call has no delay; send it, and wait for the result of the handle")
        where = f"{request.target.service}/{request.target.handler}"
        response = await _within(_timeout(options), self._connection.invoke(request), where, None)
        return _result(response, output)

    async def _send(self, request: pb.InvokeRequest, output: Serde[R], options: SendOptions) -> InvocationHandle[R]:
        message = pb.SendRequest(request=request, delay_ms=to_ms(options.get("delay", 0), "delay"))
        repeat = request.HasField("idempotency_key")
        sending = self._connection.unary(self._connection.stub.Send, message, safe_to_repeat=repeat)
        where = f"{request.target.service}/{request.target.handler}"
        done = await _within(_timeout(options), sending, where, None)
        return InvocationHandle(self, done.invocation_id, output, done.previously_accepted, done.execution_time_ms)

    async def attach_to(self, target: pb.AttachRequest, output: Serde[R], timeout: Duration | None) -> R:
        name = target.invocation_id or None
        response = await _within(timeout, self._connection.attach(target), "invocation", name)
        return _result(response, output)

    async def output_of(self, target: pb.AttachRequest, output: Serde[R]) -> R:
        reading = self._connection.unary(self._connection.stub.GetOutput, target, safe_to_repeat=True)
        answer = await _within(DEFAULT_TIMEOUT, reading, "invocation", target.invocation_id or None)
        if not answer.ready:
            name = target.invocation_id
            raise IngressError(f"invocation {name} has no result yet", NOT_READY, name)
        return _result(answer.response, output)


class Client(Caller):
    """One connection to a node's gRPC port. Use it as a context manager, on one event loop, for as many calls at once
    as you like: those made together travel together."""

    def __init__(self, address: str = DEFAULT_ADDRESS, *, timeout: Duration | None = DEFAULT_TIMEOUT) -> None:
        """``timeout`` is that of calls that name none. Make it where an event loop runs."""
        super().__init__(IngressConnection(address), {"timeout": timeout})

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Calls that wait are cancelled; their invocations go on."""
        await self._connection.close()

    @overload
    def invocation(self, invocation_id: str, type: type[T]) -> InvocationHandle[T]: ...
    @overload
    def invocation(self, invocation_id: str) -> InvocationHandle[Any]: ...
    def invocation(self, invocation_id: str, type: Any = Any) -> InvocationHandle[Any]:
        """A handle for an invocation that somebody else started, whose result is a ``type``."""
        return InvocationHandle(self, invocation_id, serde_for(type))

    @overload
    async def attach(self, invocation_id: str, type: type[T], *, timeout: Duration | None = ...) -> T: ...
    @overload
    async def attach(self, invocation_id: str, *, timeout: Duration | None = ...) -> Any: ...
    async def attach(self, invocation_id: str, type: Any = Any, *, timeout: Duration | None = DEFAULT_TIMEOUT) -> Any:
        """Wait for the result of an invocation. Raises as `InvocationHandle.result` does."""
        return await self.invocation(invocation_id, type).result(timeout=timeout)

    async def resolve_awakeable(self, awakeable_id: str, value: Any = None) -> None:
        """Complete what a handler waits for. A second completion is ignored. Raises IngressError."""
        message = pb.ResolveAwakeableRequest(awakeable_id=awakeable_id, value=serde_of(value).serialize(value))
        resolving = self._connection.unary(self._connection.stub.ResolveAwakeable, message, safe_to_repeat=True)
        await _within(_timeout(self._options), resolving, f"awakeable {awakeable_id}", None)

    async def reject_awakeable(self, awakeable_id: str, message: str) -> None:
        """Fail what a handler waits for: it gets a TerminalError. Raises IngressError."""
        request = pb.RejectAwakeableRequest(awakeable_id=awakeable_id, message=message)
        rejecting = self._connection.unary(self._connection.stub.RejectAwakeable, request, safe_to_repeat=True)
        await _within(_timeout(self._options), rejecting, f"awakeable {awakeable_id}", None)


async def _within(timeout: Duration | None, work: Awaitable[T], what: str, invocation_id: str | None) -> T:
    """Raises CallTimeout."""
    seconds = None if timeout is None else to_ms(timeout, "timeout") / 1000
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            return await work
    except TimeoutError:
        if not limit.expired():
            raise
        about = what if invocation_id is None else f"{what} {invocation_id}"
        advice = "attach to it for its result" if invocation_id else "send it to have its id, or use an idempotency key"
        message = f"no answer from {about} within {seconds:g} s; if it was started it goes on: {advice}"
        raise CallTimeout(message, invocation_id=invocation_id) from None


def _timeout(options: SendOptions) -> Duration | None:
    return options.get("timeout", DEFAULT_TIMEOUT)


def _target(handler: Handler[Any, Any]) -> pb.Target:
    return pb.Target(service=handler.service, handler=handler.name, key=handler.key)


def _request(target: pb.Target, options: SendOptions, body: bytes, content_type: str) -> pb.InvokeRequest:
    headers = {name.lower(): value for name, value in options.get("headers", {}).items()}
    if content_type:
        headers.setdefault("content-type", content_type)
    return pb.InvokeRequest(target=target, body=body, headers=headers, idempotency_key=options.get("idempotency_key"))


def _encode(body: Any) -> tuple[bytes, str]:
    """Bytes and content type. None is no body."""
    if body is None:
        return b"", ""
    serde = serde_of(body)
    return serde.serialize(body), serde.content_type


def _result(response: pb.InvokeResponse, output: Serde[R]) -> R:
    if response.WhichOneof("result") == "failure":
        raise from_failure(response.failure)
    return output.deserialize(response.value)

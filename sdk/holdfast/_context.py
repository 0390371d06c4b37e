"""The one implementation of all contexts: each method issues commands to the journal and hands out futures."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextvars import copy_context
from datetime import UTC, datetime
from random import Random
from typing import Any
from uuid import UUID

from holdfast import _wire
from holdfast._cancellation import Cancellation, signal_cancel
from holdfast._clock import HandlerClock
from holdfast._invocation import CURRENT, Invocation
from holdfast._location import caller
from holdfast._promise import DurablePromise
from holdfast._replay import Journal
from holdfast._results import result_serde
from holdfast._runner import Runner
from holdfast._state import State
from holdfast._steps import Step
from holdfast._worker_threads import describe
from holdfast.context import CallOptions, Future, Promise, Sent, WorkflowContext, WorkflowSharedContext
from holdfast.errors import TerminalError
from holdfast.handler import Handler, HandlerDefinition, HandlerType, Keyed, ServiceType
from holdfast.logging import InvocationLogger
from holdfast.retry_policy import Duration, RetryPolicy, to_ms
from holdfast.serde import Serde, as_serde, serde_of
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import MessageType
from holdfast_proto.identifiers import (
    MalformedIdentifier,
    decode_awakeable_id,
    decode_invocation_id,
    encode_awakeable_id,
)


class HandlerContext(WorkflowContext, WorkflowSharedContext):
    """Everything; which part of it a handler sees is a matter of its context's type, and checked where it matters."""

    __slots__ = (
        "_cancellation",
        "_clock",
        "_definition",
        "_invocation",
        "_journal",
        "_random",
        "_runner",
        "_state",
        "_wall_ms",
        "new_steps",
        "retried",
    )

    def __init__(
        self,
        definition: HandlerDefinition,
        invocation: Invocation,
        journal: Journal,
        runner: Runner,
        clock: HandlerClock,
        cancellation: Cancellation,
        state: State,
        wall_ms: Callable[[], int],
    ) -> None:
        self._definition = definition
        self._invocation = invocation
        self._journal = journal
        self._runner = runner
        self._clock = clock
        self._cancellation = cancellation
        self._state = state
        self._wall_ms = wall_ms
        self._random: Random | None = None
        self.new_steps: list[Step] = []
        """Steps to run, once the handler rests."""
        self.retried: tuple[int, int] = (0, 0)
        """Failed attempts and milliseconds since the last recorded command was recorded."""

    # ---------------------------------------------------------------- about this invocation

    @property
    def id(self) -> str:
        return self._invocation.id

    @property
    def key(self) -> str:
        if self._definition.type is HandlerType.SERVICE:
            raise TerminalError(f"ctx.key: {self._definition.path} belongs to a service, which has no keys")
        return self._invocation.key

    @property
    def attempt(self) -> int:
        return self._invocation.attempt

    @property
    def headers(self) -> Mapping[str, str]:
        return self._invocation.headers

    @property
    def body(self) -> bytes:
        return self._invocation.body

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        return InvocationLogger(logging.getLogger(f"holdfast.{self._definition.service}"), self._invocation)

    # ---------------------------------------------------------------- values that stay the same on replay

    @property
    def random(self) -> Random:
        if self._random is None:
            self._random = Random(self._invocation.random_seed)
        return self._random

    def uuid(self) -> UUID:
        return UUID(int=self.random.getrandbits(128), version=4)

    def now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC)

    # ---------------------------------------------------------------- durable steps

    def run(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        return self._step(None, None, None, function, args, kwargs)

    def step(self, *, name: str | None = None, retry: RetryPolicy | None = None, type: Any = None) -> Any:
        def run(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            return self._step(name, retry, type, function, args, kwargs)

        return run

    def _step(
        self,
        name: str | None,
        retry: RetryPolicy | None,
        type: Any,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Future[Any]:
        if not callable(function):
            raise TypeError(f"ctx.run takes a function and its arguments, not {function!r}, in {caller()}")
        journal = self._journal
        journal.check()
        name = name if name is not None else describe(function)
        serde = result_serde(function) if type is None else as_serde(type)
        number = journal.completion_id()
        message = pb.RunCommandMessage(result_completion_id=number, name=name)
        recorded = journal.command(MessageType.RUN, message)
        future = self._runner.future(_wire.value_decoder(serde))
        journal.wait(number, future)
        if not journal.has_result(number):
            context = copy_context()
            context.run(CURRENT.set, (self._invocation, False))
            failures, elapsed_ms = self.retried if recorded is not None else (0, 0)
            step = Step(
                number, journal.command_index, name, function, args, kwargs, serde, retry, context, failures, elapsed_ms
            )
            self.new_steps.append(step)
        return future

    def sleep(self, duration: Duration, /) -> Future[None]:
        self._journal.check()
        future = self._runner.future(_wire.decode_none)
        self._clock.sleep(to_ms(duration), future)
        return future

    # ---------------------------------------------------------------- other handlers

    def call(self, handler: Handler[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        return self.call_with(handler, args, kwargs, None, None)

    def send(self, handler: Handler[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        return self.send_with(handler, args, kwargs, 0, None, None)

    def options(
        self,
        *,
        delay: Duration | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> CallOptions:
        if idempotency_key == "":
            raise TerminalError("an idempotency key must not be empty")
        return OptionsForCalls(self, None if delay is None else to_ms(delay, "delay"), idempotency_key, headers)

    def call_with(
        self,
        handler: Handler[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        idempotency_key: str | None,
        headers: Mapping[str, str] | None,
    ) -> Any:
        journal = self._journal
        journal.check()
        definition = _checked_target(handler)
        parameter = _argument(definition, args, kwargs)
        id_number, number = journal.completion_id(), journal.completion_id()
        message = pb.CallCommandMessage(
            service_name=definition.service,
            handler_name=definition.name,
            parameter=parameter,
            key=handler.key or "",
            idempotency_key=idempotency_key,
            headers=_headers(headers),
            invocation_id_notification_idx=id_number,
            result_completion_id=number,
        )
        journal.command(MessageType.CALL, message)
        invocation_id = self._runner.future(_wire.decode_invocation_id)
        future = self._runner.future(_wire.value_decoder(definition.output))
        future.invocation_id_future = invocation_id
        journal.wait(id_number, invocation_id)
        journal.wait(number, future)
        self._cancellation.track(future)
        return future

    def send_with(
        self,
        handler: Handler[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        delay_ms: int,
        idempotency_key: str | None,
        headers: Mapping[str, str] | None,
    ) -> Sent:
        journal = self._journal
        journal.check()
        definition = _checked_target(handler)
        parameter = _argument(definition, args, kwargs)
        number = journal.completion_id()
        message = pb.OneWayCallCommandMessage(
            service_name=definition.service,
            handler_name=definition.name,
            parameter=parameter,
            key=handler.key or "",
            invoke_time=self._wall_ms() + delay_ms if delay_ms else 0,
            idempotency_key=idempotency_key,
            headers=_headers(headers),
            invocation_id_notification_idx=number,
        )
        journal.command(MessageType.ONE_WAY_CALL, message)
        invocation_id = self._runner.future(_wire.decode_invocation_id)
        journal.wait(number, invocation_id)
        return SentCall(invocation_id)

    def attach(self, invocation_id: str, type: Any) -> Any:
        journal = self._journal
        journal.check()
        _check_id(decode_invocation_id, invocation_id)
        number = journal.completion_id()
        message = pb.AttachInvocationCommandMessage(invocation_id=invocation_id, result_completion_id=number)
        journal.command(MessageType.ATTACH_INVOCATION, message)
        future = self._runner.future(_wire.value_decoder(as_serde(type)))
        journal.wait(number, future)
        return future

    def cancel(self, invocation_id: str) -> None:
        self._journal.check()
        _check_id(decode_invocation_id, invocation_id)
        signal_cancel(self._journal, invocation_id)

    # ---------------------------------------------------------------- the world outside, later

    def awakeable(self, type: Any) -> Any:
        future = self._runner.future(_wire.value_decoder(as_serde(type)))
        index = self._journal.awakeable(future)
        future.awakeable_id = encode_awakeable_id(self._invocation.raw_id, index)
        return future

    def resolve_awakeable(self, id: str, value: Any) -> None:
        self._journal.check()
        _check_id(decode_awakeable_id, id)
        content = _wire.write_value(serde_of(value), value, "the awakeable's value")
        message = pb.CompleteAwakeableCommandMessage(awakeable_id=id, value=pb.Value(content=content))
        self._journal.command(MessageType.COMPLETE_AWAKEABLE, message)

    def reject_awakeable(self, id: str, message: str, *, code: int = 500) -> None:
        self._journal.check()
        _check_id(decode_awakeable_id, id)
        failure = _wire.to_failure(TerminalError(message, code=code))
        command = pb.CompleteAwakeableCommandMessage(awakeable_id=id, failure=failure)
        self._journal.command(MessageType.COMPLETE_AWAKEABLE, command)

    # ---------------------------------------------------------------- state and promises

    def get(self, name: str, type: Any, default: Any = None) -> Any:
        self._check_keyed("ctx.get")
        future = self._runner.future(_wire.optional_decoder(as_serde(type), f"state {name!r}", default))
        self._state.get(name, future)
        return future

    def keys(self) -> Future[list[str]]:
        self._check_keyed("ctx.keys")
        future = self._runner.future(_wire.decode_state_keys)
        self._state.keys(future)
        return future

    def set(self, name: str, value: Any, *, serde: Serde[Any] | None = None) -> None:
        self._check_writes("ctx.set")
        content = _wire.write_value(serde if serde is not None else serde_of(value), value, f"state {name!r}")
        self._state.set(name, content)

    def clear(self, name: str | None = None) -> None:
        self._check_writes("ctx.clear")
        if name is None:
            self._state.clear_all()
        else:
            self._state.clear(name)

    def promise(self, name: str, type: Any) -> Promise[Any]:
        self._journal.check()
        if self._definition.service_type is not ServiceType.WORKFLOW:
            raise TerminalError(f"ctx.promise: only workflows have promises, {self._definition.service} is none")
        return DurablePromise(name, as_serde(type), self._journal, self._runner)

    def _check_keyed(self, what: str) -> None:
        self._journal.check()
        if self._definition.type is HandlerType.SERVICE:
            raise TerminalError(f"{what}: a service has no state; make {self._definition.service} a VirtualObject")

    def _check_writes(self, what: str) -> None:
        self._check_keyed(what)
        if not self._definition.type.writes_state:
            raise TerminalError(
                f"{what} in {self._definition.path}: a shared handler only reads state; write it in an exclusive one"
            )


class OptionsForCalls(CallOptions):
    """See `Context.options`."""

    def __init__(
        self,
        context: HandlerContext,
        delay_ms: int | None,
        idempotency_key: str | None,
        headers: Mapping[str, str] | None,
    ) -> None:
        self._context = context
        self._delay_ms = delay_ms
        self._idempotency_key = idempotency_key
        self._headers = headers

    def call(self, handler: Handler[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        if self._delay_ms is not None:
            raise TerminalError("delay is for send, not for call: sleep before the call, or send")
        return self._context.call_with(handler, args, kwargs, self._idempotency_key, self._headers)

    def send(self, handler: Handler[..., Any], /, *args: Any, **kwargs: Any) -> Sent:
        return self._context.send_with(handler, args, kwargs, self._delay_ms or 0, self._idempotency_key, self._headers)


class SentCall(Sent):
    """See `Sent`."""

    __slots__ = ("_invocation_id",)

    def __init__(self, invocation_id: Future[str]) -> None:
        self._invocation_id = invocation_id

    @property
    def invocation_id(self) -> Future[str]:
        return self._invocation_id


def _checked_target(handler: Any) -> HandlerDefinition:
    if isinstance(handler, Keyed):
        raise TypeError(f"{handler.definition.path} has a key: say which, as in {handler.definition.name}['key']")
    if not isinstance(handler, Handler):
        raise TypeError(f"a handler made by @service.handler is needed, not {handler!r}")
    return handler.definition


def _argument(definition: HandlerDefinition, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
    try:
        return definition.parameters.encode(args, kwargs)
    except ValueError as error:
        raise TerminalError(f"argument of {definition.path} can't be serialised: {error}") from error


def _headers(headers: Mapping[str, str] | None) -> list[pb.Header]:
    return [pb.Header(key=key, value=value) for key, value in headers.items()] if headers else []


def _check_id(decode: Callable[[str], object], id: str) -> None:
    try:
        decode(id)
    except MalformedIdentifier as error:
        raise TerminalError(str(error), code=400) from None

"""What the HTTP and the gRPC ingress share: resolve the target, start or find the invocation, wait for its result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from holdfast_cluster.router import FreshIds, Router
from holdfast_log.types import LogError, LogFull, NotLeader, Overloaded
from holdfast_partition_processor.action import InvocationCompleted, Outcome, Reply
from holdfast_partition_processor.catalog import Catalog, CatalogError, ResolvedHandler
from holdfast_partition_processor.command import HandlerType, Invoke, NotifySignal
from holdfast_partition_processor.ids import invocation_id_of
from holdfast_partition_processor.processor import Waiter
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.identifiers import MalformedIdentifier, decode_awakeable_id, encode_invocation_id

IDEMPOTENCY_KEY_BYTES_MAX = 512


class IngressError(Exception):
    """The request is refused; nothing was started. ``code`` is the HTTP status."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Caller(Protocol):
    """Who asked: exactly one of these is called, once."""

    def completed(self, result: InvocationCompleted) -> None: ...
    def failed(self, error: IngressError) -> None: ...


class _CallWaiter:
    """Waits for the result, and for the refusal of a workflow that ran before."""

    def __init__(self, caller: Caller, invocation_id: bytes, forget: Callable[[_CallWaiter], None]) -> None:
        self._caller = caller
        self.id = invocation_id
        self._forget = forget

    def replied(self, reply: Reply) -> None:
        if reply.outcome is Outcome.CONFLICT:
            self._forget(self)
            self._caller.failed(IngressError(409, "the workflow method was already invoked"))

    def completed(self, result: InvocationCompleted) -> None:
        self._caller.completed(result)

    def lost(self, error: LogError) -> None:
        shown = encode_invocation_id(self.id)
        self._caller.failed(IngressError(503, f"{error}; the call may go on, attach to {shown}"))


class _ReplyWaiter:
    def __init__(self, replied: Callable[[Reply], None], failed: Callable[[IngressError], None]) -> None:
        self.replied = replied
        self._failed = failed

    def completed(self, result: InvocationCompleted) -> None:
        raise AssertionError("nobody registered this waiter for a result")

    def lost(self, error: LogError) -> None:
        self._failed(IngressError(503, str(error)))


class Ingress:
    def __init__(self, router: Router, catalog: Callable[[], Catalog], clock_ms: Callable[[], int]) -> None:
        self._router = router
        self._catalog = catalog
        self._clock_ms = clock_ms
        self._fresh = FreshIds()

    def resolve(self, service: str, handler: str) -> ResolvedHandler:
        """Raises IngressError."""
        try:
            resolved = self._catalog().resolve(service, handler)
        except CatalogError as error:
            raise IngressError(404, error.message) from error
        if resolved.settings.ingress_private:
            raise IngressError(400, f"'{service}/{handler}' is private: only other handlers may call it")
        return resolved

    def invoke(
        self,
        resolved: ResolvedHandler,
        key: str | None,
        body: bytes,
        headers: list[tuple[str, str]],
        idempotency_key: str | None,
        caller: Caller,
    ) -> bytes:
        """Call and wait. Returns the invocation id. Raises IngressError."""
        command = self._command(resolved, key, body, headers, idempotency_key, 0)
        processor = self._router.of(command.id)
        waiter = _CallWaiter(caller, command.id, lambda waiter: processor.forget(waiter.id, waiter))
        request = processor.next_request(waiter) if resolved.handler.type is HandlerType.WORKFLOW_RUN else 0
        if request:
            command = self._with_request(command, request)
        processor.wait_for(command.id, waiter)
        try:
            processor.submit(command)
        except LogError as error:
            processor.forget(command.id, waiter)
            processor.drop_request(request)
            raise _refused(error) from error
        return command.id

    def send(
        self,
        resolved: ResolvedHandler,
        key: str | None,
        body: bytes,
        headers: list[tuple[str, str]],
        idempotency_key: str | None,
        delay_ms: int,
        accepted: Callable[[bytes, bool, int], None],
        failed: Callable[[IngressError], None],
    ) -> None:
        """Start and return once it is durable: ``accepted(invocation id, whether it was there before, start time)``."""
        execute_at = self._clock_ms() + delay_ms if delay_ms else 0
        command = self._command(resolved, key, body, headers, idempotency_key, execute_at)
        processor = self._router.of(command.id)

        def replied(reply: Reply) -> None:
            accepted(command.id, reply.outcome is not Outcome.ACCEPTED, execute_at)

        request = processor.next_request(_ReplyWaiter(replied, failed))
        try:
            processor.submit(self._with_request(command, request))
        except LogError as error:
            processor.drop_request(request)
            raise _refused(error) from error

    def attach(self, invocation_id: bytes, caller: Caller) -> None:
        """Raises IngressError 404."""
        processor = self._router.of(invocation_id)
        if processor.invocation(invocation_id) is None:
            raise IngressError(404, f"invocation {encode_invocation_id(invocation_id)} not found")
        result = processor.result(invocation_id)
        if result is not None:
            caller.completed(result)
            return
        waiter = _CallWaiter(caller, invocation_id, lambda waiter: processor.forget(waiter.id, waiter))
        processor.wait_for(invocation_id, waiter)

    def output(self, invocation_id: bytes) -> InvocationCompleted | None:
        """Raises IngressError 404."""
        processor = self._router.of(invocation_id)
        if processor.invocation(invocation_id) is None:
            raise IngressError(404, f"invocation {encode_invocation_id(invocation_id)} not found")
        return processor.result(invocation_id)

    def complete_awakeable(
        self,
        awakeable_id: str,
        value: bytes | None,
        rejection: str | None,
        done: Callable[[], None],
        failed: Callable[[IngressError], None],
    ) -> None:
        """Raises IngressError."""
        try:
            invocation_id, index = decode_awakeable_id(awakeable_id)
        except MalformedIdentifier as error:
            raise IngressError(400, str(error)) from error
        notification = pb.Notification(signal_id=index)
        if rejection is not None:
            notification.failure.CopyFrom(pb.Failure(code=500, message=rejection))
        else:
            notification.value.content = value or b""
        processor = self._router.of(invocation_id)
        request = processor.next_request(_ReplyWaiter(lambda reply: done(), failed))
        try:
            processor.submit(NotifySignal(invocation_id, notification.SerializeToString(), request))
        except LogError as error:
            processor.drop_request(request)
            raise _refused(error) from error

    def _command(
        self,
        resolved: ResolvedHandler,
        key: str | None,
        body: bytes,
        headers: list[tuple[str, str]],
        idempotency_key: str | None,
        execute_at_ms: int,
    ) -> Invoke:
        try:
            target = self._catalog().target(resolved, key)
        except CatalogError as error:
            raise IngressError(400, error.message) from error
        if idempotency_key is not None:
            size = len(idempotency_key.encode())
            if not 1 <= size <= IDEMPOTENCY_KEY_BYTES_MAX:
                raise IngressError(
                    400, f"idempotency key of {size} bytes, allowed are 1 to {IDEMPOTENCY_KEY_BYTES_MAX}"
                )
            if target.type is HandlerType.WORKFLOW_RUN:
                raise IngressError(400, "a workflow runs once per key anyhow: no idempotency key is allowed on it")
        message = pb.InputCommandMessage(value=pb.Value(content=body))
        for name, value in headers:
            message.headers.add(key=name, value=value)
        return Invoke(
            id=invocation_id_of(target, idempotency_key, self._fresh()),
            target=target,
            input=message.SerializeToString(),
            idempotency_key=idempotency_key,
            execute_at_ms=execute_at_ms,
            completion_retention_ms=resolved.completion_retention_ms(idempotency_key),
            journal_retention_ms=resolved.settings.journal_retention_ms,
        )

    @staticmethod
    def _with_request(command: Invoke, request: int) -> Invoke:
        fields = {name: getattr(command, name) for name in command.__struct_fields__}
        return Invoke(**{**fields, "request": request})


def _refused(error: LogError) -> IngressError:
    match error:
        case Overloaded():
            return IngressError(429, str(error))
        case NotLeader() | LogFull():
            return IngressError(503, str(error))
        case _:
            return IngressError(413, str(error))


__all__ = ["Caller", "Ingress", "IngressError", "Waiter"]

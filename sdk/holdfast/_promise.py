"""Promises of a workflow."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from holdfast import _wire
from holdfast._replay import Journal
from holdfast._runner import Runner
from holdfast.context import Future, Promise
from holdfast.errors import TerminalError
from holdfast.serde import Serde
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import MessageType

PROMISE_NAME_BYTES_MAX = 128


class DurablePromise(Promise[Any]):
    """See `Promise`."""

    def __init__(self, name: str, serde: Serde[Any], journal: Journal, runner: Runner) -> None:
        if len(name.encode()) > PROMISE_NAME_BYTES_MAX:
            raise TerminalError(f"promise name of more than {PROMISE_NAME_BYTES_MAX} bytes: {name[:80]!r}...", code=400)
        self._name = name
        self._serde = serde
        self._journal = journal
        self._runner = runner

    def __await__(self) -> Generator[Any, Any, Any]:
        return self.wait().__await__()

    def wait(self) -> Future[Any]:
        number = self._begin()
        command = pb.GetPromiseCommandMessage(key=self._name, result_completion_id=number)
        return self._issue(MessageType.GET_PROMISE, command, number, _wire.value_decoder(self._serde))

    def peek(self) -> Future[Any]:
        number = self._begin()
        command = pb.PeekPromiseCommandMessage(key=self._name, result_completion_id=number)
        decode = _wire.optional_decoder(self._serde, f"promise {self._name!r}", None)
        return self._issue(MessageType.PEEK_PROMISE, command, number, decode)

    def resolve(self, value: Any) -> Future[None]:
        number = self._begin()
        content = _wire.write_value(self._serde, value, f"promise {self._name!r}")
        command = pb.CompletePromiseCommandMessage(
            key=self._name, completion_value=pb.Value(content=content), result_completion_id=number
        )
        return self._issue(MessageType.COMPLETE_PROMISE, command, number, _wire.decode_none)

    def reject(self, message: str, *, code: int = 500) -> Future[None]:
        number = self._begin()
        failure = _wire.to_failure(TerminalError(message, code=code))
        command = pb.CompletePromiseCommandMessage(
            key=self._name, completion_failure=failure, result_completion_id=number
        )
        return self._issue(MessageType.COMPLETE_PROMISE, command, number, _wire.decode_none)

    def _begin(self) -> int:
        self._journal.check()
        return self._journal.completion_id()

    def _issue(self, code: MessageType, command: Any, number: int, decode: _wire.Decode[Any]) -> Future[Any]:
        self._journal.command(code, command)
        future = self._runner.future(decode)
        self._journal.wait(number, future)
        return future

"""Who on this node waits for what: for the reply to a command, or for the result of an invocation."""

from __future__ import annotations

from typing import Protocol

from holdfast_log.types import LogError
from holdfast_partition_processor.action import InvocationCompleted, Reply


class Waiter(Protocol):
    """Called on the event loop's thread. Each of its waits ends with exactly one of these."""

    def replied(self, reply: Reply) -> None: ...

    def completed(self, result: InvocationCompleted) -> None: ...

    def lost(self, error: LogError) -> None:
        """Nothing more will be heard: this replica does not lead any more, or closes, or the command was refused after
        all (LogFull). Unless it was refused, what was asked may still happen. Called once, whatever it waits for."""


class Waiters:
    def __init__(self) -> None:
        self._requests: dict[int, Waiter] = {}
        self._invocations: dict[bytes, list[Waiter]] = {}
        self._last_request = 0

    def next_request(self, waiter: Waiter) -> int:
        self._last_request += 1
        self._requests[self._last_request] = waiter
        return self._last_request

    def drop_request(self, number: int) -> None:
        self._requests.pop(number, None)

    def wait_for(self, invocation_id: bytes, waiter: Waiter) -> None:
        waiting = self._invocations.get(invocation_id)
        if waiting is None:
            self._invocations[invocation_id] = [waiter]
        else:
            waiting.append(waiter)

    def forget(self, invocation_id: bytes, waiter: Waiter) -> None:
        waiting = self._invocations.get(invocation_id)
        if waiting is not None and waiter in waiting:
            waiting.remove(waiter)
            if not waiting:
                del self._invocations[invocation_id]

    def take_request(self, number: int) -> Waiter | None:
        return self._requests.pop(number, None)

    def take_invocation(self, invocation_id: bytes) -> list[Waiter]:
        return self._invocations.pop(invocation_id, [])

    def take_all(self) -> list[Waiter]:
        """Everybody, once each."""
        everybody = {id(waiter): waiter for waiter in self._requests.values()}
        for waiting in self._invocations.values():
            everybody.update((id(waiter), waiter) for waiter in waiting)
        self._requests, self._invocations = {}, {}
        return list(everybody.values())

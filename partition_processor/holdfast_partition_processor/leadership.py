"""What the leader of a partition does, and nobody else: run attempts, fire timers, ship the outbox."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from holdfast_log.types import LogFull, NotLeader, Overloaded
from holdfast_partition_processor import tables as t
from holdfast_partition_processor.action import (
    AbortAttempt,
    Action,
    EffectsStored,
    ForwardNotifications,
    SetTimer,
    Ship,
    StartAttempt,
)
from holdfast_partition_processor.command import AttemptFailed, Effects, OutboxShipped, TimerFired
from holdfast_partition_processor.outbox import Courier, Outbox
from holdfast_partition_processor.processor import PartitionProcessor
from holdfast_partition_processor.timers import Timers


class InvokerLike(Protocol):
    def start(self, action: StartAttempt) -> None: ...
    def abort(self, invocation_id: bytes) -> None: ...
    def forward(self, action: ForwardNotifications) -> None: ...
    def stored(self, action: EffectsStored) -> None: ...
    def close(self) -> None: ...


class Host:
    """What an invoker may ask of its partition."""

    def __init__(self, processor: PartitionProcessor, clock_ms: Callable[[], int]) -> None:
        self._processor = processor
        self.now_ms = clock_ms

    def submit(self, command: Effects | AttemptFailed) -> None:
        """Raises NotLeader. What was accepted once is never refused for want of room: the queue is bounded by the
        credit that endpoints have."""
        try:
            self._processor.submit(command)
        except (Overloaded, LogFull):
            asyncio.get_running_loop().call_later(0.1, self._again, command)

    def _again(self, command: Effects | AttemptFailed) -> None:
        if self._processor.is_leading:
            self.submit(command)

    def read_journal(self, invocation_id: bytes) -> bytes:
        return b"".join(frame.raw for _, frame in self._processor.storage.scan(t.JOURNAL, invocation_id))

    def read_state(self, service: str, key: str) -> list[tuple[bytes, bytes]]:
        return list(self._processor.storage.scan(t.STATE, t.object_group(service, key)))


class LeaderDuties:
    def __init__(
        self,
        processor: PartitionProcessor,
        *,
        clock_ms: Callable[[], int],
        invoker: Callable[[Host], InvokerLike],
        courier: Courier,
    ) -> None:
        self._processor = processor
        loop = asyncio.get_running_loop()
        self._invoker = invoker(Host(processor, clock_ms))
        self._timers = Timers(processor.storage, clock_ms, self._fire)
        self._outbox = Outbox(
            processor.partition,
            processor.storage,
            courier,
            self._shipped,
            lambda call: void(loop.call_later(0.05, call)),
        )

    def start(self) -> None:
        """Derive from the tables what is to be done."""
        self._timers.start()
        self._outbox.start()
        for invocation_id, _ in list(self._processor.storage.scan(t.RUNNING, b"")):
            row = self._processor.invocation(invocation_id)
            assert row is not None, "what runs has a row"
            self._invoker.start(StartAttempt(row))

    def carry_out(self, action: Action) -> None:
        match action:
            case EffectsStored():
                self._invoker.stored(action)
            case StartAttempt():
                self._invoker.start(action)
            case ForwardNotifications():
                self._invoker.forward(action)
            case SetTimer(due_ms=due_ms, timer=timer):
                self._timers.set(due_ms, timer)
            case Ship(target=target, sequence=sequence, message=message):
                self._outbox.ship(target, sequence, message)
            case AbortAttempt(id=invocation_id):
                self._invoker.abort(invocation_id)

    def close(self) -> None:
        self._timers.close()
        self._outbox.close()
        self._invoker.close()

    def _fire(self, command: TimerFired) -> None:
        self._submit_or_later(command)

    def _shipped(self, command: OutboxShipped) -> None:
        self._submit_or_later(command)

    def _submit_or_later(self, command: TimerFired | OutboxShipped) -> None:
        try:
            self._processor.submit(command)
        except NotLeader:
            return  # the next leader derives it from the tables
        except (Overloaded, LogFull):
            asyncio.get_running_loop().call_later(0.2, self._submit_or_later, command)


def void(_: object) -> None:
    """For callbacks whose result nobody wants."""

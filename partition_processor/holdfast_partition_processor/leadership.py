"""What the leader of a partition does, and nobody else: run attempts, fire timers, ship the outbox.

Made anew for each term, from the tables alone: actions of earlier terms are never carried out, so the rows of RUNNING,
TIMERS and OUTBOX are all that a new leader needs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from msgspec.structs import replace

from holdfast_log.types import NotLeader
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
from holdfast_partition_processor.command import AttemptFailed, Effects, StoredFrame
from holdfast_partition_processor.invocation import Status
from holdfast_partition_processor.outbox import Courier, Outbox
from holdfast_partition_processor.processor import PartitionProcessor
from holdfast_partition_processor.timers import TimerService

ATTEMPTS_STARTED_AT_ONCE = 256
"""By a new leader, in one turn of the event loop: each reads a journal."""
EFFECTS_BYTES_MAX = 16 * 1024 * 1024
"""Frames that arrived together become several commands above this; one frame alone may be longer."""


class InvokerLike(Protocol):
    """What leadership asks of an invoker. `close` may be a coroutine; it is awaited when the processor closes."""

    def start(self, action: StartAttempt) -> None: ...
    def abort(self, invocation_id: bytes) -> None: ...
    def forward(self, action: ForwardNotifications) -> None: ...
    def stored(self, action: EffectsStored) -> None: ...
    def close(self) -> Awaitable[None] | None: ...


class Host:
    """What an invoker may ask of its partition, for one term."""

    def __init__(self, processor: PartitionProcessor, clock_ms: Callable[[], int]) -> None:
        self._processor = processor
        self._closed = False
        self.now_ms = clock_ms

    def submit(self, command: Effects | AttemptFailed) -> None:
        """Raises NotLeader; Overloaded when so much waits for the log that attempts must be slowed down;
        PayloadTooLarge for a frame that fits into no entry. Then nothing was taken."""
        if self._closed:  # also when this node leads again: attempts of an earlier term are not those of this one
            raise NotLeader(self._processor.partition, None)
        if isinstance(command, Effects) and len(command.frames) > 1:
            self._processor.submit_all(_split(command))
        else:
            self._processor.submit(command)

    def read_journal(self, invocation_id: bytes) -> bytes:
        """All frames, in order. Raises StoreCorrupted."""
        return b"".join([frame.raw for _, frame in self._processor.storage.scan(t.JOURNAL, invocation_id)])

    def read_state(self, service: str, key: str) -> list[tuple[bytes, bytes]]:
        """All state of one object. Raises StoreCorrupted."""
        return list(self._processor.storage.scan(t.STATE, t.object_group(service, key)))

    def close(self) -> None:
        self._closed = True


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
        self._host = Host(processor, clock_ms)
        self._invoker = invoker(self._host)
        self._timers = TimerService(processor.storage, clock_ms, processor.submit)
        self._outbox = Outbox(processor.partition, processor.storage, courier, processor.submit)
        self._to_start: dict[bytes, None] = {}  # ran when leadership began, in order, not started here yet
        self._starting: asyncio.Handle | None = None
        self._invoker_closing: asyncio.Future[None] | None = None
        self._closed = False
        self._do: dict[type, Callable[[Any], None]] = {
            StartAttempt: self._start_attempt,
            AbortAttempt: lambda action: self._invoker.abort(action.id),
            ForwardNotifications: self._invoker.forward,
            EffectsStored: self._invoker.stored,
            SetTimer: lambda action: self._timers.set(action.due_ms, action.timer),
            Ship: lambda action: self._outbox.ship(action.target, action.sequence, action.message),
        }

    def start(self) -> None:
        """Derive from the tables what is to be done."""
        self._timers.start()
        self._outbox.start()
        self._to_start = {sub: None for sub, _ in self._processor.storage.scan(t.RUNNING, b"")}
        self._start_some()

    def carry_out(self, action: Action) -> None:
        self._do[type(action)](action)

    def close(self) -> None:
        """Nothing is submitted or sent from here on."""
        self._closed = True
        self._host.close()
        self._timers.close()
        self._outbox.close()
        if self._starting is not None:
            self._starting.cancel()
        closing = self._invoker.close()
        if closing is not None:
            self._invoker_closing = asyncio.ensure_future(closing)

    async def closed(self) -> None:
        """Until the invoker has let go of its streams."""
        if self._invoker_closing is not None:
            await self._invoker_closing

    def _start_some(self) -> None:
        self._starting = None
        for invocation_id in list(self._to_start)[:ATTEMPTS_STARTED_AT_ONCE]:
            del self._to_start[invocation_id]
            row = self._processor.invocation(invocation_id)
            if row is not None and row.status is Status.INVOKED:  # else it ended since
                self._invoker.start(StartAttempt(row))
        if self._to_start and not self._closed:
            self._starting = asyncio.get_running_loop().call_soon(self._start_some)

    def _start_attempt(self, action: StartAttempt) -> None:
        self._to_start.pop(action.invocation.id, None)  # this is a later attempt
        self._invoker.start(action)


def _split(command: Effects) -> list[Effects]:
    """The same frames in the same order, in commands that fit into a log entry."""
    if sum([len(frame.body) for frame in command.frames]) <= EFFECTS_BYTES_MAX:
        return [command]
    parts: list[list[StoredFrame]] = [[]]
    size = 0
    for frame in command.frames:
        if parts[-1] and size + len(frame.body) > EFFECTS_BYTES_MAX:
            parts.append([])
            size = 0
        parts[-1].append(frame)
        size += len(frame.body)
    return [replace(command, frames=tuple(part)) for part in parts]

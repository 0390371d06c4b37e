"""The processor of one partition: takes commands, proposes them in batches, applies what is committed, and hands the
actions to the duties of the leader.

::

    submit ─▶ gathered ─▶ one Batch per loop turn ─▶ log ─▶ on_committed ─▶ apply ─▶ actions ─▶ LeaderDuties
                                                                            └─▶ tables ─▶ checkpoint ─▶ log.trim
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from holdfast_log.types import Entry, EntryKind, LogError, LogFull, NotLeader, Overloaded, PartitionLog
from holdfast_partition_processor import tables as t
from holdfast_partition_processor.action import Action, DeploymentsChanged, InvocationCompleted, Reply
from holdfast_partition_processor.command import Command, Deployment, Failure, Invoke, decode_batch, encode_batch
from holdfast_partition_processor.invocation import Invocation, Status
from holdfast_partition_processor.state_machine import StateMachine
from holdfast_partition_processor.store import LmdbStore

logger = logging.getLogger(__name__)
RETRY_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class ProcessorOptions:
    checkpoint_seconds: float = 0.5
    checkpoint_rows: int = 100_000  # checkpoint at once when so many changes are only in memory
    dirty_rows_max: int = 1_000_000  # refuse new work when the disk can't keep up or is full
    pending_commands_max: int = 100_000  # gathered while the log takes no more


class Waiter(Protocol):
    """Somebody on this node who waits for a command or an invocation. Called on the event loop; must not raise."""

    def replied(self, reply: Reply) -> None: ...
    def completed(self, result: InvocationCompleted) -> None: ...
    def lost(self, error: LogError) -> None:
        """This replica leads no longer: what was asked may or may not happen."""


class Duties(Protocol):
    """What only a leader does. Made anew for each term."""

    def start(self) -> None: ...
    def carry_out(self, action: Action) -> None: ...
    def close(self) -> None: ...


class PartitionProcessor:
    def __init__(
        self,
        log: PartitionLog,
        store: LmdbStore,
        *,
        partitions: int,
        clock_ms: Callable[[], int],
        duties: Callable[[PartitionProcessor], Duties],
        on_deployments: Callable[[list[Deployment]], None],
        on_fatal: Callable[[BaseException], None],
        options: ProcessorOptions | None = None,
    ) -> None:
        self.log = log
        self.storage = store
        self.partition = log.partition
        self.applied_index = store.durable_index
        self.is_leading = False
        self.options = options or ProcessorOptions()
        self.commands_applied = 0
        self._clock_ms = clock_ms
        self._make_duties = duties
        self._on_deployments = on_deployments
        self._on_fatal = on_fatal
        self._machine = StateMachine(store, self.partition, partitions)
        self._duties: Duties | None = None
        self._leading_term: int | None = None
        self._pending: list[Command] = []
        self._after_commit: list[tuple[int, Callable[[], None]]] = []
        self._pending_durable: list[tuple[Callable[[], None], Callable[[], None]]] = []
        self._propose_scheduled = False
        self._last_now_ms = 0
        self._requests: dict[int, Waiter] = {}
        self._next_request = 1
        self._waiting: dict[bytes, list[Waiter]] = {}
        self._checkpoint_timer: asyncio.TimerHandle | None = None
        self._checkpointed: asyncio.Event = asyncio.Event()
        self._closed = False

    @property
    def term(self) -> int:
        return self.log.term

    @property
    def durable_index(self) -> int:
        return self.storage.durable_index

    def start(self) -> None:
        """Before the log starts. Raises Trimmed when the tables are older than the log's beginning."""
        self.log.start(self, self.storage.durable_index)
        if self.partition == 0:
            self._tell_deployments()

    async def close(self) -> None:
        """Stop leading, take a last checkpoint, close the tables."""
        self._step_down(NotLeader(self.partition, None))
        self._closed = True
        if self._checkpoint_timer is not None:
            self._checkpoint_timer.cancel()
        while self.storage.checkpointing:
            self._checkpointed.clear()
            await self._checkpointed.wait()
        if self.storage.dirty_rows:
            self._checkpoint()
            while self.storage.checkpointing:
                self._checkpointed.clear()
                await self._checkpointed.wait()
        self.storage.close()

    def submit(
        self,
        command: Command,
        durable: Callable[[], None] | None = None,
        failed: Callable[[], None] | None = None,
    ) -> None:
        """Have ``command`` in the log with the next batch. ``durable`` is called when it was committed and applied,
        ``failed`` when that is not known. Raises NotLeader, Overloaded, LogFull: then nothing was taken."""
        if not self.is_leading:
            raise NotLeader(self.partition, None)
        if len(self._pending) >= self.options.pending_commands_max:
            limit = self.options.pending_commands_max
            raise Overloaded(f"partition {self.partition} has {limit} commands waiting (pending_commands_max)")
        if self.storage.dirty_rows >= self.options.dirty_rows_max:
            raise LogFull(f"the tables of partition {self.partition} can't be written; is the disk full?")
        if type(command) is Invoke:
            full = self.log.nearly_full
            if full is not None:
                raise full
        self._pending.append(command)
        if durable is not None and failed is not None:
            self._pending_durable.append((durable, failed))
        if not self._propose_scheduled:
            self._propose_scheduled = True
            asyncio.get_running_loop().call_soon(self._propose)

    def next_request(self, waiter: Waiter) -> int:
        """A number for a command's ``request``; ``waiter`` gets the reply that carries it."""
        number = self._next_request
        self._next_request += 1
        self._requests[number] = waiter
        return number

    def drop_request(self, number: int) -> None:
        self._requests.pop(number, None)

    def wait_for(self, invocation_id: bytes, waiter: Waiter) -> None:
        self._waiting.setdefault(invocation_id, []).append(waiter)

    def forget(self, invocation_id: bytes, waiter: Waiter) -> None:
        waiters = self._waiting.get(invocation_id)
        if waiters is not None and waiter in waiters:
            waiters.remove(waiter)
            if not waiters:
                del self._waiting[invocation_id]

    def invocation(self, invocation_id: bytes) -> Invocation | None:
        return self.storage.get(t.INVOCATIONS, b"", t.sortable_id(invocation_id))

    def result(self, invocation_id: bytes) -> InvocationCompleted | None:
        """The stored result of a completed invocation."""
        row = self.invocation(invocation_id)
        if row is None or row.status is not Status.COMPLETED:
            return None
        failure: Failure | None = row.failure
        value = None if failure else self.storage.get(t.OUTPUT, b"", t.sortable_id(invocation_id))
        return InvocationCompleted(invocation_id, value, failure)

    def _propose(self) -> None:
        self._propose_scheduled = False
        if not self._pending or not self.is_leading or not self.log.writable:
            return  # on_writable comes back here
        self._last_now_ms = max(self._last_now_ms, self._clock_ms())
        commands, self._pending = self._pending, []
        callbacks, self._pending_durable = self._pending_durable, []
        try:
            _, index = self.log.propose(encode_batch(self._last_now_ms, commands))
        except LogError as error:
            self._refused(error, commands, callbacks)
            return
        self._after_commit += [(index, durable) for durable, _ in callbacks]

    def _refused(
        self, error: LogError, commands: list[Command], callbacks: list[tuple[Callable[[], None], Callable[[], None]]]
    ) -> None:
        """The disk is full or the log overloaded. New invocations are refused; what was promised is kept, to be tried
        again."""
        logger.warning("partition %d: %d commands wait: %s", self.partition, len(commands), error)
        loop = asyncio.get_running_loop()
        refused = [command for command in commands if type(command) is Invoke]
        for command in refused:
            waiters = self._waiting.pop(command.id, [])
            asked = self._requests.pop(command.request, None)
            for waiter in waiters if asked is None or asked in waiters else [*waiters, asked]:
                waiter.lost(error)
        self._pending = [command for command in commands if type(command) is not Invoke] + self._pending
        self._pending_durable = callbacks + self._pending_durable
        self._propose_scheduled = True
        loop.call_later(RETRY_SECONDS, self._propose)

    def on_committed(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            assert entry.index == self.applied_index + 1, (entry.index, self.applied_index)
            if entry.kind is EntryKind.NORMAL:
                batch = decode_batch(entry.payload)
                actions = self._machine.apply(entry.index, batch)
                self._last_now_ms = max(self._last_now_ms, batch.now_ms)
                self.commands_applied += len(batch.commands)
                self.applied_index = entry.index
                self._carry_out(actions)
            else:
                self.applied_index = entry.index
                if entry.kind is EntryKind.EMPTY and entry.term == self._leading_term:
                    self._begin_leading()
        self._call_committed()
        self._checkpoint_soon()

    def _call_committed(self) -> None:
        if self._after_commit and self._after_commit[0][0] <= self.applied_index:
            ready = [durable for index, durable in self._after_commit if index <= self.applied_index]
            self._after_commit = self._after_commit[len(ready) :]
            for durable in ready:
                durable()

    def on_leader(self, term: int) -> None:
        self._leading_term = term

    def on_follower(self, term: int, leader: str | None) -> None:
        self._step_down(NotLeader(self.partition, leader))

    def on_writable(self) -> None:
        self._propose()

    def _begin_leading(self) -> None:
        self.is_leading = True
        self._duties = self._make_duties(self)
        self._duties.start()

    def _step_down(self, error: LogError) -> None:
        self._leading_term = None
        self.is_leading = False
        if self._duties is not None:
            self._duties.close()
            self._duties = None
        self._pending = []
        self._after_commit = []
        callbacks, self._pending_durable = self._pending_durable, []
        for _, failed in callbacks:
            failed()
        waiters = [*self._requests.values(), *(w for group in self._waiting.values() for w in group)]
        self._requests, self._waiting = {}, {}
        for waiter in waiters:
            waiter.lost(error)

    def _carry_out(self, actions: list[Action]) -> None:
        duties = self._duties
        for action in actions:
            kind = type(action)
            if kind is DeploymentsChanged:
                self._tell_deployments()
            elif duties is None:
                continue
            elif kind is InvocationCompleted:
                assert isinstance(action, InvocationCompleted)
                for waiter in self._waiting.pop(action.id, ()):
                    waiter.completed(action)
            elif kind is Reply:
                assert isinstance(action, Reply)
                asked = self._requests.pop(action.request, None)
                if asked is not None:
                    asked.replied(action)
            else:
                duties.carry_out(action)

    def _tell_deployments(self) -> None:
        self._on_deployments([row for _, row in self.storage.scan(t.DEPLOYMENTS, b"")])

    def _checkpoint_soon(self) -> None:
        if self._closed or self.storage.checkpointing:
            return
        if self.storage.dirty_rows >= self.options.checkpoint_rows:
            self._checkpoint()
        elif self._checkpoint_timer is None:
            loop = asyncio.get_running_loop()
            self._checkpoint_timer = loop.call_later(self.options.checkpoint_seconds, self._checkpoint)

    def _checkpoint(self) -> None:
        if self._checkpoint_timer is not None:
            self._checkpoint_timer.cancel()
            self._checkpoint_timer = None
        if not self.storage.checkpointing:
            self.storage.checkpoint(self.applied_index, self._checkpoint_done)

    def _checkpoint_done(self, error: BaseException | None) -> None:
        self._checkpointed.set()
        if error is not None:
            self._on_fatal(error)
            return
        self.log.trim(self.storage.durable_index)
        if self.storage.dirty_rows:
            self._checkpoint_soon()

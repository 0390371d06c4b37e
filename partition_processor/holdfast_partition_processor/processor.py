"""The processor of one partition: takes commands, has them put into the log in batches, applies what is committed, and
hands the actions to whoever carries them out.

::

    submit ─▶ Proposals ─▶ log ─▶ on_committed ─▶ StateMachine.apply ─▶ actions ─▶ waiters, LeaderDuties
                                                         └─▶ tables ─▶ checkpoint ─▶ log.trim

What it promises: an action is carried out only after the entry that caused it is committed, and only while this replica
leads. It leads when the EMPTY entry of its own term is applied: then the tables hold all that earlier leaders
acknowledged, and what is to be done is read from them. Entries of earlier terms, replayed ones among them, cause none.

What stops it: an entry that can't be read or applied, or a row that rotted. It does not skip what it can't apply, for
replicas would differ then; `failure` says why, the other partitions of the node go on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ParamSpec, Protocol

from holdfast_log.types import Entry, EntryKind, LogError, NotLeader, PartitionLog
from holdfast_partition_processor import tables as t
from holdfast_partition_processor.action import Action, DeploymentsChanged, InvocationCompleted, Reply
from holdfast_partition_processor.checkpoints import CheckpointOptions, Checkpoints, Store
from holdfast_partition_processor.command import Command, Deployment, Invoke, decode_batch
from holdfast_partition_processor.invocation import Invocation, Status
from holdfast_partition_processor.proposals import UNDER_WAY, ProposalLimits, Proposals, Receipt, Waiting
from holdfast_partition_processor.state_machine import StateMachine
from holdfast_partition_processor.store_errors import StoreError, StoreFailed
from holdfast_partition_processor.waiters import Waiter, Waiters

logger = logging.getLogger(__name__)

P = ParamSpec("P")

REGISTRY_PARTITION = 0
"""The one whose tables hold the deployments."""


@dataclass(frozen=True, slots=True)
class ProcessorOptions:
    proposals: ProposalLimits = field(default_factory=ProposalLimits)
    checkpoints: CheckpointOptions = field(default_factory=CheckpointOptions)


class PartitionStopped(NotLeader):
    """This replica of the partition takes no part any more: it closes, or it failed."""

    def __init__(self, partition: int, why: str) -> None:
        super().__init__(partition, None)
        self.args = (f"partition {partition} is stopped on this node: {why}",)


class Duties(Protocol):
    """What only a leader does. Made anew for each term."""

    def start(self) -> None: ...
    def carry_out(self, action: Action) -> None: ...
    def close(self) -> None:
        """Nothing is submitted or sent from here on."""

    async def closed(self) -> None: ...


class PartitionProcessor:
    """Implements `LogConsumer`."""

    def __init__(
        self,
        log: PartitionLog,
        store: Store,
        *,
        partitions: int,
        clock_ms: Callable[[], int],
        duties: Callable[[PartitionProcessor], Duties],
        on_deployments: Callable[[list[Deployment]], None],
        on_fatal: Callable[[BaseException], None] | None = None,
        options: ProcessorOptions | None = None,
    ) -> None:
        """``on_fatal`` is told when the disk of the tables failed: the process must end then."""
        self.log = log
        self.storage: t.Storage = store
        self.partition = log.partition
        self.options = options or ProcessorOptions()
        self.applied_index = store.durable_index
        self.is_leading = False
        self.failure: BaseException | None = None
        """Why this partition stopped on this node; None while it works."""
        self.commands_applied = 0
        self._store = store
        self._make_duties = duties
        self._on_deployments = on_deployments
        self._on_fatal = on_fatal
        self._machine = StateMachine(store, self.partition, partitions)
        self._proposals = Proposals(log, clock_ms, self.options.proposals, self._refused)
        self._waiters = Waiters()
        self._duties: Duties | None = None
        self._closing: set[asyncio.Task[None]] = set()  # duties of earlier terms
        self._elected_term = 0  # elected, but perhaps not leading yet
        self._leader: str | None = None
        self._checkpoints = Checkpoints(store, log, self.options.checkpoints, self._store_failed)
        self._closed = False

    @property
    def term(self) -> int:
        return self.log.term

    @property
    def durable_index(self) -> int:
        return self._store.durable_index

    def start(self) -> None:
        """Before the log starts. Raises Trimmed when the log begins after what the tables hold, StoreError when it
        ends before."""
        index = self._store.durable_index
        if index > self.log.last_index:
            raise StoreError(
                f"partition {self.partition}: the tables hold entry {index}, the log ends at {self.log.last_index}: "
                "the log's directory is older than the tables' or was replaced"
            )
        self.log.start(self, index)
        self._tell_deployments()

    async def close(self) -> None:
        """Stop leading, take a last checkpoint, close the tables."""
        if self._closed:
            return
        self._step_down(PartitionStopped(self.partition, "it closes"))
        self._closed = True
        if self._closing:
            await asyncio.wait(self._closing)
        await self._checkpoints.finish()

    # ------------------------------------------------------------ taking commands

    def submit(
        self,
        command: Command,
        durable: Callable[[], None] | None = None,
        failed: Callable[[], None] | None = None,
    ) -> None:
        """Have ``command`` in the log with the next batch. ``durable`` is called when it was committed and applied,
        ``failed`` when that is not known. Raises NotLeader, Overloaded, LogFull, PayloadTooLarge: nothing was taken."""
        if not self.is_leading:
            raise self._not_leading()
        if self._checkpoints.is_behind and type(command) not in UNDER_WAY:
            raise self._checkpoints.refusal()
        receipt = None if durable is None and failed is None else Receipt(durable, failed)
        self._proposals.add((command,), receipt)

    def submit_all(self, commands: Sequence[Command]) -> None:
        """As `submit`: all of them, in this order, or none. They may come to stand in several entries."""
        if not self.is_leading:
            raise self._not_leading()
        self._proposals.add(commands, None)

    def next_request(self, waiter: Waiter) -> int:
        """A number for a command's ``request``; ``waiter`` gets the reply that carries it. Raises NotLeader."""
        if not self.is_leading:
            raise self._not_leading()
        return self._waiters.next_request(waiter)

    def drop_request(self, number: int) -> None:
        self._waiters.drop_request(number)

    def wait_for(self, invocation_id: bytes, waiter: Waiter) -> None:
        """``waiter`` gets the result when the invocation completes; see `result` for one that did. Raises NotLeader."""
        if not self.is_leading:
            raise self._not_leading()
        self._waiters.wait_for(invocation_id, waiter)

    def forget(self, invocation_id: bytes, waiter: Waiter) -> None:
        self._waiters.forget(invocation_id, waiter)

    def invocation(self, invocation_id: bytes) -> Invocation | None:
        return self.storage.get(t.INVOCATIONS, b"", t.sortable_id(invocation_id))

    def result(self, invocation_id: bytes) -> InvocationCompleted | None:
        """The stored result of a completed invocation."""
        row = self.invocation(invocation_id)
        if row is None or row.status is not Status.COMPLETED:
            return None
        value = None if row.failure else self.storage.get(t.OUTPUT, b"", t.sortable_id(invocation_id))
        return InvocationCompleted(invocation_id, value, row.failure)

    def _not_leading(self) -> NotLeader:
        if self._closed:
            return PartitionStopped(self.partition, "it is closed")
        if self.failure is not None:
            return PartitionStopped(self.partition, str(self.failure))
        return NotLeader(self.partition, self._leader)

    def _refused(self, refused: list[Waiting], error: LogError) -> None:
        """The log has no room for what was taken a moment ago."""
        lost: dict[int, Waiter] = {}
        for waiting in refused:
            waiter = self._waiters.take_request(getattr(waiting.command, "request", 0))
            waiters = self._waiters.take_invocation(waiting.command.id) if isinstance(waiting.command, Invoke) else []
            lost.update((id(each), each) for each in (*waiters, waiter) if each is not None)
            if waiting.receipt is not None and waiting.receipt.failed is not None:
                self._guard(waiting.receipt.failed)
        for waiter in lost.values():
            self._guard(waiter.lost, error)

    # ------------------------------------------------------------ LogConsumer

    def on_committed(self, entries: Sequence[Entry]) -> None:
        if self._closed or self.failure is not None:
            return
        actions: list[Action] = []
        receipts: list[Receipt] = []
        try:
            for entry in entries:
                self._apply(entry, actions, receipts)
        except Exception as error:  # noqa: BLE001 - one partition stops, which `failure` tells; the node's others go on
            self._stop(error)
            return
        self._carry_out(actions)
        for receipt in receipts:
            if receipt.durable is not None:
                self._guard(receipt.durable)
        self._checkpoints.applied(self.applied_index)

    def on_leader(self, term: int) -> None:
        self._elected_term = term

    def on_follower(self, term: int, leader: str | None) -> None:
        self._leader = leader
        self._step_down(NotLeader(self.partition, leader))

    def on_writable(self) -> None:
        self._proposals.flush()

    def _apply(self, entry: Entry, actions: list[Action], receipts: list[Receipt]) -> None:
        assert entry.index == self.applied_index + 1, (entry.index, self.applied_index)
        if entry.kind is EntryKind.NORMAL:
            proposal = self._proposals.take(entry)
            batch = decode_batch(entry.payload) if proposal is None else proposal.batch
            done = self._machine.apply(entry.index, batch)
            self.commands_applied += len(batch.commands)
            if self.is_leading:
                actions += done
            else:
                actions += [action for action in done if type(action) is DeploymentsChanged]
            if proposal is not None:
                receipts += proposal.receipts
        self.applied_index = entry.index
        if entry.kind is EntryKind.EMPTY and entry.term == self._elected_term and not self._closed:
            self._begin_leading()

    def _begin_leading(self) -> None:
        """In the midst of a batch: what the tables say now is begun, what later entries say comes as actions."""
        self.is_leading = True
        self._duties = self._make_duties(self)
        self._duties.start()

    def _step_down(self, error: LogError) -> None:
        self._elected_term = 0
        self.is_leading = False
        duties, self._duties = self._duties, None
        if duties is not None:
            duties.close()
            task = asyncio.get_running_loop().create_task(duties.closed())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        self._proposals.abandon()
        for waiter in self._waiters.take_all():
            self._guard(waiter.lost, error)

    def _stop(self, error: Exception) -> None:
        """Nothing more is applied, and nothing that is half applied reaches the disk."""
        self.failure = error
        logger.error("partition %d stops after entry %d", self.partition, self.applied_index, exc_info=error)
        self._checkpoints.stop()
        self._step_down(PartitionStopped(self.partition, str(error)))

    def _store_failed(self, failure: StoreFailed) -> None:
        if self.failure is None:
            self._stop(failure)
        if self._on_fatal is not None:
            self._on_fatal(failure)

    # ------------------------------------------------------------ actions

    def _carry_out(self, actions: list[Action]) -> None:
        for action in actions:
            try:
                match action:
                    case InvocationCompleted(id=invocation_id):
                        for waiter in self._waiters.take_invocation(invocation_id):
                            self._guard(waiter.completed, action)
                    case Reply(request=request):
                        asked = self._waiters.take_request(request)
                        if asked is not None:
                            asked.replied(action)
                    case DeploymentsChanged():
                        self._tell_deployments()
                    case _ if self._duties is not None:
                        self._duties.carry_out(action)
            except Exception as error:  # noqa: BLE001 - reported; the other actions must not be lost with this one
                self._report(error)

    def _tell_deployments(self) -> None:
        if self.partition == REGISTRY_PARTITION:
            self._on_deployments([row for _, row in self.storage.scan(t.DEPLOYMENTS, b"")])

    def _guard(self, callback: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            callback(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - reported; who waits beside it must still be told
            self._report(error)

    def _report(self, error: Exception) -> None:
        context = {"message": f"partition {self.partition}: an action failed", "exception": error}
        asyncio.get_running_loop().call_exception_handler(context)

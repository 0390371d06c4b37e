"""`apply`: the one function that changes state, the same on every replica.

It is total: whatever a batch holds that can be decoded, it ends with rows and actions, never with an exception. What
makes no sense any more (an old attempt's effects, a timer whose row is gone, a message that came before) is ignored,
and what an endpoint or a client made up is refused before anything of it is stored. An exception out of here is a bug
of our own.
"""

from __future__ import annotations

from typing import assert_never

from holdfast_partition_processor import command as c
from holdfast_partition_processor.action import Action
from holdfast_partition_processor.delivery import apply_ingest, apply_outbox_shipped
from holdfast_partition_processor.deployment_rows import apply_register, apply_remove
from holdfast_partition_processor.due_timer import apply_timer_fired
from holdfast_partition_processor.effects import apply_attempt_failed, apply_effects
from holdfast_partition_processor.idempotency import apply_attach, apply_invoke
from holdfast_partition_processor.operations import apply_edit_state, apply_kill, apply_purge
from holdfast_partition_processor.response import apply_response
from holdfast_partition_processor.signals import apply_cancel, apply_notify
from holdfast_partition_processor.tables import Storage
from holdfast_partition_processor.turn import Turn


class StateMachine:
    """One partition of ``partitions``."""

    def __init__(self, storage: Storage, partition: int, partitions: int) -> None:
        assert 0 <= partition < partitions, (partition, partitions)
        self._storage = storage
        self._partition = partition
        self._partitions = partitions

    def apply(self, index: int, batch: c.Batch) -> list[Action]:
        """Apply all commands of the log entry at ``index``. What they send to this same partition is applied before the
        next command, so that no other command sees it half done."""
        turn = Turn(self._storage, self._partition, self._partitions, index, batch.now_ms)
        for command in batch.commands:
            _apply(turn, command)
            while turn.queue:
                _apply(turn, turn.queue.popleft())
        return turn.actions


def _apply(turn: Turn, command: c.Command) -> None:
    match command:
        case c.Effects():
            apply_effects(turn, command)
        case c.Invoke():
            apply_invoke(turn, command)
        case c.InvocationResponse():
            apply_response(turn, command)
        case c.TimerFired():
            apply_timer_fired(turn, command)
        case c.Ingest():
            apply_ingest(turn, command)
        case c.OutboxShipped():
            apply_outbox_shipped(turn, command)
        case c.AttemptFailed():
            apply_attempt_failed(turn, command)
        case c.NotifySignal():
            apply_notify(turn, command)
        case c.Cancel():
            apply_cancel(turn, command)
        case c.Kill():
            apply_kill(turn, command)
        case c.Purge():
            apply_purge(turn, command)
        case c.Attach():
            apply_attach(turn, command)
        case c.EditState():
            apply_edit_state(turn, command)
        case c.RegisterDeployment():
            apply_register(turn, command)
        case c.RemoveDeployment():
            apply_remove(turn, command)
        case _:
            assert_never(command)

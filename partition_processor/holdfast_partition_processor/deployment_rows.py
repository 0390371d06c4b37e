"""The registry's rows, in partition 0. All nodes make their `catalog.Catalog` from them."""

from __future__ import annotations

from holdfast_partition_processor import command as c
from holdfast_partition_processor import tables as t
from holdfast_partition_processor.action import DeploymentsChanged, Outcome
from holdfast_partition_processor.deployment import number_revisions
from holdfast_partition_processor.turn import Turn

REGISTRY_PARTITION = 0


def apply_register(turn: Turn, command: c.RegisterDeployment) -> None:
    if turn.partition != REGISTRY_PARTITION:
        turn.reply(command.request, Outcome.INVALID, f"the registry is in partition {REGISTRY_PARTITION}")
        return
    deployment = command.deployment
    registered = [row for _, row in turn.storage.scan(t.DEPLOYMENTS, b"")]
    for other in registered:
        if other.address == deployment.address and other.id != deployment.id:
            turn.reply(command.request, Outcome.CONFLICT, other.id)
            return
    turn.storage.put(t.DEPLOYMENTS, b"", deployment.id.encode(), number_revisions(deployment, registered))
    turn.actions.append(DeploymentsChanged())
    turn.reply(command.request, Outcome.DONE, deployment.id)


def apply_remove(turn: Turn, command: c.RemoveDeployment) -> None:
    key = command.id.encode()
    if turn.storage.get(t.DEPLOYMENTS, b"", key) is None:
        turn.reply(command.request, Outcome.NOT_FOUND)
        return
    turn.storage.delete(t.DEPLOYMENTS, b"", key)
    turn.actions.append(DeploymentsChanged())
    turn.reply(command.request, Outcome.DONE, command.id)

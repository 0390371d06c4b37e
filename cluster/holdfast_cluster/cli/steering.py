"""Cancel, kill and purge: one invocation or thousands.

Many are asked for at once, a fixed number at a time. One that can't be done (it completed meanwhile, it is gone) does
not stop the others; all of them are told at the end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import click

from holdfast_cluster.cli.connection import ANSWER_SECONDS_MAX, Connection, connect, failure_of
from holdfast_cluster.cli.failure import FAILED, USAGE, CommandFailed
from holdfast_cluster.cli.output import print_json
from holdfast_cluster.cli.progress import Progress
from holdfast_cluster.cli.selection import Selection, matching_ids

OUTSTANDING_MAX = 64
PROBLEMS_SHOWN_MAX = 20


@dataclass(frozen=True)
class Operation:
    rpc: str
    verb: str
    done: str
    statuses: tuple[str, ...]
    """What a selection without --status means: those that the operation can be done to."""


_NOT_COMPLETED = ("scheduled", "pending", "running", "backing_off", "suspended", "paused")
CANCEL = Operation("CancelInvocation", "cancel", "cancelled", _NOT_COMPLETED)
KILL = Operation("KillInvocation", "kill", "killed", _NOT_COMPLETED)
PURGE = Operation("PurgeInvocation", "purge", "purged", ("completed",))


@dataclass
class Tally:
    done: list[str] = field(default_factory=list)
    appended: list[str] = field(default_factory=list)
    failed: list[tuple[str, CommandFailed]] = field(default_factory=list)


def run(
    operation: Operation, ids: tuple[str, ...], selection: Selection, yes: bool, address: str, as_json: bool
) -> None:
    """Raises CommandFailed, also when some could not be done."""
    if bool(ids) == (not selection.is_everything):
        raise CommandFailed(f"name the invocations to {operation.verb} by ID, or select them with filters", USAGE)
    with connect(address) as node:
        chosen = list(ids) or _select(node, operation, selection, yes, as_json)
        tally = _all(node, operation, chosen)
    _tell(operation, tally, as_json)


def _select(node: Connection, operation: Operation, selection: Selection, yes: bool, as_json: bool) -> list[str]:
    if not selection.statuses:
        from dataclasses import replace

        selection = replace(selection, statuses=operation.statuses)
    chosen: list[str] = []
    with Progress() as progress:
        for invocation_id in matching_ids(node, selection):
            chosen.append(invocation_id)
            progress.show(f"selecting invocations: {len(chosen):,}")
    if not chosen or yes:
        return chosen
    if as_json:
        raise CommandFailed(f"{len(chosen):,} invocations match; with --json their end needs --yes", USAGE)
    plural = "" if len(chosen) == 1 else "s"
    if not click.confirm(f"{operation.verb.capitalize()} {len(chosen):,} invocation{plural}?", err=True):
        raise CommandFailed(f"nothing was {operation.done}", FAILED)
    return chosen


def _all(node: Connection, operation: Operation, ids: Iterable[str]) -> Tally:
    from holdfast_proto import admin_pb2

    tally = Tally()
    rpc = getattr(node.admin, operation.rpc)
    outstanding: deque[tuple[str, Any]] = deque()
    with Progress() as progress:
        for invocation_id in ids:
            if len(outstanding) == OUTSTANDING_MAX:
                _collect(node, tally, *outstanding.popleft())
            request = admin_pb2.InvocationRequest(id=invocation_id)
            outstanding.append((invocation_id, rpc.future(request, timeout=ANSWER_SECONDS_MAX)))
            progress.show(f"{operation.done} {len(tally.done) + len(tally.appended):,}")
        while outstanding:
            _collect(node, tally, *outstanding.popleft())
            progress.show(f"{operation.done} {len(tally.done) + len(tally.appended):,}")
    return tally


def _collect(node: Connection, tally: Tally, invocation_id: str, answer: Any) -> None:
    import grpc

    from holdfast_proto import admin_pb2

    try:
        outcome = answer.result().outcome
    except grpc.RpcError as error:
        tally.failed.append((invocation_id, failure_of(error, node.address)))
        return
    appended = outcome == admin_pb2.InvocationResponse.APPENDED
    (tally.appended if appended else tally.done).append(invocation_id)


def _tell(operation: Operation, tally: Tally, as_json: bool) -> None:
    if as_json:
        failed = [{"id": invocation_id, "message": error.message} for invocation_id, error in tally.failed]
        print_json({"done": tally.done, "appended": tally.appended, "failed": failed})
    elif not (tally.done or tally.appended or tally.failed):
        click.echo("no invocations match", err=True)
    else:
        _tell_people(operation, tally)
    if not tally.failed:
        return
    for _, error in tally.failed[1:PROBLEMS_SHOWN_MAX]:
        click.echo(f"holdfast: {error.message}", err=True)
    if len(tally.failed) > PROBLEMS_SHOWN_MAX:
        click.echo(f"holdfast: and {len(tally.failed) - PROBLEMS_SHOWN_MAX:,} more", err=True)
    raise tally.failed[0][1]


def _tell_people(operation: Operation, tally: Tally) -> None:
    if len(tally.done) + len(tally.appended) == 1:
        for invocation_id in tally.done:
            click.echo(f"{operation.done} {invocation_id}")
        for invocation_id in tally.appended:
            click.echo(f"told {invocation_id}, which ends by itself")
        return
    if tally.done:
        click.echo(f"{operation.done} {len(tally.done):,} invocations")
    if tally.appended:
        click.echo(f"told {len(tally.appended):,} invocations, which end by themselves")

"""Calls that meet an invocation which exists already, and everybody else who wants a result of one.

An id says it all: a workflow's run and a call with an idempotency key have ids made from their coordinates, so a second
call finds the first by id and gets its result; a call that an ingress sends again after its leader vanished does too.
"""

from __future__ import annotations

from holdfast_partition_processor import command as c
from holdfast_partition_processor import lifecycle, retention, workflow
from holdfast_partition_processor.action import InvocationCompleted, Outcome
from holdfast_partition_processor.invocation import Status
from holdfast_partition_processor.live import Live, load
from holdfast_partition_processor.result import result_of
from holdfast_partition_processor.turn import Turn
from holdfast_proto.identifiers import INVOCATION_ID_BYTES

NOT_FOUND = c.Failure(404, "invocation not found")


def apply_invoke(turn: Turn, command: c.Invoke) -> None:
    if len(command.id) != INVOCATION_ID_BYTES:
        turn.reply(command.request, Outcome.INVALID, f"an invocation id has {INVOCATION_ID_BYTES} bytes")
        return
    live = load(turn, command.id)
    if live is not None and retention.is_expired(live.row, turn.now_ms):
        retention.purge(turn, live)
        live = None
    if live is None:
        lifecycle.begin(turn, command)
        turn.reply(command.request, Outcome.ACCEPTED)
    elif retention.is_workflow(live.row) and not _is_sent_again(live, command):
        _refuse_second_run(turn, command)
    else:
        _meet(turn, live, command)


def _is_sent_again(live: Live, command: c.Invoke) -> bool:
    """The very same call, by an ingress that lost its leader before the answer."""
    row = live.row
    return bool(command.by_id) and command.by is c.InvokedBy.INGRESS is row.by and command.by_id == row.by_id


def _refuse_second_run(turn: Turn, command: c.Invoke) -> None:
    turn.reply(command.request, Outcome.CONFLICT)
    if command.sink is not None:
        turn.respond(command.sink, None, workflow.ALREADY_INVOKED)


def _meet(turn: Turn, live: Live, command: c.Invoke) -> None:
    turn.reply(command.request, Outcome.PREVIOUSLY_ACCEPTED)
    if command.sink is not None:
        _subscribe(turn, live, command.sink)
    elif live.row.status is Status.COMPLETED:
        turn.actions.append(_result(turn, live))


def apply_attach(turn: Turn, command: c.Attach) -> None:
    live = load(turn, command.id)
    if live is None:
        turn.respond(command.sink, None, NOT_FOUND if command.wait else None)
    elif command.wait or live.row.status is Status.COMPLETED:
        _subscribe(turn, live, command.sink)
    else:
        turn.respond(command.sink, None, None)


def _subscribe(turn: Turn, live: Live, sink: c.ResponseSink) -> None:
    """``sink`` gets the result too: now if it is there, else with the others."""
    if live.row.status is Status.COMPLETED:
        result = _result(turn, live)
        turn.respond(sink, result.value, result.failure)
    else:
        live.save(turn, live.row.status, sinks=(*live.row.sinks, sink))


def _result(turn: Turn, live: Live) -> InvocationCompleted:
    result = result_of(turn.storage, live.row)
    assert result is not None, "it is completed"
    return result

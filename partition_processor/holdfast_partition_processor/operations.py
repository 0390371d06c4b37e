"""What operators do to invocations and state."""

from __future__ import annotations

from holdfast_partition_processor import command as c
from holdfast_partition_processor import lifecycle, retention
from holdfast_partition_processor import tables as t
from holdfast_partition_processor.action import Outcome
from holdfast_partition_processor.invocation import Status
from holdfast_partition_processor.live import load
from holdfast_partition_processor.turn import Turn


def apply_kill(turn: Turn, command: c.Kill) -> None:
    live = load(turn, command.id)
    if live is None or (command.parent and command.parent != live.row.by_id):
        turn.reply(command.request, Outcome.NOT_FOUND)
    elif live.row.status is Status.COMPLETED:
        turn.reply(command.request, Outcome.ALREADY_COMPLETED)
    else:
        lifecycle.kill(turn, live)
        turn.reply(command.request, Outcome.DONE)


def apply_purge(turn: Turn, command: c.Purge) -> None:
    live = load(turn, command.id)
    if live is None:
        turn.reply(command.request, Outcome.NOT_FOUND)
    elif live.row.status is not Status.COMPLETED:
        turn.reply(command.request, Outcome.NOT_COMPLETED)
    else:
        retention.purge(turn, live)
        turn.reply(command.request, Outcome.DONE)


def apply_edit_state(turn: Turn, command: c.EditState) -> None:
    group = t.object_group(command.service, command.key)
    if command.replace:
        turn.storage.delete_group(t.STATE, group)
    for name in command.clear:
        turn.storage.delete(t.STATE, group, name)
    for name, value in command.set:
        turn.storage.put(t.STATE, group, name, value)
    turn.reply(command.request, Outcome.DONE)

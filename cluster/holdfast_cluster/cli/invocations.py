"""``holdfast invocations``: the commands. What they select is in `selection`, how they look in `timeline`."""

from __future__ import annotations

import click

from holdfast_cluster.cli import steering
from holdfast_cluster.cli.connection import connect
from holdfast_cluster.cli.durations import now_ms, span_words
from holdfast_cluster.cli.options import confirmed, connected, timeout_option
from holdfast_cluster.cli.output import document_of, one_line, print_json, print_table
from holdfast_cluster.cli.result import finish
from holdfast_cluster.cli.selection import Selection, filtered, newest, status_name, target_text
from holdfast_cluster.cli.timeline import read_detail, show_detail

INFO_CHARACTERS_MAX = 120


@click.group()
def invocations() -> None:
    """List, look into, cancel, kill and purge invocations.

    \b
    Examples:
      holdfast invocations list --service greeter --status running
      holdfast invocations describe inv_1...
      holdfast invocations cancel inv_1...
    """


@invocations.command("list")
@filtered
@click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="The newest so many.")
@connected
def list_invocations(limit: int, address: str, as_json: bool, **filters: object) -> None:
    """List invocations, the newest first.

    \b
    Examples:
      holdfast invocations list
      holdfast invocations list --service greeter --status backing_off --status paused
      holdfast invocations list --since 10m --json
    """
    from holdfast_proto import admin_pb2

    selection = Selection.of(filters)
    with connect(address) as node:
        found, more = newest(node, selection, limit)
    if as_json:
        print_json({"invocations": [document_of(item) for item in found], "more": more})
        return
    now = now_ms()

    def row(item: admin_pb2.Invocation) -> list[str]:
        age = span_words(now - item.created_at_ms)
        info = one_line(_info(item, now), INFO_CHARACTERS_MAX)
        return [item.id, target_text(item), status_name(item), age, str(item.attempt), info]

    print_table(
        ["id", "target", "status", "age>", "attempt>", "info"],
        [row(item) for item in found],
        empty="no invocations match",
    )
    if more:
        click.echo(f"there are more; these are the newest {limit}", err=True)


@invocations.command()
@click.argument("invocation_id", metavar="ID")
@connected
def describe(invocation_id: str, address: str, as_json: bool) -> None:
    """Show one invocation and its journal as a timeline.

    \b
    Example:
      holdfast invocations describe inv_1...
    """
    with connect(address) as node:
        detail = read_detail(node, invocation_id)
    if as_json:
        print_json(document_of(detail))
    else:
        show_detail(detail)


@invocations.command()
@click.argument("invocation_id", metavar="ID")
@timeout_option("Give up waiting after this time, like 90s; the invocation goes on.")
@connected
def attach(invocation_id: str, timeout_s: float | None, address: str, as_json: bool) -> None:
    """Wait for the result of an invocation and print it.

    \b
    Example:
      holdfast invocations attach "$(holdfast send greeter/greet '"Ada"')"
    """
    from holdfast_proto import ingress_pb2

    with connect(address) as node:
        request = ingress_pb2.AttachRequest(invocation_id=invocation_id)
        answer = node.ask(node.ingress.Attach, request, timeout_s)
    finish(answer, as_json)


@invocations.command()
@click.argument("ids", metavar="[ID]...", nargs=-1)
@filtered
@confirmed
@connected
def cancel(ids: tuple[str, ...], yes: bool, address: str, as_json: bool, **filters: object) -> None:
    """Ask invocations to end: their handlers get a Cancelled error and may clean up.

    Those that have not started end at once. Name them by ID or select them with filters; a selection is counted and
    asked about first, unless --yes is given.

    \b
    Examples:
      holdfast invocations cancel inv_1...
      holdfast invocations cancel --service greeter --status suspended --yes
    """
    steering.run(steering.CANCEL, ids, Selection.of(filters), yes, address, as_json)


@invocations.command()
@click.argument("ids", metavar="[ID]...", nargs=-1)
@filtered
@confirmed
@connected
def kill(ids: tuple[str, ...], yes: bool, address: str, as_json: bool, **filters: object) -> None:
    """End invocations at once, with all calls that they made. Their handlers are not asked and can't clean up.

    Prefer `cancel`. Name them by ID or select them with filters; a selection is counted and asked about first, unless
    --yes is given.

    \b
    Examples:
      holdfast invocations kill inv_1...
      holdfast invocations kill --deployment dp_1b2c3d4e5f607182 --yes
    """
    steering.run(steering.KILL, ids, Selection.of(filters), yes, address, as_json)


@invocations.command()
@click.argument("ids", metavar="[ID]...", nargs=-1)
@filtered
@confirmed
@connected
def purge(ids: tuple[str, ...], yes: bool, address: str, as_json: bool, **filters: object) -> None:
    """Forget completed invocations before their retention is over: result, journal, and a workflow's state.

    A call with the same idempotency key or workflow key starts anew afterwards. Name them by ID or select them with
    filters; a selection is counted and asked about first, unless --yes is given.

    \b
    Examples:
      holdfast invocations purge inv_1...
      holdfast invocations purge --service greeter --until 1d --yes
    """
    steering.run(steering.PURGE, ids, Selection.of(filters), yes, address, as_json)


def _info(item: object, now: int) -> str:
    """What one wants to know first about an invocation in its status."""
    from holdfast_proto import admin_pb2

    assert isinstance(item, admin_pb2.Invocation)
    if item.status == admin_pb2.COMPLETED:
        took = f"took {span_words(item.completed_at_ms - item.created_at_ms)}"
        return f"{took}, failed with {item.failure.code}: {item.failure.message}" if item.failed else took
    if item.last_failure and item.retry_count:
        wait = max(0, item.next_retry_at_ms - now)
        again = f"next attempt in {span_words(wait)}, " if item.next_retry_at_ms else ""
        return f"{again}failed {item.retry_count} times, last with {item.last_failure_code}: {item.last_failure}"
    return f"waits for {'; '.join(item.waiting_for)}" if item.waiting_for else ""

"""One invocation and its journal as a timeline, for `holdfast invocations describe`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from holdfast_cluster.cli.connection import Connection
from holdfast_cluster.cli.durations import local_time, span_words
from holdfast_cluster.cli.output import one_line, print_fields, print_table, shown_value
from holdfast_cluster.cli.progress import Progress
from holdfast_cluster.cli.selection import status_name, target_text

if TYPE_CHECKING:
    from holdfast_proto import admin_pb2

RESULT_CHARACTERS_MAX = 500
DETAIL_CHARACTERS_MAX = 200


def read_detail(node: Connection, invocation_id: str) -> admin_pb2.InvocationDetail:
    """With the whole journal, page after page."""
    from holdfast_proto import admin_pb2

    detail = node.ask(node.admin.GetInvocation, admin_pb2.GetInvocationRequest(id=invocation_id))
    assert isinstance(detail, admin_pb2.InvocationDetail)
    with Progress() as progress:
        while detail.next_journal_from:
            progress.show(f"reading the journal: {len(detail.journal):,} of {detail.invocation.journal_size:,}")
            request = admin_pb2.GetInvocationRequest(id=invocation_id, journal_from=detail.next_journal_from)
            page = node.ask(node.admin.GetInvocation, request)
            detail.journal.extend(page.journal)
            detail.next_journal_from = page.next_journal_from
    return detail


def show_detail(detail: admin_pb2.InvocationDetail) -> None:
    item = detail.invocation
    print_fields(
        [
            ("id", item.id),
            ("target", target_text(item)),
            ("status", status_name(item)),
            ("waits for", "; ".join(item.waiting_for)),
            ("result", _result(detail)),
            ("last failure", _last_failure(item)),
            ("created", f"{local_time(item.created_at_ms)} by {item.invoked_by} {item.invoked_by_id}".rstrip()),
            ("scheduled for", local_time(item.scheduled_for_ms) if item.scheduled_for_ms else ""),
            ("completed", _completed(item)),
            ("attempt", str(item.attempt) if item.attempt else ""),
            ("deployment", item.deployment_id),
            ("idempotency key", item.idempotency_key),
            ("partition", str(item.partition)),
        ]
    )
    click.echo()
    print_table(
        ["#>", "after>", "", "entry", "name", "detail"],
        [_row(entry, item.created_at_ms) for entry in detail.journal],
        empty="the journal is gone: its retention is over",
    )


def _row(entry: admin_pb2.JournalEntry, began_ms: int) -> list[str]:
    """A notification is drawn as coming in; a command as open until its result is there."""
    is_notification = entry.type_name.startswith("Notification")
    mark = "◀" if is_notification else "●" if entry.completed else "○"
    name = entry.type_name.partition(": ")[2]
    result_of = f" of {entry.completion_id}" if is_notification and entry.completion_id else ""
    number = f" ({entry.completion_id})" if entry.completion_id and not is_notification else ""
    return [
        str(entry.index),
        f"+{span_words(entry.appended_at_ms - began_ms)}",
        mark,
        f"{name}{number}{result_of}",
        entry.name,
        one_line(entry.detail, DETAIL_CHARACTERS_MAX),
    ]


def _result(detail: admin_pb2.InvocationDetail) -> str:
    item = detail.invocation
    if not item.completed_at_ms:
        return ""
    if item.failed:
        return f"failed with {item.failure.code}: {one_line(item.failure.message, RESULT_CHARACTERS_MAX)}"
    return one_line(shown_value(detail.output), RESULT_CHARACTERS_MAX)


def _completed(item: admin_pb2.Invocation) -> str:
    if not item.completed_at_ms:
        return ""
    return f"{local_time(item.completed_at_ms)}, after {span_words(item.completed_at_ms - item.created_at_ms)}"


def _last_failure(item: admin_pb2.Invocation) -> str:
    if not item.last_failure:
        return ""
    times = f" ({item.retry_count} times in a row)" if item.retry_count > 1 else ""
    return f"{item.last_failure_code}: {one_line(item.last_failure, RESULT_CHARACTERS_MAX)}{times}"

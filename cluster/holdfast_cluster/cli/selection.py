"""Which invocations a command is about: its filter options, and reading all pages that match."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from holdfast_cluster.cli.connection import Connection
from holdfast_cluster.cli.durations import DurationType, now_ms
from holdfast_cluster.cli.output import enum_name
from holdfast_cluster.cli.progress import Progress

if TYPE_CHECKING:
    from holdfast_proto import admin_pb2

F = TypeVar("F", bound=Callable[..., Any])

PAGE = 1_000
STATUSES = ("scheduled", "pending", "ready", "running", "backing_off", "suspended", "paused", "completed")


def filtered(function: F) -> F:
    """The filter options, in the order in which help shows them. Together they narrow."""
    options = [
        click.option("--service", metavar="NAME", help="Only those of this service."),
        click.option("--handler", metavar="NAME", help="Only those of this handler."),
        click.option("--key", metavar="TEXT", help="Only those of this key."),
        click.option("--status", "statuses", multiple=True, type=click.Choice(STATUSES), help="Repeatable."),
        click.option("--deployment", metavar="ID", help="Only those pinned to this deployment."),
        click.option("--since", type=DurationType(), help="Only those started within this time, like 10m."),
        click.option("--until", type=DurationType(), help="Only those started longer ago than this, like 1d."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


@dataclass(frozen=True)
class Selection:
    """Empty fields select everything."""

    service: str = ""
    handler: str = ""
    key: str = ""
    statuses: tuple[str, ...] = ()
    deployment: str = ""
    created_after_ms: int = 0
    created_before_ms: int = 0

    @staticmethod
    def of(filters: Mapping[str, Any]) -> Selection:
        """From the options of `filtered`."""
        since, until = filters["since"], filters["until"]
        now = now_ms()
        return Selection(
            service=filters["service"] or "",
            handler=filters["handler"] or "",
            key=filters["key"] or "",
            statuses=tuple(filters["statuses"]),
            deployment=filters["deployment"] or "",
            created_after_ms=now - round(since * 1000) if since is not None else 0,
            created_before_ms=now - round(until * 1000) if until is not None else 0,
        )

    @property
    def is_everything(self) -> bool:
        return self == Selection()

    def request(self, created_after_ms: int, page_token: str) -> admin_pb2.ListInvocationsRequest:
        from holdfast_proto import admin_pb2

        return admin_pb2.ListInvocationsRequest(
            service=self.service,
            handler=self.handler,
            key=self.key,
            statuses=[admin_pb2.InvocationStatus.Value(name.upper()) for name in self.statuses],
            deployment_id=self.deployment,
            created_after_ms=max(created_after_ms, self.created_after_ms),
            created_before_ms=self.created_before_ms,
            page_size=PAGE,
            page_token=page_token,
        )


def newest(node: Connection, selection: Selection, limit: int) -> tuple[list[admin_pb2.Invocation], bool]:
    """The newest ``limit`` that match, newest first, and whether there are more.

    The node lists by id, so all its pages are read; once enough are at hand, it is only asked for newer ones."""
    kept: list[tuple[int, str, admin_pb2.Invocation]] = []
    more, token, seen = False, "", 0
    with Progress() as progress:
        while True:
            oldest = kept[0][0] if len(kept) == limit else 0
            if oldest and selection.created_before_ms and oldest >= selection.created_before_ms:
                break
            answer = node.ask(node.admin.ListInvocations, selection.request(oldest, token))
            for item in answer.invocations:
                heapq.heappush(kept, (item.created_at_ms, item.id, item))
                if len(kept) > limit:
                    heapq.heappop(kept)
                    more = True
            seen += len(answer.invocations)
            token = answer.next_page_token
            if not token:
                break
            more = more or len(kept) == limit
            progress.show(f"reading invocations: {seen:,}")
    return [item for _, _, item in sorted(kept, reverse=True, key=lambda entry: entry[:2])], more


def matching_ids(node: Connection, selection: Selection) -> Iterator[str]:
    token = ""
    while True:
        answer = node.ask(node.admin.ListInvocations, selection.request(0, token))
        yield from (item.id for item in answer.invocations)
        token = answer.next_page_token
        if not token:
            return


def status_name(item: admin_pb2.Invocation) -> str:
    from holdfast_proto import admin_pb2

    if item.status == admin_pb2.COMPLETED and item.failed:
        return "failed"
    return enum_name(admin_pb2.InvocationStatus.DESCRIPTOR, item.status)


def target_text(item: admin_pb2.Invocation) -> str:
    """As `holdfast call` takes it."""
    parts: Sequence[str] = (
        (item.service, item.key, item.handler) if item.HasField("key") else (item.service, item.handler)
    )
    return "/".join(parts)

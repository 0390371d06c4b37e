"""Lists of invocations: all partitions, filtered, a page at a time.

Order: partition by partition, by id within each. Ids of fresh invocations begin with their time, so those come oldest
first; ids that were computed (workflow runs, idempotency keys) are spread among them. The order never changes, so a
page token, which names the place of the last row that was looked at, stays good whatever happens in between, with
other filters too. Whoever wants the newest first has to read all pages: the tables can't know all orders.

The work per page is bounded by rows looked at, not by rows found: a page may come with few invocations or none and a
token all the same. Every few hundred rows the event loop gets its turn, because it also serves everybody else.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from holdfast_cluster.admin_error import InvalidRequest
from holdfast_cluster.invocation_view import STATUS, invocation_message, waiting_briefly
from holdfast_partition_processor import tables as t
from holdfast_partition_processor.ids import partition_key_of, partition_of
from holdfast_partition_processor.invocation import Invocation, Status
from holdfast_partition_processor.tables import Storage
from holdfast_proto import admin_pb2

PAGE_DEFAULT = 100
PAGE_MAX = 1_000
ROWS_PER_PAGE_MAX = 20_000
"""Rows looked at for one page: some 100 ms of a core."""
ROWS_PER_TURN = 250
"""Rows looked at before the event loop goes on with other things: about a millisecond."""
TOKEN_CHARACTERS_MAX = 200

_ALL, _RUNNING = b"i", b"r"
_STATUSES = frozenset(admin_pb2.InvocationStatus.values()) - {admin_pb2.INVOCATION_STATUS_UNSPECIFIED}


class HoldsTables(Protocol):
    @property
    def storage(self) -> Storage: ...


@dataclass(frozen=True, slots=True)
class Position:
    """The next row to look at. ``running``: of the RUNNING table, which a filter for running ones reads instead."""

    partition: int = 0
    sub: bytes = b""
    running: bool = False

    def token(self) -> str:
        kind = _RUNNING if self.running else _ALL
        return base64.urlsafe_b64encode(kind + self.partition.to_bytes(2, "big") + self.sub).rstrip(b"=").decode()

    @staticmethod
    def of_token(token: str) -> Position:
        """Raises InvalidRequest."""
        try:
            padded = token + "=" * (-len(token) % 4)
            raw = base64.b64decode(padded, altchars=b"-_", validate=True) if len(token) <= TOKEN_CHARACTERS_MAX else b""
        except (binascii.Error, ValueError):
            raw = b""
        if len(raw) < 3 or raw[:1] not in (_ALL, _RUNNING):
            raise InvalidRequest(f"page_token {token[:40]!r} is not one that ListInvocations gave")
        return Position(int.from_bytes(raw[1:3], "big"), raw[3:], raw[:1] == _RUNNING)


async def list_invocations(
    partitions: Mapping[int, HoldsTables], request: admin_pb2.ListInvocationsRequest
) -> admin_pb2.ListInvocationsResponse:
    """Raises InvalidRequest."""
    size = page_size(request.page_size)
    matches = _filter(request)
    only = _only_partition(request, len(partitions))
    position = _start(request, only)
    found: list[admin_pb2.Invocation] = []
    budget = ROWS_PER_PAGE_MAX
    while position.partition < len(partitions) and (only is None or position.partition == only):
        storage = partitions[position.partition].storage
        limit = min(ROWS_PER_TURN, budget)
        rows = _next_rows(storage, position, limit)
        for sub, row in rows:
            if len(found) == size:
                return admin_pb2.ListInvocationsResponse(
                    invocations=found, next_page_token=Position(position.partition, sub, position.running).token()
                )
            if row is not None and matches(row):
                found.append(invocation_message(row, position.partition, waiting_briefly(row, storage)))
        if rows:
            position = Position(position.partition, rows[-1][0] + b"\x00", position.running)
        if len(rows) < limit:
            position = Position(position.partition + 1, b"", position.running)
        budget -= len(rows)
        if budget <= 0:
            return admin_pb2.ListInvocationsResponse(invocations=found, next_page_token=position.token())
        await asyncio.sleep(0)
    return admin_pb2.ListInvocationsResponse(invocations=found)


async def count_pinned(storages: Sequence[Storage], deployment_id: str) -> int:
    """How many invocations that are not completed run at this deployment and at no other."""
    count = 0
    for storage in storages:
        async for rows in _in_turns(storage):
            count += sum(row.deployment == deployment_id and row.status is not Status.COMPLETED for row in rows)
    return count


def page_size(asked: int) -> int:
    """Raises InvalidRequest."""
    if asked > PAGE_MAX:
        raise InvalidRequest(f"page_size is {asked:,}, the limit is {PAGE_MAX:,}")
    return asked or PAGE_DEFAULT


def _start(request: admin_pb2.ListInvocationsRequest, only: int | None) -> Position:
    if request.page_token:
        return Position.of_token(request.page_token)
    running = bool(request.statuses) and set(request.statuses) <= {admin_pb2.RUNNING, admin_pb2.READY}
    return Position(only or 0, running=running)


def _only_partition(request: admin_pb2.ListInvocationsRequest, partitions: int) -> int | None:
    """All invocations of one key live in one partition."""
    if request.service and request.key:
        return partition_of(partition_key_of(request.service, request.key), partitions)
    return None


def _filter(request: admin_pb2.ListInvocationsRequest) -> Callable[[Invocation], bool]:
    after, before = request.created_after_ms, request.created_before_ms
    if before and after >= before:
        raise InvalidRequest(f"created_after_ms is {after}, it must be less than created_before_ms, which is {before}")
    for number in request.statuses:
        if number not in _STATUSES:
            known = ", ".join(admin_pb2.InvocationStatus.keys()[1:])
            raise InvalidRequest(f"statuses holds {number}, known are {known}")
    statuses = {status for status, shown in STATUS.items() if shown in request.statuses}
    any_status = not request.statuses
    service, handler, key, deployment = request.service, request.handler, request.key, request.deployment_id

    def matches(row: Invocation) -> bool:
        target = row.target
        return (
            (not service or target.service == service)
            and (any_status or row.status in statuses)
            and (not handler or target.handler == handler)
            and (not key or target.key == key)
            and (not deployment or row.deployment == deployment)
            and row.created_ms >= after
            and (not before or row.created_ms < before)
        )

    return matches


def _next_rows(storage: Storage, position: Position, limit: int) -> list[tuple[bytes, Invocation | None]]:
    if not position.running:
        return [(sub, row) for sub, row in storage.scan(t.INVOCATIONS, b"", position.sub, limit)]
    subs = [sub for sub, _ in storage.scan(t.RUNNING, b"", position.sub, limit)]
    return [(sub, storage.get(t.INVOCATIONS, b"", t.sortable_id(sub))) for sub in subs]


async def _in_turns(storage: Storage) -> AsyncIterator[Iterator[Invocation]]:
    """All rows, some at a time, with the event loop's other work in between."""
    start = b""
    while rows := list(storage.scan(t.INVOCATIONS, b"", start, ROWS_PER_TURN)):
        yield (row for _, row in rows)
        start = rows[-1][0] + b"\x00"
        await asyncio.sleep(0)

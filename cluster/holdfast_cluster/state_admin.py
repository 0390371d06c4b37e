"""Reading and editing the state of virtual objects and workflows.

One answer is bounded in entries and in bytes; the page token names what comes next. A list of all keys shows the names
of their state and no values. An edit is a command like any other: all of it is applied at once, in order with
everything else that happens to the key. A handler that runs at that moment has its state already and goes on with it.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Protocol

from holdfast_cluster.admin_error import InvalidRequest, NotFound, Refused
from holdfast_cluster.command_reply import CommandTaker, ask
from holdfast_cluster.invocation_listing import page_size
from holdfast_partition_processor import tables as t
from holdfast_partition_processor.catalog import Catalog
from holdfast_partition_processor.command import EditState, ServiceType
from holdfast_partition_processor.ids import partition_key_of, partition_of
from holdfast_partition_processor.tables import Storage
from holdfast_proto import admin_pb2

ANSWER_BYTES_MAX = 2 * 1024 * 1024
"""Values per answer; the default limit of gRPC clients is 4 MiB. One value that is larger comes alone."""
NAMES_PER_KEY_MAX = 20
"""In the list of all keys."""
VALUE_BYTES_MAX = 32 * 1024 * 1024
"""As for a value that a handler sets: that of a frame."""
NAME_BYTES_MAX = 4_096
EDITS_MAX = 1_000


class StatePartition(CommandTaker, Protocol):
    @property
    def storage(self) -> Storage: ...


class StateAdmin:
    def __init__(self, processors: Mapping[int, StatePartition]) -> None:
        self._processors = processors

    def list_state(self, catalog: Catalog, request: admin_pb2.ListStateRequest) -> admin_pb2.ListStateResponse:
        """Raises InvalidRequest, and NotFound for a service that is unknown and has no state either."""
        if not request.service:
            raise InvalidRequest("service is empty; state is listed by service")
        size = page_size(request.page_size)
        if request.key:
            return self._of_key(request, size)
        answer = self._all_keys(request, size)
        if not answer.objects and not request.page_token:
            _check_keyed(catalog, request.service)
        return answer

    async def edit_state(self, catalog: Catalog, request: admin_pb2.EditStateRequest) -> None:
        """Raises InvalidRequest, NotFound, Refused, NoRoom, Unavailable."""
        _check_keyed(catalog, request.service)
        _check_edit(request)
        changes = tuple((entry.name.encode(), entry.value) for entry in request.set)
        gone = tuple(name.encode() for name in request.clear)
        await ask(
            self._partition(request.service, request.key),
            lambda number: EditState(request.service, request.key, changes, gone, request.replace, number),
        )

    def _partition(self, service: str, key: str) -> StatePartition:
        return self._processors[partition_of(partition_key_of(service, key), len(self._processors))]

    def _of_key(self, request: admin_pb2.ListStateRequest, size: int) -> admin_pb2.ListStateResponse:
        storage = self._partition(request.service, request.key).storage
        shown = admin_pb2.ObjectState(key=request.key)
        left = ANSWER_BYTES_MAX
        _, start = _decode_token(request.page_token)
        for name, value in storage.scan(t.STATE, t.object_group(request.service, request.key), start, size + 1):
            if len(shown.entries) == size or (shown.entries and len(value) > left):
                return admin_pb2.ListStateResponse(objects=[shown], next_page_token=_token(0, name))
            left -= len(value)
            shown.entries.add(name=_text(name), value=value)
        return admin_pb2.ListStateResponse(objects=[shown] if shown.entries else [])

    def _all_keys(self, request: admin_pb2.ListStateRequest, size: int) -> admin_pb2.ListStateResponse:
        answer = admin_pb2.ListStateResponse()
        prefix = t.service_prefix(request.service)
        first, start = _decode_token(request.page_token)
        for partition in range(first, len(self._processors)):
            storage = self._processors[partition].storage
            for group in storage.scan_groups(t.STATE, prefix, start):
                if len(answer.objects) == size:
                    answer.next_page_token = _token(partition, group)
                    return answer
                names = [name for name, _ in storage.scan(t.STATE, group, limit=NAMES_PER_KEY_MAX)]
                entries = [admin_pb2.StateEntry(name=_text(name)) for name in names]
                answer.objects.add(key=t.key_of_group(request.service, group), entries=entries)
            start = b""
        return answer


def _check_keyed(catalog: Catalog, service: str) -> None:
    registered = catalog.services.get(service)
    if registered is None:
        raise NotFound(f"service {service[:80]!r} is not registered")
    if registered.service.type is ServiceType.SERVICE:
        raise Refused(f"{service!r} is a plain service: only virtual objects and workflows have state")


def _check_edit(request: admin_pb2.EditStateRequest) -> None:
    if not request.key:
        raise InvalidRequest("key is empty; state is edited one key at a time")
    edits = len(request.set) + len(request.clear)
    if edits > EDITS_MAX:
        raise InvalidRequest(f"set and clear have {edits:,} entries, the limit is {EDITS_MAX:,}")
    if not edits and not request.replace:
        raise InvalidRequest("nothing to do: set and clear are empty, and replace is not set")
    names = [entry.name for entry in request.set]
    for name in [*names, *request.clear]:
        if not 1 <= len(name.encode()) <= NAME_BYTES_MAX:
            size = len(name.encode())
            raise InvalidRequest(f"state name {name[:40]!r} has {size:,} bytes, allowed are 1 to {NAME_BYTES_MAX:,}")
    twice = {name for name in names if names.count(name) > 1 or name in request.clear} if len(names) else set()
    if twice:
        raise InvalidRequest(f"state {min(twice)!r} is named twice in set and clear")
    for entry in request.set:
        if len(entry.value) > VALUE_BYTES_MAX:
            raise InvalidRequest(
                f"value of state {entry.name!r} has {len(entry.value):,} bytes, the limit is {VALUE_BYTES_MAX:,}"
            )


def _text(name: bytes) -> str:
    """SDKs name state by strings, but the protocol has bytes."""
    return name.decode(errors="backslashreplace")


def _token(partition: int, start: bytes) -> str:
    return base64.urlsafe_b64encode(partition.to_bytes(2, "big") + start).rstrip(b"=").decode()


def _decode_token(token: str) -> tuple[int, bytes]:
    """Partition and where to go on. Raises InvalidRequest."""
    if not token:
        return 0, b""
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) < 3:
        raise InvalidRequest(f"page_token {token[:40]!r} is not one that ListState gave")
    return int.from_bytes(raw[:2], "big"), raw[2:]

"""The tables of one partition: what is stored under which key, over any `Storage`.

Each row has a two-part key: ``group`` holds what is read together (all journal frames of an invocation, all state
of an object), ``sub`` orders and names the rows within it. Tables that are scanned in order as a whole (timers,
outbox, registry) have one group, the empty one.

====================  =====================  ==============================  =================================
table                 group                  sub                             row
====================  =====================  ==============================  =================================
INVOCATIONS           b""                    sortable invocation id          Invocation
JOURNAL               invocation id          index u32                       Frame (raw frame, time)
COMPLETED_COMMANDS    invocation id          completion id u32, or signal    index of its (last) notification
OUTPUT                b""                    sortable invocation id          value bytes of a completed one
STATE                 object                 state key                       value bytes
PROMISES              object                 promise name                    Promise
RUNNING               b""                    invocation id                   empty; status is INVOKED
LOCKS                 b""                    object                          Lock: who holds it, how many wait
INBOX                 object                 sequence u64                    invocation id
CHILDREN              invocation id          completion id u32               id of the invocation called
TIMERS                b""                    due u64, kind u8, id, extra u32 empty
OUTBOX                target partition u16   sequence u64                    Message
DEDUP                 b""                    source partition u16            highest sequence applied
DEPLOYMENTS           b""                    deployment id                   Deployment
META                  b""                    name                            int: counters of inbox and outbox
====================  =====================  ==============================  =================================

``object`` is service and key, each behind its length. All numbers are big-endian, so that they sort.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from holdfast_partition_processor.command import Deployment, Failure, Message, ResponseSink
from holdfast_partition_processor.invocation import Invocation

V = TypeVar("V")


class Frame(msgspec.Struct, frozen=True, array_like=True):
    """One journal entry: the frame with its header, exactly as it is replayed."""

    raw: bytes
    appended_ms: int


class Promise(msgspec.Struct, frozen=True, array_like=True):
    """``value`` and ``failure`` both None: pending, with those who wait for it."""

    value: bytes | None = None
    failure: Failure | None = None
    waiting: tuple[ResponseSink, ...] = ()


class Lock(msgspec.Struct, frozen=True, array_like=True):
    """``waiting``: rows in the object's inbox, so that freeing an object that nobody waits for scans nothing."""

    holder: bytes
    waiting: int = 0


@dataclass(frozen=True)
class Table(Generic[V]):
    """A table's name in the storage and the type of its rows."""

    name: str
    row: Any

    def encoder(self) -> msgspec.msgpack.Encoder:
        return msgspec.msgpack.Encoder()

    def decoder(self) -> msgspec.msgpack.Decoder[V]:
        return msgspec.msgpack.Decoder(self.row)


INVOCATIONS: Table[Invocation] = Table("invocations", Invocation)
JOURNAL: Table[Frame] = Table("journal", Frame)
COMPLETED_COMMANDS: Table[int] = Table("completed_commands", int)
OUTPUT: Table[bytes] = Table("output", bytes)
STATE: Table[bytes] = Table("state", bytes)
PROMISES: Table[Promise] = Table("promises", Promise)
RUNNING: Table[bytes] = Table("running", bytes)
LOCKS: Table[Lock] = Table("locks", Lock)
INBOX: Table[bytes] = Table("inbox", bytes)
CHILDREN: Table[bytes] = Table("children", bytes)
TIMERS: Table[bytes] = Table("timers", bytes)
OUTBOX: Table[Message] = Table("outbox", Message)
DEDUP: Table[int] = Table("dedup", int)
DEPLOYMENTS: Table[Deployment] = Table("deployments", Deployment)
META: Table[int] = Table("meta", int)

ALL_TABLES: tuple[Table[Any], ...] = (
    INVOCATIONS, JOURNAL, COMPLETED_COMMANDS, OUTPUT, STATE, PROMISES, RUNNING, LOCKS, INBOX, CHILDREN, TIMERS, OUTBOX,
    DEDUP, DEPLOYMENTS, META,
)  # fmt: skip


class Storage(Protocol):
    """Rows by table, group and sub key. Rows are immutable values: a change is a `put` of another one."""

    def get(self, table: Table[V], group: bytes, sub: bytes) -> V | None: ...

    def put(self, table: Table[V], group: bytes, sub: bytes, row: V) -> None: ...

    def delete(self, table: Table[Any], group: bytes, sub: bytes) -> None:
        """Deleting what is not there is allowed."""

    def delete_group(self, table: Table[Any], group: bytes) -> None: ...

    def scan(
        self, table: Table[V], group: bytes, start: bytes = b"", limit: int | None = None
    ) -> Iterator[tuple[bytes, V]]:
        """(sub, row) in ascending order of sub, from ``start`` on (inclusive), as of now: what is put or deleted
        while the caller iterates may or may not be seen."""

    def scan_groups(self, table: Table[Any], prefix: bytes, start: bytes = b"") -> Iterator[bytes]:
        """The groups that begin with ``prefix`` and hold at least one row, ascending, from ``start`` on."""


def sortable_id(invocation_id: bytes) -> bytes:
    """The invocation id with its time-ordered part first: fresh invocations are then appended at one place of the
    tree instead of all over it. `from_sortable_id` is its inverse."""
    return invocation_id[8:] + invocation_id[:8]


def from_sortable_id(sub: bytes) -> bytes:
    return sub[16:] + sub[:16]


def object_group(service: str, key: str) -> bytes:
    """Group of one virtual object or workflow key."""
    return service_prefix(service) + key.encode()


def service_prefix(service: str) -> bytes:
    """Prefix of the groups of all keys of a service."""
    raw = service.encode()
    return len(raw).to_bytes(4, "big") + raw


def key_of_group(service: str, group: bytes) -> str:
    return group[len(service_prefix(service)) :].decode()

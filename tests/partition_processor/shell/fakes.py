"""Small stand-ins for what stands around the shell: a log, an invoker, somebody who waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from holdfast_log.types import Entry, EntryKind, LogConsumer, LogError, NotLeader
from holdfast_partition_processor.action import (
    EffectsStored,
    ForwardNotifications,
    InvocationCompleted,
    Reply,
    StartAttempt,
)
from holdfast_partition_processor.command import (
    Batch,
    Command,
    Effects,
    HandlerType,
    Invoke,
    StoredFrame,
    Target,
    decode_batch,
)
from holdfast_partition_processor.leadership import Host
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import MessageType


class FakeLog:
    """A log group of one voter. What is proposed is committed by `commit`, or by itself when ``automatic``."""

    def __init__(self, partition: int = 0, entries: list[Entry] | None = None, automatic: bool = False) -> None:
        self.partition = partition
        self.entries: list[Entry] = [] if entries is None else entries
        self.automatic = automatic
        self.term = self.entries[-1].term if self.entries else 0
        self.is_leader = False
        self.writable = True
        self.refuse: LogError | None = None
        self.first_index = 1
        self.trimmed = 0
        self.proposed: list[Entry] = []
        self.consumer: LogConsumer | None = None
        self._handed = 0
        self._scheduled = False

    @property
    def last_index(self) -> int:
        return len(self.entries) + len(self.proposed)

    @property
    def commit_index(self) -> int:
        return len(self.entries)

    def start(self, consumer: LogConsumer, applied_index: int) -> None:
        self.consumer = consumer
        self._handed = applied_index

    def propose(self, payload: bytes) -> tuple[int, int]:
        if self.refuse is not None:
            raise self.refuse
        if not self.is_leader:
            raise NotLeader(self.partition, None)
        return self._append(EntryKind.NORMAL, payload)

    def trim(self, up_to_index: int) -> None:
        self.trimmed = up_to_index

    # ------------------------------------------------------------ for the test

    def run(self) -> None:
        """What a node does at its start: hand over what is there, then lead."""
        self.replay()
        self.elect()
        if not self.automatic:
            self.commit()

    def replay(self) -> None:
        assert self.consumer is not None
        if self._handed < len(self.entries):
            handed, self._handed = self._handed, len(self.entries)
            self.consumer.on_committed(self.entries[handed:])

    def elect(self) -> None:
        assert self.consumer is not None
        self.term += 1
        self.is_leader = True
        self.consumer.on_leader(self.term)
        self._append(EntryKind.EMPTY, b"")

    def depose(self, leader: str | None = None) -> None:
        assert self.consumer is not None
        self.is_leader = False
        self.proposed = []
        self.consumer.on_follower(self.term + 1, leader)

    def commit(self) -> None:
        self.entries += self.proposed
        self.proposed = []
        self.replay()

    def append_foreign(self, term: int, payload: bytes, kind: EntryKind = EntryKind.NORMAL) -> None:
        """What another leader had committed."""
        self.term = max(self.term, term)
        self.entries.append(Entry(term, len(self.entries) + 1, kind, payload))
        self.replay()

    def batches(self) -> list[Batch]:
        return [decode_batch(entry.payload) for entry in self.entries if entry.kind is EntryKind.NORMAL]

    def commands(self) -> list[Command]:
        return [command for batch in self.batches() for command in batch.commands]

    def _append(self, kind: EntryKind, payload: bytes) -> tuple[int, int]:
        entry = Entry(self.term, self.last_index + 1, kind, payload)
        self.proposed.append(entry)
        if self.automatic and not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._commit_turn)
        return entry.term, entry.index

    def _commit_turn(self) -> None:
        self._scheduled = False
        self.commit()


class FakeInvoker:
    """Runs nothing; ``respond`` may answer an attempt with commands."""

    def __init__(self, host: Host, respond: Callable[[Host, StartAttempt], None] | None = None) -> None:
        self.host = host
        self.started: list[StartAttempt] = []
        self.aborted: list[bytes] = []
        self.forwarded: list[ForwardNotifications] = []
        self.credited: list[EffectsStored] = []
        self.closed = False
        self._respond = respond

    def start(self, action: StartAttempt) -> None:
        self.started.append(action)
        if self._respond is not None:
            self._respond(self.host, action)

    def abort(self, invocation_id: bytes) -> None:
        self.aborted.append(invocation_id)

    def forward(self, action: ForwardNotifications) -> None:
        self.forwarded.append(action)

    def stored(self, action: EffectsStored) -> None:
        self.credited.append(action)

    async def close(self) -> None:
        self.closed = True


class FakeWaiter:
    def __init__(self, fails: bool = False) -> None:
        self.replies: list[Reply] = []
        self.results: list[InvocationCompleted] = []
        self.errors: list[LogError] = []
        self._fails = fails

    def replied(self, reply: Reply) -> None:
        self.replies.append(reply)
        self._fail()

    def completed(self, result: InvocationCompleted) -> None:
        self.results.append(result)
        self._fail()

    def lost(self, error: LogError) -> None:
        self.errors.append(error)
        self._fail()

    def _fail(self) -> None:
        if self._fails:
            raise RuntimeError("a waiter that fails")


def invocation_id(number: int, key: int = 0) -> bytes:
    return key.to_bytes(8, "big") + number.to_bytes(16, "big")


def invoke(number: int, *, key: int = 0, request: int = 0, retention_ms: int = 60_000, at_ms: int = 0) -> Invoke:
    return Invoke(
        invocation_id(number, key),
        Target("greeter", "greet", None, HandlerType.SERVICE),
        pb.InputCommandMessage(value=pb.Value(content=b"Ada")).SerializeToString(),
        completion_retention_ms=retention_ms,
        journal_retention_ms=retention_ms,
        execute_at_ms=at_ms,
        request=request,
    )


def output(action: StartAttempt, value: bytes = b"Hello Ada") -> Effects:
    body = pb.OutputCommandMessage(value=pb.Value(content=value)).SerializeToString()
    frames = (StoredFrame(MessageType.OUTPUT, body), StoredFrame(MessageType.END, b""))
    return Effects(action.invocation.id, action.invocation.attempt, frames)


async def turns(count: int = 3) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.001)

"""Two partitions with real state machines, stores, timers and outboxes, over fake logs, and handlers that do a bit of
everything. They can be killed and started again."""

from __future__ import annotations

import asyncio
import random
import shutil
import time
from functools import partial
from pathlib import Path

from holdfast_log.types import Entry, EntryKind, NotLeader
from holdfast_partition_processor.action import InvocationCompleted, StartAttempt
from holdfast_partition_processor.checkpoints import CheckpointOptions
from holdfast_partition_processor.command import (
    AttemptFailed,
    Effects,
    Failure,
    HandlerType,
    Ingest,
    Invoke,
    ResolvedCall,
    Retry,
    StoredFrame,
    Target,
    decode_batch,
)
from holdfast_partition_processor.ids import invocation_id_of, partition_of_id
from holdfast_partition_processor.leadership import Host, LeaderDuties
from holdfast_partition_processor.memory_storage import MemoryStorage, digest
from holdfast_partition_processor.processor import PartitionProcessor, ProcessorOptions
from holdfast_partition_processor.state_machine import StateMachine
from holdfast_partition_processor.store import LmdbStore
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import MessageType
from tests.partition_processor.shell.fakes import FakeInvoker, FakeLog, output, until

PARTITIONS = 2
RETENTION_MS = 600_000
SERVICE = Target("greeter", "greet", None, HandlerType.SERVICE)
OPTIONS = ProcessorOptions(checkpoints=CheckpointOptions(seconds=0.01, pending_bytes=100_000, log_tail_entries=0))


def clock_ms() -> int:
    return time.time_ns() // 1_000_000


class Twin:
    """Applies a log as it grows and never crashes; notes every result that anybody is given."""

    def __init__(self, partition: int) -> None:
        self.storage = MemoryStorage()
        self.results: dict[bytes, set[bytes | None]] = {}
        self.applied = 0
        self._machine = StateMachine(self.storage, partition, PARTITIONS)

    def follow(self, entries: list[Entry]) -> None:
        """``entries`` is the whole log."""
        self.apply(entries[self.applied :])

    def apply(self, entries: list[Entry]) -> None:
        for entry in entries:
            assert entry.index == self.applied + 1
            self.applied = entry.index
            if entry.kind is not EntryKind.NORMAL:
                continue
            for action in self._machine.apply(entry.index, decode_batch(entry.payload)):
                if type(action) is InvocationCompleted:
                    self.results.setdefault(action.id, set()).add(action.value)


def some_invoke(rng: random.Random) -> Invoke:
    target, again = SERVICE, None
    if rng.random() < 0.4:
        key = f"key{rng.randrange(5)}"
        target = Target("counter", "add", key, HandlerType.EXCLUSIVE)
    if rng.random() < 0.2:
        again = f"once{rng.randrange(50)}"
    return Invoke(
        invocation_id_of(target, again, rng.randbytes(24)),
        target,
        pb.InputCommandMessage(value=pb.Value(content=rng.randbytes(20))).SerializeToString(),
        idempotency_key=again,
        execute_at_ms=clock_ms() + rng.randrange(30) if rng.random() < 0.2 else 0,
        completion_retention_ms=RETENTION_MS,
        journal_retention_ms=rng.choice((0, RETENTION_MS)),
    )


class Handlers:
    """What user code would do: end, sleep, call, fail; now or a little later."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    def respond(self, host: Host, action: StartAttempt) -> None:
        loop = asyncio.get_running_loop()
        command = self._answer(action)

        def send() -> None:
            try:
                host.submit(command)
            except NotLeader:
                pass  # the handler of a process that died meanwhile

        if self.rng.random() < 0.5:
            loop.call_soon(send)
        else:
            loop.call_later(self.rng.random() * 0.004, send)

    def _answer(self, action: StartAttempt) -> Effects | AttemptFailed:
        """The first attempt does something, one that has a journal ends."""
        row = action.invocation
        kind = self.rng.randrange(8)
        if row.attempt < 4 and kind == 0:
            return AttemptFailed(row.id, row.attempt, Failure(500, "try again"), Retry(clock_ms() + 3))
        if row.commands > 1 or kind < 4:
            state = pb.SetStateCommandMessage(key=b"k" * self.rng.randrange(1, 400), value=pb.Value(content=row.id))
            ending = output(action, self.rng.randbytes(8))
            if row.target.type is not HandlerType.EXCLUSIVE:
                return ending
            frames = (StoredFrame(MessageType.SET_STATE, state.SerializeToString()), *ending.frames)
            return Effects(row.id, row.attempt, frames)
        if kind == 4:
            sleep = pb.SleepCommandMessage(wake_up_time=clock_ms() + self.rng.randrange(20), result_completion_id=1)
            return self._suspend(row.id, row.attempt, StoredFrame(MessageType.SLEEP, sleep.SerializeToString()), 1)
        resolved = ResolvedCall(SERVICE, RETENTION_MS, RETENTION_MS)
        if kind == 5:
            send = pb.OneWayCallCommandMessage(
                service_name="greeter", handler_name="greet", invocation_id_notification_idx=1
            )
            frame = StoredFrame(MessageType.ONE_WAY_CALL, send.SerializeToString(), resolved)
            return Effects(row.id, row.attempt, (frame, *output(action, self.rng.randbytes(8)).frames))
        call = pb.CallCommandMessage(
            service_name="greeter", handler_name="greet", invocation_id_notification_idx=1, result_completion_id=2
        )
        return self._suspend(row.id, row.attempt, StoredFrame(MessageType.CALL, call.SerializeToString(), resolved), 2)

    def _suspend(self, id: bytes, attempt: int, frame: StoredFrame, waits_for: int) -> Effects:
        suspension = pb.SuspensionMessage(waiting_completions=[waits_for]).SerializeToString()
        return Effects(id, attempt, (frame, StoredFrame(MessageType.SUSPENSION, suspension)))


class World:
    def __init__(self, directory: Path, seed: int) -> None:
        self.rng = random.Random(seed)
        self.handlers = Handlers(self.rng)
        self.directory = directory
        self.life = 0
        self.entries: list[list[Entry]] = [[] for _ in range(PARTITIONS)]
        self.twins = [Twin(partition) for partition in range(PARTITIONS)]
        self.logs: list[FakeLog] = []
        self.processors: list[PartitionProcessor] = []
        self.stores: list[LmdbStore] = []
        self.invoked: set[bytes] = set()

    def start(self) -> None:
        """From what is on the disk. The log's entries are durable, the tables behind them."""
        self.logs, self.processors, self.stores = [], [], []
        for partition in range(PARTITIONS):
            store = LmdbStore.open(self._path(partition), partition=partition)
            log = FakeLog(partition, self.entries[partition], automatic=True)
            processor = PartitionProcessor(
                log,
                store,
                partitions=PARTITIONS,
                clock_ms=clock_ms,
                duties=self._duties,
                on_deployments=lambda _: None,
                options=OPTIONS,
            )
            processor.start()
            self.stores.append(store)
            self.logs.append(log)
            self.processors.append(processor)
        for log in self.logs:
            log.run()

    async def kill(self) -> None:
        """What a SIGKILL leaves: the files as they are at this moment, perhaps in the midst of a commit, and of what
        was proposed as much as had reached the disk."""
        self.life += 1
        for partition in range(PARTITIONS):
            log = self.logs[partition]
            self._path(partition).mkdir(parents=True)
            shutil.copy(self._path(partition, self.life - 1) / "data.mdb", self._path(partition))
            self.entries[partition] = [*log.entries, *log.proposed[: self.rng.randrange(len(log.proposed) + 1)]]
            log.automatic = False
            log.entries = []
            self.processors[partition]._checkpoints.stop()
        for processor in self.processors:  # of the dead process only the threads and handles are to be cleared away
            await processor.close()

    def check_against_twins(self) -> None:
        for partition, twin in enumerate(self.twins):
            twin.follow(self.entries[partition])
            assert twin.applied == self.processors[partition].applied_index
            assert digest(self.stores[partition]) == digest(twin.storage)

    async def load(self, count: int) -> None:
        """New invocations, some of them again, some at once, some after a moment."""
        await until(lambda: all(processor.is_leading for processor in self.processors))
        for _ in range(count):
            command = some_invoke(self.rng)
            partition = partition_of_id(command.id, PARTITIONS)
            self.processors[partition].submit(command, durable=partial(self.invoked.add, command.id))
            if self.rng.random() < 0.2:
                await asyncio.sleep(self.rng.choice((0, 0, 0.001)))

    def unfinished(self) -> list[bytes]:
        return [id for id in self.invoked if self.processors[partition_of_id(id, PARTITIONS)].result(id) is None]

    async def close(self) -> None:
        for processor in self.processors:
            await processor.close()

    def _path(self, partition: int, life: int | None = None) -> Path:
        return self.directory / f"life{self.life if life is None else life}" / f"partition{partition}"

    def _duties(self, processor: PartitionProcessor) -> LeaderDuties:
        def courier(target: int, ingest: Ingest, durable: object, failed: object) -> None:
            self.processors[target].submit(ingest, durable, failed)  # type: ignore[arg-type]

        return LeaderDuties(
            processor, clock_ms=clock_ms, invoker=lambda host: FakeInvoker(host, self.handlers.respond), courier=courier
        )

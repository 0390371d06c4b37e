"""A node of two partitions over a real journal, to be killed: `python -m ... DIRECTORY SEED run|check`.

`run` takes invocations until it dies, and writes a line for each that was accepted ("A id") or has a result ("R id
result"). `check` finishes what is unfinished, then compares the tables with a replay of the whole log.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import uvloop

from holdfast_log import Entry, LogNode, NodeIdentity
from holdfast_partition_processor.action import InvocationCompleted, Reply
from holdfast_partition_processor.checkpoints import CheckpointOptions
from holdfast_partition_processor.command import Ingest
from holdfast_partition_processor.ids import partition_of_id
from holdfast_partition_processor.leadership import LeaderDuties
from holdfast_partition_processor.memory_storage import digest
from holdfast_partition_processor.processor import PartitionProcessor, ProcessorOptions
from holdfast_partition_processor.store import LmdbStore
from holdfast_partition_processor.tables import INVOCATIONS, OUTBOX, from_sortable_id
from tests.partition_processor.shell.fakes import FakeInvoker, until
from tests.partition_processor.shell.world import PARTITIONS, Handlers, Twin, clock_ms, some_invoke

OPTIONS = ProcessorOptions(
    checkpoints=CheckpointOptions(seconds=0.02, pending_bytes=200_000, log_tail_entries=1_000_000_000)
)
IN_FLIGHT = 50


class Waiter:
    def __init__(self) -> None:
        self.results = 0

    def replied(self, reply: Reply) -> None:
        raise AssertionError("nothing asked for a reply")

    def completed(self, result: InvocationCompleted) -> None:
        self.results += 1
        tell(f"R {result.id.hex()} {(result.value or b'').hex()}")

    def lost(self, error: Exception) -> None:
        """The process ends."""


class Node:
    def __init__(self, directory: Path, seed: int) -> None:
        self.directory = directory
        self.rng = random.Random(seed)
        self.handlers = Handlers(self.rng)
        self.processors: list[PartitionProcessor] = []

    async def open_log(self) -> LogNode:
        return await LogNode.open(
            self.directory / "log", identity=NodeIdentity("test", "node-1"), partitions=PARTITIONS
        )

    async def start(self) -> None:
        self.log = await self.open_log()
        self.log.on_fatal = lambda error: os._exit(70)
        for partition in range(PARTITIONS):
            processor = PartitionProcessor(
                self.log.group(partition),
                LmdbStore.open(self.directory / f"partition-{partition}", partition=partition),
                partitions=PARTITIONS,
                clock_ms=clock_ms,
                duties=self._duties,
                on_deployments=lambda _: None,
                on_fatal=lambda error: os._exit(71),
                options=OPTIONS,
            )
            processor.start()
            self.processors.append(processor)
        await self.log.start()
        await until(lambda: all(processor.is_leading for processor in self.processors))

    async def run(self) -> None:
        """Until killed."""
        await self.start()
        waiter, started = Waiter(), 0
        while True:
            command = some_invoke(self.rng)
            processor = self.processors[partition_of_id(command.id, PARTITIONS)]
            processor.wait_for(command.id, waiter)
            processor.submit(command, partial(tell, f"A {command.id.hex()}"))
            started += 1
            while started - waiter.results >= IN_FLIGHT or self.rng.random() < 0.1:  # noqa: ASYNC110 - a load, not a wait
                await asyncio.sleep(0.001)

    async def check(self) -> None:
        await self.start()
        storages = [processor.storage for processor in self.processors]
        await until(lambda: not any(True for s in storages for _ in s.scan_groups(OUTBOX, b"")), seconds=30)
        await until(self._all_completed, seconds=30)
        for processor, storage in zip(self.processors, storages, strict=True):
            for sub, _ in storage.scan(INVOCATIONS, b""):
                result = processor.result(from_sortable_id(sub))
                assert result is not None
                tell(f"R {result.id.hex()} {(result.value or b'').hex()}")
        await asyncio.sleep(0.1)  # the outbox reports
        digests = [(processor.applied_index, digest(processor.storage)) for processor in self.processors]
        for processor in self.processors:
            await processor.close()
        await self.log.close()
        again, replays = await self.open_log(), list[Replay]()
        for partition, (index, _) in enumerate(digests):
            replay = Replay(partition, index)
            again.group(partition).start(replay, 0)
            replays.append(replay)
        await again.start()
        for partition, ((index, expected), replay) in enumerate(zip(digests, replays, strict=True)):
            await until(replay.is_done)
            same = digest(replay.twin.storage) == expected
            tell(f"D {partition} {index} {'same' if same else 'differs'}")
        await again.close()

    def _all_completed(self) -> bool:
        return all(row.completed_ms for p in self.processors for _, row in p.storage.scan(INVOCATIONS, b""))

    def _duties(self, processor: PartitionProcessor) -> LeaderDuties:
        def courier(target: int, ingest: Ingest, durable: object, failed: object) -> None:
            self.processors[target].submit(ingest, durable, failed)  # type: ignore[arg-type]

        return LeaderDuties(
            processor,
            clock_ms=clock_ms,
            invoker=lambda host: FakeInvoker(host, self.handlers.respond),
            courier=courier,
        )


class Replay:
    """Applies a log from its first entry up to ``last``."""

    def __init__(self, partition: int, last: int) -> None:
        self.twin = Twin(partition)
        self._last = last

    def is_done(self) -> bool:
        return self.twin.applied == self._last

    def on_committed(self, entries: Sequence[Entry]) -> None:
        self.twin.apply([entry for entry in entries if entry.index <= self._last])

    def on_leader(self, term: int) -> None: ...
    def on_follower(self, term: int, leader: str | None) -> None: ...
    def on_writable(self) -> None: ...


def tell(line: str) -> None:
    os.write(1, f"{line}\n".encode())


if __name__ == "__main__":
    node = Node(Path(sys.argv[1]), int(sys.argv[2]))
    uvloop.run(node.run() if sys.argv[3] == "run" else node.check())

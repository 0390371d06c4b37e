"""What the tests of the log share: a consumer that remembers, and nodes and journals on a simulated disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from holdfast_log import Entry, EntryKind, Journal, LogNode, LogOptions, NodeIdentity
from holdfast_log.record import Record, RecordKind
from holdfast_log.simulated_disk import SimulatedDisk

IDENTITY = NodeIdentity("test-cluster", "node-1")
DIRECTORY = Path("/data")
WAIT_SECONDS = 10.0


class Remembering:
    """A consumer that keeps what it is told."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.calls: list[str] = []
        self.on_entries: Callable[[Sequence[Entry]], None] = lambda entries: None

    @property
    def payloads(self) -> list[bytes]:
        return [entry.payload for entry in self.entries if entry.kind is EntryKind.NORMAL]

    def on_committed(self, entries: Sequence[Entry]) -> None:
        self.entries += entries
        self.calls.append(f"committed {entries[0].index}-{entries[-1].index}")
        self.on_entries(entries)

    def on_leader(self, term: int) -> None:
        self.calls.append(f"leader {term}")

    def on_follower(self, term: int, leader: str | None) -> None:
        self.calls.append(f"follower {term} {leader}")

    def on_writable(self) -> None:
        self.calls.append("writable")


class OpenNode:
    """A started `LogNode` with a remembering consumer for each group."""

    def __init__(self, log: LogNode, consumers: list[Remembering], failures: list[BaseException]) -> None:
        self.log = log
        self.consumers = consumers
        self.failures = failures

    async def append(self, partition: int, *payloads: bytes) -> None:
        """Propose, and wait until all are committed."""
        group, consumer = self.log.group(partition), self.consumers[partition]
        indexes = [group.propose(payload)[1] for payload in payloads]
        await until(lambda: bool(consumer.entries) and consumer.entries[-1].index >= indexes[-1])


async def open_node(
    disk: SimulatedDisk | None,
    *,
    directory: Path = DIRECTORY,
    partitions: int = 1,
    applied: Sequence[int] = (),
    options: LogOptions | None = None,
    identity: NodeIdentity = IDENTITY,
    start: bool = True,
) -> OpenNode:
    chosen = options or small_options()
    log = await LogNode.open(directory, identity=identity, partitions=partitions, options=chosen, disk=disk)
    node = OpenNode(log, [Remembering() for _ in range(partitions)], [])
    log.on_fatal = node.failures.append
    for partition, consumer in enumerate(node.consumers):
        log.group(partition).start(consumer, applied[partition] if applied else 0)
    if start:
        await log.start()
    return node


def small_options(segment_bytes: int = 16 * 1024, **others: float) -> LogOptions:
    return LogOptions(segment_bytes=segment_bytes, disk_reserve_bytes=0, full_retry_seconds=0.01, **others)  # type: ignore[arg-type]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.001)


def open_journal(disk: SimulatedDisk, *, segment_bytes: int = 16 * 1024) -> Journal:
    return Journal.open("/journal", disk=disk, identity=IDENTITY, segment_bytes=segment_bytes)


def entry(index: int, payload: bytes = b"", *, partition: int = 0, term: int = 1) -> Record:
    return Record(partition, RecordKind.NORMAL, term, index, payload)


def trim(index: int, *, partition: int = 0, term: int = 1) -> Record:
    return Record(partition, RecordKind.TRIM, term, index)


def contents(journal: Journal, partition: int = 0) -> list[bytes]:
    """The payloads of all entries that the journal holds."""
    index = journal.index(partition)
    payloads: list[bytes] = []
    while (following := index.first + len(payloads)) <= index.last:
        payloads += [found.payload for found in journal.read(partition, following, index.last + 1, 1 << 20)]
    return payloads

"""A node's log as its consumers see it: durable before it is told, in order, over restarts and faults."""

from __future__ import annotations

import asyncio
import errno
import random
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from holdfast_log import (
    PAYLOAD_BYTES_MAX,
    DirectoryInUse,
    Entry,
    EntryKind,
    FormatTooNew,
    LogBehind,
    LogClosed,
    LogFull,
    LogNode,
    LogOptions,
    NodeIdentity,
    NotLeader,
    Overloaded,
    PayloadTooLarge,
    Trimmed,
    WrongDirectory,
)
from holdfast_log.simulated_disk import SimulatedDisk, keep_some_sectors
from tests.log.support import DIRECTORY, IDENTITY, OpenNode, open_node, small_options, until


async def crash(node: OpenNode, disk: SimulatedDisk) -> None:
    """The power fails when nothing is under way; what still runs of the node is stopped."""
    await until(node.log._at_rest)
    node.log._housekeeper.stopped = True
    node.log._flush_thread.stop()
    node.log._segment_thread.stop()
    disk.crash()


# ------------------------------------------------------------ order and durability


async def test_a_consumer_sees_leadership_then_the_empty_entry_then_what_was_proposed() -> None:
    node = await open_node(SimulatedDisk())
    assert node.log.group(0).propose(b"one") == (1, 2)
    await until(lambda: len(node.consumers[0].entries) == 2)
    assert node.consumers[0].calls == ["leader 1", "committed 1-1", "committed 2-2"]
    assert [(e.term, e.index, e.kind, e.payload) for e in node.consumers[0].entries] == [
        (1, 1, EntryKind.EMPTY, b""),
        (1, 2, EntryKind.NORMAL, b"one"),
    ]
    await node.log.close()


async def test_whatever_is_dirty_goes_in_one_flush_with_one_fdatasync() -> None:
    disk = SimulatedDisk()
    node = await open_node(disk, partitions=20, options=small_options(1 << 20))
    before = disk.calls.copy()
    for partition in range(20):
        for number in range(50):
            node.log.group(partition).propose(b"%d" % number)
    await until(lambda: all(len(consumer.payloads) == 50 for consumer in node.consumers))
    assert disk.calls - before == {"pwritev": 1, "fdatasync": 1}
    await node.log.close()


async def test_what_is_proposed_during_a_flush_makes_at_most_one_more() -> None:
    disk = StallingDisk()
    node = await open_node(disk, options=small_options(1 << 20))
    before = node.log.flushes
    group = node.log.group(0)
    disk.goes_on.clear()
    group.propose(b"first")
    await asyncio.sleep(0)
    assert group.writable
    group.propose(b"second")
    await asyncio.sleep(0)
    assert not group.writable
    for number in range(20):
        group.propose(b"%d" % number)
        await asyncio.sleep(0)
    assert node.consumers[0].payloads == []
    disk.goes_on.set()
    await until(lambda: len(node.consumers[0].payloads) == 22)
    assert node.log.flushes - before == 3
    assert node.consumers[0].payloads[:2] == [b"first", b"second"]
    assert "writable" in node.consumers[0].calls
    await node.log.close()


class StallingDisk(SimulatedDisk):
    """Its fdatasync takes until ``goes_on`` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.goes_on = threading.Event()
        self.goes_on.set()

    def fdatasync(self, handle: int) -> None:
        assert self.goes_on.wait(10)
        super().fdatasync(handle)


async def test_nothing_is_handed_over_before_its_fdatasync(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = SimulatedDisk()
    node = await open_node(disk)
    synced_at: list[int] = []

    def on_entries(entries: Sequence[Entry]) -> None:
        synced_at.append(disk.calls["fdatasync"])
        assert not any(file.unsynced for file in disk._names.values())

    node.consumers[0].on_entries = on_entries
    before = disk.calls["fdatasync"]
    for number in range(10):
        await node.append(0, b"%d" % number)
    assert synced_at == [before + number for number in range(1, 11)]
    await node.log.close()


@pytest.mark.parametrize("seed", range(8))
async def test_what_was_handed_over_survives_power_cuts_at_any_time(seed: int) -> None:
    """Nodes die with flushes on their way; whatever a consumer saw is there again, the same, and in order."""
    rng = random.Random(seed)
    disk = SimulatedDisk()
    seen: list[dict[int, Entry]] = [{}, {}]
    for _ in range(6):
        node = await open_node(disk, partitions=2)
        for partition in (0, 1):
            entries = node.consumers[partition].entries
            assert [entry.index for entry in entries] == list(range(1, len(entries) + 1))
            for index, entry in seen[partition].items():
                assert entries[index - 1] == entry
        for _ in range(rng.randrange(30)):
            node.log.group(rng.randrange(2)).propose(rng.randbytes(rng.randrange(900)))
            if rng.random() < 0.5:
                await asyncio.sleep(rng.random() / 1000)
        for partition in (0, 1):
            seen[partition] = {entry.index: entry for entry in node.consumers[partition].entries}
        await cut_power(node, disk, rng)


async def cut_power(node: OpenNode, disk: SimulatedDisk, rng: random.Random) -> None:
    """At once: what the threads still do afterwards fails, as on a machine that is off."""
    disk.crash(keep_some_sectors(rng), keep_names=rng.random() < 0.5)
    disk.fail_next("pwritev", errno.EIO, 100)
    disk.fail_next("fdatasync", errno.EIO, 100)
    node.log._housekeeper.stopped = True
    node.log._flush_thread.stop()
    node.log._segment_thread.stop()
    disk._faults.clear()
    disk.crash(keep_some_sectors(rng))
    await asyncio.sleep(0)


# ------------------------------------------------------------ restart


async def test_after_a_restart_the_consumer_gets_what_follows_what_it_has_applied() -> None:
    disk = SimulatedDisk()
    node = await open_node(disk, partitions=2)
    await node.append(0, b"one", b"two", b"three")
    await node.append(1, b"other")
    await node.log.close()
    node = await open_node(disk, partitions=2, applied=[2, 0])
    assert node.consumers[0].payloads == [b"two", b"three"]
    assert node.consumers[1].payloads == [b"other"]
    assert [entry.index for entry in node.consumers[0].entries] == [3, 4, 5]
    assert node.log.group(0).term == 2
    assert node.log.group(0).propose(b"four") == (2, 6)
    await node.log.close()


async def test_much_is_handed_over_in_batches() -> None:
    disk = SimulatedDisk()
    node = await open_node(disk)
    payloads = [bytes([number]) * 500 for number in range(100)]
    await node.append(0, *payloads)
    await crash(node, disk)
    node = await open_node(disk, options=small_options(replay_batch_bytes=2000))
    assert node.consumers[0].payloads == payloads
    assert len([call for call in node.consumers[0].calls if call.startswith("committed")]) > 20
    await node.log.close()


async def test_tables_that_are_ahead_of_the_log_are_refused() -> None:
    with pytest.raises(LogBehind, match="have applied entry 9, but the log ends at 0"):
        await open_node(SimulatedDisk(), applied=[9])


async def test_tables_that_need_what_was_trimmed_are_refused() -> None:
    disk = SimulatedDisk()
    node = await open_node(disk)
    await node.append(0, b"one", b"two")
    node.log.group(0).trim(3)
    await node.append(0, b"three")
    assert node.log.group(0).first_index == 4
    await node.log.close()
    with pytest.raises(Trimmed, match="index 3 was trimmed, the log begins at 4"):
        await open_node(disk, applied=[2])


async def test_close_makes_durable_what_was_proposed() -> None:
    disk = SimulatedDisk()
    node = await open_node(disk)
    payloads = [bytes([number]) * 3000 for number in range(20)]
    for payload in payloads:
        node.log.group(0).propose(payload)
    await node.log.close()
    disk.crash()
    node = await open_node(disk)
    assert node.consumers[0].payloads == payloads
    await node.log.close()
    with pytest.raises(LogClosed):
        node.log.group(0).propose(b"too late")


# ------------------------------------------------------------ segments


async def test_the_journal_stays_small_while_consumers_trim() -> None:
    disk = SimulatedDisk()
    node = await open_node(disk, partitions=2)
    for _ in range(60):
        await node.append(0, bytes(3000))
        node.log.group(0).trim(node.consumers[0].entries[-1].index)
    await until(lambda: node.log.journal.segment_count <= 2)
    assert len([path for path in disk.paths() if path.endswith(".segment")]) <= 4
    assert node.failures == []
    await node.log.close()


async def test_an_idle_partition_does_not_hold_on_to_old_segments() -> None:
    disk = SimulatedDisk()
    node = await open_node(disk, partitions=2)
    await node.append(1, b"never trimmed")
    for _ in range(60):
        await node.append(0, bytes(3000))
        node.log.group(0).trim(node.consumers[0].entries[-1].index)
    assert "/data/journal/0000000000000001.segment" not in disk.paths()
    await crash(node, disk)
    node = await open_node(disk, partitions=2, applied=[node.consumers[0].entries[-1].index, 0])
    assert node.consumers[1].payloads == [b"never trimmed"]
    await node.log.close()


async def test_an_entry_of_the_largest_size_passes_through_small_segments() -> None:
    disk = SimulatedDisk()
    node = await open_node(disk)
    large = random.Random(2).randbytes(300_000)
    await node.append(0, b"before", large, b"behind")
    await crash(node, disk)
    node = await open_node(disk)
    assert node.consumers[0].payloads == [b"before", large, b"behind"]
    await node.log.close()


# ------------------------------------------------------------ refused proposals


async def test_proposals_are_refused_before_the_start_and_when_too_large() -> None:
    node = await open_node(SimulatedDisk(), start=False)
    with pytest.raises(NotLeader, match="does not lead partition 0; its leader is not known"):
        node.log.group(0).propose(b"early")
    with pytest.raises(PayloadTooLarge, match=f"the limit is {PAYLOAD_BYTES_MAX}"):
        node.log.group(0).propose(bytes(PAYLOAD_BYTES_MAX + 1))
    await node.log.close()


async def test_uncommitted_bytes_are_limited_and_nothing_is_lost_over_it() -> None:
    options = small_options(1 << 20, uncommitted_bytes_soft=1000, uncommitted_bytes_max=5000)
    node = await open_node(SimulatedDisk(), options=options)
    group = node.log.group(0)
    for _ in range(5):
        group.propose(bytes(1000))
    assert not group.writable
    with pytest.raises(Overloaded, match="5000 uncommitted bytes, 1 more would exceed 5000"):
        group.propose(b"x")
    await until(lambda: "writable" in node.consumers[0].calls)
    assert group.writable
    await node.append(0, b"x")
    assert len(node.consumers[0].payloads) == 6
    await node.log.close()


# ------------------------------------------------------------ faults of the disk


@pytest.mark.parametrize("call", ["fdatasync", "pwritev"])
async def test_a_disk_error_is_fatal_once_and_nothing_is_acknowledged_after_it(call: str) -> None:
    disk = StallingDisk()
    node = await open_node(disk)
    await node.append(0, b"good")
    disk.goes_on.clear()
    disk.fail_next(call, errno.EIO)
    node.log.group(0).propose(b"bad")
    await asyncio.sleep(0)
    node.log.group(0).propose(b"behind it")  # in the flush that waits behind the failing one
    await asyncio.sleep(0)
    disk.goes_on.set()
    await until(lambda: bool(node.failures))
    await asyncio.sleep(0.01)
    assert [type(failure) for failure in node.failures] == [OSError]
    assert node.consumers[0].payloads == [b"good"]
    with pytest.raises(LogClosed, match="failed"):
        node.log.group(0).propose(b"never")
    await node.log.close()
    disk.crash()
    node = await open_node(disk)
    assert node.consumers[0].payloads[:1] == [b"good"]
    await node.log.close()


async def test_a_disk_error_at_the_start_is_raised() -> None:
    disk = SimulatedDisk()
    node = await open_node(disk, start=False)
    disk.fail_next("fdatasync", errno.EIO)
    with pytest.raises(OSError, match="injected"):
        await node.log.start()
    await node.log.close()


async def test_an_exception_of_a_consumer_is_fatal() -> None:
    node = await open_node(SimulatedDisk(), partitions=2)

    def fail(entries: Sequence[Entry]) -> None:
        raise RuntimeError("apply failed")

    node.consumers[0].on_entries = fail
    node.log.group(0).propose(b"poison")
    await until(lambda: bool(node.failures))
    assert [str(failure) for failure in node.failures] == ["apply failed"]
    handed_over = len(node.consumers[1].entries)
    with pytest.raises(LogClosed):
        node.log.group(1).propose(b"other")
    assert len(node.consumers[1].entries) == handed_over
    await node.log.close()


async def append_until_refused(node: OpenNode) -> None:
    for number in range(1000):
        await node.append(0, b"%03d" % number * 300)


async def test_a_full_disk_refuses_proposals_goes_on_reading_and_recovers_by_itself() -> None:
    disk = SimulatedDisk(capacity_bytes=2 * 16 * 1024 + 1000)
    node = await open_node(disk)
    group, consumer = node.log.group(0), node.consumers[0]
    with pytest.raises(LogFull, match=r"the disk of the log is full: .*nothing new is taken until there is space"):
        await append_until_refused(node)
    assert len(consumer.payloads) > 20
    assert group.last_index == consumer.entries[-1].index, "what was refused left no trace"
    assert node.log.full
    assert len(node.log.journal.read(0, 1, 3, 10_000)) == 2
    assert node.failures == []
    disk.capacity_bytes = 1 << 30
    await until(lambda: node.log.full is None)
    await node.append(0, b"there is space again")
    assert consumer.entries[-1].payload == b"there is space again"
    assert group.commit_index == consumer.entries[-1].index
    await node.log.close()


async def test_a_full_disk_is_freed_by_trimming() -> None:
    disk = SimulatedDisk(capacity_bytes=3 * 16 * 1024)
    node = await open_node(disk)
    with pytest.raises(LogFull):
        await append_until_refused(node)
    node.log.group(0).trim(node.consumers[0].entries[-1].index)
    await until(lambda: node.log.full is None)
    await node.append(0, b"goes on")
    await node.log.close()


async def test_a_full_disk_does_not_keep_a_node_from_starting() -> None:
    disk = SimulatedDisk(capacity_bytes=2 * 16 * 1024 + 1000)
    node = await open_node(disk)
    with pytest.raises(LogFull):
        await append_until_refused(node)
    payloads = node.consumers[0].payloads
    await node.log.close()
    node = await open_node(disk)
    assert node.consumers[0].payloads == payloads
    await node.log.close()


async def test_the_reserve_is_left_for_others_on_the_disk() -> None:
    disk = SimulatedDisk(capacity_bytes=10 * 16 * 1024)
    options = LogOptions(segment_bytes=16 * 1024, disk_reserve_bytes=5 * 16 * 1024, full_retry_seconds=0.01)
    node = await open_node(disk, options=options)
    with pytest.raises(LogFull, match="81920 in reserve"):
        await append_until_refused(node)
    assert disk.free_bytes("/") >= 5 * 16 * 1024
    await node.log.close()


async def test_short_writes_are_completed() -> None:
    disk = SimulatedDisk()
    disk.short_writes = True
    node = await open_node(disk)
    await node.append(0, b"x" * 5000)
    await crash(node, disk)
    node = await open_node(disk)
    assert node.consumers[0].payloads == [b"x" * 5000]
    await node.log.close()


# ------------------------------------------------------------ whose directory


async def test_two_nodes_on_one_directory_are_refused(tmp_path: Path) -> None:
    node = await open_node(None, directory=tmp_path)
    with pytest.raises(DirectoryInUse, match=f"another process uses the data directory {tmp_path}"):
        await open_node(None, directory=tmp_path)
    await node.log.close()
    node = await open_node(None, directory=tmp_path)
    await node.log.close()


async def test_another_process_on_the_directory_is_refused(tmp_path: Path) -> None:
    node = await open_node(None, directory=tmp_path)
    program = (
        "import asyncio, pathlib, sys; from holdfast_log import *\n"
        "asyncio.run(LogNode.open(pathlib.Path(sys.argv[1]), "
        "identity=NodeIdentity('test-cluster', 'node-1'), partitions=1))"
    )
    other = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert other.returncode != 0
    assert "DirectoryInUse: another process uses the data directory" in other.stderr.replace("holdfast_log.types.", "")
    await node.log.close()


@pytest.mark.parametrize(
    ("identity", "partitions", "words"),
    [
        (
            NodeIdentity("other", "node-1"),
            2,
            "holds data of cluster 'test-cluster', this node is configured as 'other'",
        ),
        (NodeIdentity("test-cluster", "node-2"), 2, "holds data of node 'node-1', this node is configured as 'node-2'"),
        (IDENTITY, 4, "holds data of number of partitions 2, this node is configured as 4"),
    ],
)
async def test_the_directory_of_another_node_is_refused(identity: NodeIdentity, partitions: int, words: str) -> None:
    disk = SimulatedDisk()
    node = await open_node(disk, partitions=2)
    await node.log.close()
    with pytest.raises(WrongDirectory, match=words):
        await open_node(disk, identity=identity, partitions=partitions)
    node = await open_node(disk, partitions=2)  # and is left as it was, the lock free
    await node.log.close()


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        (b'{"format": 7, "shape": "unknown"}', FormatTooNew, "has format 7, this release knows up to 1"),
        (b"not json", WrongDirectory, "identity.json can't be read as a node's identity"),
        (b'{"format": 1}', WrongDirectory, "identity.json can't be read as a node's identity"),
    ],
)
async def test_a_directory_of_a_newer_release_is_refused(content: bytes, error: type[Exception], words: str) -> None:
    disk = SimulatedDisk()
    disk.pwritev(disk.create(f"{DIRECTORY}/identity.json"), [content], 0)
    with pytest.raises(error, match=words):
        await LogNode.open(DIRECTORY, identity=IDENTITY, partitions=1, disk=disk)


@pytest.mark.parametrize("name", ["", "x" * 201])
def test_names_have_limits(name: str) -> None:
    with pytest.raises(ValueError, match="must have 1 to 200 bytes"):
        NodeIdentity("cluster", name)


def test_options_have_limits() -> None:
    with pytest.raises(ValueError, match="segment_bytes must be at least 4096, not 100"):
        LogOptions(segment_bytes=100)

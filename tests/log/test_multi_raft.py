"""Groups over one journal, on a real disk."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from holdfast_log import DirectoryInUse, Entry, LogNode, LogOptions, NodeIdentity, WrongDirectory

OPTIONS = LogOptions(segment_bytes=1 << 16)
ME = NodeIdentity("test", "one")


class Consumer:
    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.writable = asyncio.Event()

    def on_committed(self, entries: Sequence[Entry]) -> None:
        self.entries += entries

    def on_leader(self, term: int) -> None: ...

    def on_follower(self, term: int, leader: str | None) -> None: ...

    def on_writable(self) -> None:
        self.writable.set()


async def open_node(directory: Path, groups: int = 2) -> tuple[LogNode, list[Consumer]]:
    node = await LogNode.open(directory, identity=ME, partitions=groups, options=OPTIONS)
    consumers = [Consumer() for _ in range(groups)]
    for number, consumer in enumerate(consumers):
        node.group(number).start(consumer, 0)
    await node.start()
    return node, consumers


async def until(node: LogNode, partition: int, index: int) -> None:
    async with asyncio.timeout(5):
        while node.group(partition).commit_index < index:
            await asyncio.sleep(0.001)


async def test_committed_entries_come_in_order_and_again_after_a_restart(tmp_path: Path) -> None:
    node, consumers = await open_node(tmp_path)
    for number in range(50):
        node.group(number % 2).propose(b"%d" % number)
    await until(node, 0, 26)
    await until(node, 1, 26)
    before = [[(entry.index, entry.payload) for entry in consumer.entries] for consumer in consumers]
    assert [index for index, _ in before[0]] == list(range(1, 27))
    await node.close()
    node, consumers = await open_node(tmp_path)
    for consumer, entries in zip(consumers, before, strict=True):
        assert [(entry.index, entry.payload) for entry in consumer.entries][:26] == entries
    assert node.group(0).term == 2
    await node.close()


async def test_a_group_that_had_to_wait_for_the_flush_of_another_is_told_when_it_is_over(tmp_path: Path) -> None:
    node, consumers = await open_node(tmp_path)
    await until(node, 1, 1)
    while node.flushing:
        await asyncio.sleep(0.001)
    node.group(0).propose(b"busy")
    await asyncio.sleep(0)
    assert not node.group(1).writable
    async with asyncio.timeout(5):
        await consumers[1].writable.wait()
    await node.close()


async def test_many_dirty_groups_share_a_flush(tmp_path: Path) -> None:
    node, _ = await open_node(tmp_path, groups=8)
    for number in range(8):
        await until(node, number, 1)
    before = node.flushes
    for number in range(8):
        node.group(number).propose(b"x")
    for number in range(8):
        await until(node, number, 2)
    assert node.flushes == before + 1
    await node.close()


async def test_a_directory_has_one_owner_and_one_process(tmp_path: Path) -> None:
    node, _ = await open_node(tmp_path)
    with pytest.raises(DirectoryInUse, match="another process"):
        await LogNode.open(tmp_path, identity=ME, partitions=2)
    await node.close()
    with pytest.raises(WrongDirectory, match=r"'one'.*'two'"):
        await LogNode.open(tmp_path, identity=NodeIdentity("test", "two"), partitions=2)

"""LmdbStore behaves as the tables in memory do, whatever is checkpointed, reopened, damaged or full meanwhile."""

from __future__ import annotations

import asyncio
import random
import resource
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import lmdb
import pytest

from holdfast_partition_processor.command import HandlerType, InvokedBy, Target
from holdfast_partition_processor.invocation import Invocation, Status
from holdfast_partition_processor.memory_storage import MemoryStorage, digest
from holdfast_partition_processor.store import (
    FORMAT_VERSION,
    LmdbStore,
    StoreCorrupted,
    StoreFailed,
    StoreFull,
    StoreOptions,
    WrongStore,
)
from holdfast_partition_processor.tables import (
    INBOX,
    INVOCATIONS,
    JOURNAL,
    META,
    OUTPUT,
    STATE,
    TIMERS,
    Frame,
    Storage,
    sortable_id,
)

LONG = b"k" * 300


def names(rng: random.Random) -> list[bytes]:
    """Few names, so that they meet again; with what is hard to put in order: zero bytes, prefixes, long ones."""
    hard = [
        b"",
        b"\x00",
        b"\x00\x00",
        b"\x00\x01",
        b"\x00\xff",
        b"a",
        b"a\x00",
        b"a\x00\xff",
        b"ab",
        b"\xff",
        b"\xff\xff",
    ]
    long = [LONG + bytes((n,)) for n in (0, 1, 7, 255)] + [LONG[:112], LONG[:113], LONG[:240], LONG[:241], LONG[:255]]
    zeros = [b"\x00" * n for n in (112, 119, 120, 121, 122, 300)]
    return hard + long + zeros + [rng.randbytes(rng.randrange(1, 40)) for _ in range(6)]


def change(rng: random.Random, storages: list[Storage], groups: list[bytes], subs: list[bytes]) -> None:
    table = rng.choice((STATE, INBOX, OUTPUT))
    group, sub = rng.choice(groups), rng.choice(subs)
    kind = rng.random()
    row = rng.randbytes(rng.randrange(200))
    for storage in storages:
        if kind < 0.6:
            storage.put(table, group, sub, row)
        elif kind < 0.95:
            storage.delete(table, group, sub)
        else:
            storage.delete_group(table, group)


def compare(rng: random.Random, store: LmdbStore, twin: MemoryStorage, groups: list[bytes], subs: list[bytes]) -> None:
    table = rng.choice((STATE, INBOX, OUTPUT))
    group, sub, prefix = rng.choice(groups), rng.choice(subs), rng.choice([*groups, b""])
    assert store.get(table, group, sub) == twin.get(table, group, sub)
    limit = rng.choice((None, 0, 1, 1, 1, 3))
    start = rng.choice((b"", sub))
    assert list(store.scan(table, group, start, limit)) == list(twin.scan(table, group, start, limit))
    prefix = prefix[: rng.randrange(len(prefix) + 1)]
    assert list(store.scan_groups(table, prefix, group)) == list(twin.scan_groups(table, prefix, group))


@pytest.mark.parametrize("seed", range(12))
async def test_behaves_as_the_twin_under_random_changes_checkpoints_and_reopens(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    groups, subs = names(rng), names(rng)
    twin = MemoryStorage()
    store = LmdbStore.open(tmp_path, partition=0)
    for step in range(1, 1500):
        change(rng, [store, twin], groups, subs)
        compare(rng, store, twin, groups, subs)
        happens = rng.random()
        if happens < 0.04:
            store.checkpoint(step)
        elif happens < 0.1:
            await asyncio.sleep(rng.choice((0, 0.002)))
        elif happens < 0.11:
            await store.flush(step)
            assert store.durable_index == step
            await store.close()
            store = LmdbStore.open(tmp_path, partition=0)
            assert store.durable_index == step
    assert digest(store) == digest(twin)
    await store.flush(2000)
    assert digest(store) == digest(twin)
    await store.close()


async def test_a_crash_leaves_exactly_the_state_of_the_durable_index(tmp_path: Path) -> None:
    rng = random.Random(7)
    groups, subs = names(rng), names(rng)
    twin, states = MemoryStorage(), {0: digest(MemoryStorage())}
    store = LmdbStore.open(tmp_path / "live", partition=0)
    for step in range(1, 400):
        change(rng, [store, twin], groups, subs)
        states[step] = digest(twin)
        if rng.random() < 0.1:
            store.checkpoint(step)
        await asyncio.sleep(rng.choice((0, 0, 0.001)))
        if rng.random() < 0.1 and store._writing is None:
            after_crash = tmp_path / f"crash{step}"
            after_crash.mkdir()
            shutil.copy(tmp_path / "live" / "data.mdb", after_crash)
            reopened = LmdbStore.open(after_crash, partition=0)
            assert digest(reopened) == states[reopened.durable_index]
            await reopened.close()
    assert store.durable_index > 0
    await store.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[LmdbStore]:
    store = LmdbStore.open(tmp_path, partition=3)
    yield store
    await store.close()


async def test_every_kind_of_row_comes_back_as_it_was(store: LmdbStore) -> None:
    id = bytes(range(24))
    row = Invocation(
        id,
        Target("s", "h", "k", HandlerType.EXCLUSIVE),
        Status.INVOKED,
        1,
        2,
        InvokedBy.INGRESS,
        b"",
        (),
        "ik",
        0,
        5,
        6,
    )
    store.put(INVOCATIONS, b"", sortable_id(id), row)
    store.put(JOURNAL, id, b"\0\0\0\0", Frame(b"raw", 17))
    store.put(META, b"", b"inbox", 1 << 63)
    await store.flush(1)
    assert store.get(INVOCATIONS, b"", sortable_id(id)) == row
    assert list(store.scan(JOURNAL, id)) == [(b"\0\0\0\0", Frame(b"raw", 17))]
    assert store.get(META, b"", b"inbox") == 1 << 63
    assert not store.is_dirty
    assert store.pending_bytes == 0


async def test_a_scan_survives_a_checkpoint_and_changes_in_its_midst(store: LmdbStore) -> None:
    for number in range(2000):
        store.put(TIMERS, b"", number.to_bytes(8, "big"), b"")
    await store.flush(1)
    for number in range(2000, 2500):
        store.put(TIMERS, b"", number.to_bytes(8, "big"), b"")
    seen = []
    for sub, _ in store.scan(TIMERS, b""):
        seen.append(int.from_bytes(sub, "big"))
        store.delete(TIMERS, b"", sub)
        if len(seen) in (700, 2200):
            await store.flush(len(seen))
    assert seen == list(range(2500))
    assert list(store.scan(TIMERS, b"")) == []


async def test_keys_that_come_in_any_order_between_scans_are_seen_in_order(store: LmdbStore) -> None:
    rng = random.Random(3)
    twin = MemoryStorage()
    for count in (1, 5, 40, 3, 200, 33):  # few are inserted, many are merged
        for _ in range(count):
            sub = rng.randbytes(3)
            store.put(TIMERS, b"", sub, b"")
            twin.put(TIMERS, b"", sub, b"")
        assert list(store.scan(TIMERS, b"")) == list(twin.scan(TIMERS, b""))


async def test_a_deleted_group_is_written_although_no_row_is_left_in_memory(store: LmdbStore) -> None:
    store.put(STATE, b"o", b"k", b"v")
    await store.flush(1)
    store.put(STATE, b"o", b"other", b"v")
    store.delete_group(STATE, b"o")
    store.delete_group(STATE, b"o")
    assert store.is_dirty
    assert list(store.scan(STATE, b"o")) == []
    await store.flush(2)
    assert not store.is_dirty
    assert store.pending_bytes == 0
    assert list(store.scan(STATE, b"o")) == []


async def test_memory_is_given_back_for_rows_that_come_and_go(store: LmdbStore) -> None:
    store.put(STATE, b"o", b"k", bytes(1_000_000))
    assert store.pending_bytes > 1_000_000
    store.put(STATE, b"o", b"k", b"small")
    assert store.pending_bytes < 1_000
    store.put(STATE, b"o", b"k", bytes(1_000_000))
    store.delete(STATE, b"o", b"k")
    assert store.pending_bytes < 1_000
    store.put(STATE, b"o", b"k", bytes(1_000_000))
    store.delete_group(STATE, b"o")
    assert store.pending_bytes < 1_000


async def test_taking_the_first_of_a_long_queue_does_not_slow_down_with_what_was_taken(store: LmdbStore) -> None:
    for number in range(20_000):
        store.put(INBOX, b"o", number.to_bytes(8, "big"), b"id")
    await store.flush(1)
    loop = asyncio.get_running_loop()
    began = loop.time()
    for number in range(20_000):
        sub, _ = next(store.scan(INBOX, b"o", limit=1))
        assert sub == number.to_bytes(8, "big")
        store.delete(INBOX, b"o", sub)
    assert next(store.scan(INBOX, b"o", limit=1), None) is None
    assert loop.time() - began < 5  # 0.3 s; minutes if each look walked over the tombstones
    store.put(INBOX, b"o", (5).to_bytes(8, "big"), b"late")
    assert list(store.scan(INBOX, b"o")) == [((5).to_bytes(8, "big"), b"late")]


async def test_the_map_grows_by_itself(tmp_path: Path) -> None:
    store = LmdbStore.open(tmp_path, partition=0, options=StoreOptions(map_bytes_initial=256 * 1024))
    value = bytes(50_000)
    for number in range(100):
        store.put(STATE, b"o", number.to_bytes(2, "big"), value)
    await store.flush(1)
    assert sum(len(row) for _, row in store.scan(STATE, b"o")) == 5_000_000
    await store.close()


async def test_a_row_that_rotted_is_named_and_never_returned(tmp_path: Path) -> None:
    store = LmdbStore.open(tmp_path, partition=0)
    store.put(STATE, b"object", b"balance", b"one million")
    await store.flush(1)
    await store.close()
    file = tmp_path / "data.mdb"
    content = file.read_bytes()
    assert content.count(b"one million") == 1
    file.write_bytes(content.replace(b"one million", b"two million"))
    store = LmdbStore.open(tmp_path, partition=0)
    with pytest.raises(StoreCorrupted, match=r"data.*|table state, key .*checksum") as caught:
        store.get(STATE, b"object", b"balance")
    assert caught.value.table == "state"
    with pytest.raises(StoreCorrupted):
        list(store.scan(STATE, b"object"))
    await store.close()


async def test_a_file_that_is_not_a_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data.mdb").write_bytes(b"not a store" * 1000)
    with pytest.raises(StoreCorrupted, match=r"data\.mdb"):
        LmdbStore.open(tmp_path, partition=0)


async def test_another_partitions_store_is_refused(tmp_path: Path) -> None:
    await LmdbStore.open(tmp_path, partition=1).close()
    with pytest.raises(WrongStore, match="holds partition 1, not 2"):
        LmdbStore.open(tmp_path, partition=2)
    await LmdbStore.open(tmp_path, partition=1).close()


async def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    store = LmdbStore.open(tmp_path, partition=1)
    with store._file._env.begin(write=True) as writer:
        store._file._write_number(writer, b"format", FORMAT_VERSION + 1)
    await store.close()
    with pytest.raises(WrongStore, match="format 2, this release knows up to 1"):
        LmdbStore.open(tmp_path, partition=1)


async def test_a_full_disk_delays_the_checkpoint_and_loses_nothing(tmp_path: Path) -> None:
    options = StoreOptions(retry_seconds_min=0.01, retry_seconds_max=0.02)
    store = LmdbStore.open(tmp_path, partition=0, options=options)
    errors: list[StoreFull | StoreFailed] = []
    store.on_error = errors.append
    store.put(STATE, b"o", b"before", b"1")
    await store.flush(1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024 * 1024, limits[1]))
    try:
        for number in range(40):
            store.put(STATE, b"o", number.to_bytes(2, "big"), bytes(50_000))
        with pytest.raises(StoreFull, match="free some space"):
            await store.flush(2)
        await until(lambda: len(errors) >= 3)
        assert store.durable_index == 1
        store.put(STATE, b"o", b"meanwhile", b"2")
        assert store.get(STATE, b"o", b"before") == b"1"
        assert store.pending_bytes > 2_000_000
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    await until(lambda: store.durable_index == 2)
    assert store.failure is None
    await store.flush(3)
    await store.close()
    reopened = LmdbStore.open(tmp_path, partition=0)
    assert reopened.durable_index == 3
    assert reopened.get(STATE, b"o", b"meanwhile") == b"2"
    assert len(list(reopened.scan(STATE, b"o"))) == 42
    await reopened.close()


async def test_an_error_of_the_disk_is_final(store: LmdbStore, monkeypatch: pytest.MonkeyPatch) -> None:
    errors: list[StoreFull | StoreFailed] = []
    store.on_error = errors.append

    def fail(*_: object) -> None:
        raise lmdb.Error("mdb_txn_commit: Input/output error")

    monkeypatch.setattr(store._file, "write", fail)
    store.put(STATE, b"o", b"k", b"v")
    with pytest.raises(StoreFailed, match="Input/output"):
        await store.flush(1)
    monkeypatch.undo()
    with pytest.raises(StoreFailed):
        await store.flush(1)
    assert len(errors) == 1
    assert store.durable_index == 0

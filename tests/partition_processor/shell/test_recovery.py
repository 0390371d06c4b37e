"""A process that is killed at any moment comes back with the state of one that was not."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from holdfast_partition_processor.tables import DEDUP, OUTBOX
from tests.partition_processor.shell.fakes import until
from tests.partition_processor.shell.world import PARTITIONS, World


@pytest.mark.parametrize("seed", range(4))
async def test_killed_at_random_points_it_comes_back_the_same_and_finishes_everything(
    seed: int, tmp_path: Path
) -> None:
    world = World(tmp_path, seed)
    world.start()
    for _ in range(15):
        await world.load(world.rng.randrange(1, 60))
        await asyncio.sleep(world.rng.random() * world.rng.choice((0, 0.005, 0.03)))
        await world.kill()
        world.start()
        world.check_against_twins()
    await world.load(200)
    await until(lambda: not world.unfinished())
    await until(lambda: not any(list(store.scan_groups(OUTBOX, b"")) for store in world.stores))
    world.check_against_twins()
    durable = [store.durable_index for store in world.stores]
    assert all(durable), "the tables were written meanwhile, so what was replayed was only a part"
    results = {id: values for twin in world.twins for id, values in twin.results.items()}
    assert set(results) >= world.invoked
    assert all(len(values) == 1 for values in results.values()), "an invocation has one result, whoever asks and when"
    shipped = [len(list(twin.storage.scan(DEDUP, b""))) for twin in world.twins]
    assert shipped == [1] * PARTITIONS, "messages went both ways"
    await world.close()

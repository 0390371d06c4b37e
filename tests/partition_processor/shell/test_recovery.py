"""A process that is killed at any moment comes back with the state of one that was not."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
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


REPOSITORY = Path(__file__).parents[3]
KILLS = 12


async def life(directory: Path, seed: int, mode: str, seconds: float) -> list[list[str]]:
    """One process, killed after so many seconds of its first sign of life; the lines that it wrote."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.partition_processor.shell.crash_program", str(directory), str(seed), mode,
        stdout=asyncio.subprocess.PIPE, cwd=REPOSITORY,
    )  # fmt: skip
    assert process.stdout is not None
    first = await process.stdout.readline()
    loop = asyncio.get_running_loop()
    killer = loop.call_later(seconds, os.kill, process.pid, signal.SIGKILL)
    rest = await process.stdout.read()
    killer.cancel()
    code = await process.wait()
    assert code == (-signal.SIGKILL if mode == "run" else 0)
    lines = [line.split(" ") for line in (first + rest).decode().split("\n")]
    return lines[:-1]  # the last was cut off, or is empty


@pytest.mark.slow
async def test_a_process_that_is_killed_again_and_again_loses_nothing_it_acknowledged(tmp_path: Path) -> None:
    rng = random.Random(20)
    accepted: set[str] = set()
    results: dict[str, set[str]] = {}
    for seed in range(KILLS):
        for kind, id, *value in await life(tmp_path, seed, "run", rng.random() * 0.6):
            if kind == "A":
                accepted.add(id)
            else:
                results.setdefault(id, set()).add(value[0])
    lines = await life(tmp_path, KILLS, "check", 100)
    final = {line[1]: line[2] for line in lines if line[0] == "R"}
    assert len(accepted) > 100
    assert accepted <= set(final)
    assert all(values == {final[id]} for id, values in results.items()), "a result that was given never changes"
    assert [line[3] for line in lines if line[0] == "D"] == ["same", "same"]

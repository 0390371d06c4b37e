"""kill -9 at random points: nothing acknowledged is lost, no effect is doubled."""

from __future__ import annotations

import os
import random
import threading
import time
from pathlib import Path

import pytest

from examples.podcast.outside import Ledger
from tests.system.site import Site
from tests.system.workload import Workload

KILLS = int(os.environ.get("HOLDFAST_KILLS", "60"))
CLIENTS = 12
DRAIN_SECONDS_MAX = 90.0
APP_KILLED_EVERY = 4


@pytest.mark.slow
@pytest.mark.timeout(420)
def test_nothing_is_lost_or_doubled_whenever_processes_are_killed(running: Site, tmp_path: Path) -> None:
    seed = int(os.environ.get("HOLDFAST_SEED", random.SystemRandom().randrange(10**9)))
    print(f"HOLDFAST_SEED={seed} repeats the same choices")
    effects = tmp_path / "effects.jsonl"
    running.start_endpoint("tests.system.endpoint", EFFECTS=str(effects))
    client = running.client(seconds=400)
    workload = Workload(client, seed)
    threads = [threading.Thread(target=workload.run, args=[number]) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        kill_again_and_again(running, random.Random(seed), workload)
    finally:
        workload.stopping.set()
        timer = threading.Timer(DRAIN_SECONDS_MAX, client.give_up)
        timer.start()
        for thread in threads:
            thread.join()
        timer.cancel()
    wrong = workload.check({(str(r["key"]), str(r["step"]), str(r["take"])) for r in Ledger(effects).rows()})
    print(f"{KILLS} kills, {client.retries} retried requests, operations: {dict(workload.done)}")
    assert not wrong, "\n".join(wrong[:30])
    assert set(workload.done) == {"_add", "_steps", "_transfer", "_nap", "_tell", "_wait", "_once"}, workload.done


def kill_again_and_again(site: Site, rng: random.Random, workload: Workload) -> None:
    """Kill the node mostly while it works, at times while it recovers; every few times the endpoint goes too."""
    for number in range(KILLS):
        assert not workload.problems, workload.problems
        during_recovery = rng.random() < 0.2 and number > 0
        if not during_recovery:
            site.wait_until_healthy()
        time.sleep(rng.uniform(0, 0.7))
        if number % APP_KILLED_EVERY == 1:
            site.endpoints[0].kill()
            time.sleep(rng.uniform(0, 0.3))
            site.endpoints[0].start()
        else:
            site.node.kill()
            site.node.start()
    site.wait_until_healthy()

"""Messages to other partitions arrive in order, once each, however often leaders and networks fail."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from holdfast_log.types import NotLeader, Overloaded
from holdfast_partition_processor import outbox as module
from holdfast_partition_processor.command import Ingest, Kill, OutboxShipped
from holdfast_partition_processor.memory_storage import MemoryStorage
from holdfast_partition_processor.outbox import IN_FLIGHT_MAX, Outbox
from holdfast_partition_processor.tables import OUTBOX
from tests.partition_processor.shell.fakes import until

SOURCE, TARGET = 3, 1


class Target:
    """The log of the partition that messages go to. ``pending`` is proposed there, not committed."""

    def __init__(self) -> None:
        self.applied: list[int] = []
        self.received: list[int] = []
        self.pending: list[tuple[Ingest, Callable[[], None], Callable[[], None]]] = []
        self.refuses = False

    def __call__(self, target: int, ingest: Ingest, durable: Callable[[], None], failed: Callable[[], None]) -> None:
        if self.refuses:
            raise Overloaded("too much")
        self.received.append(ingest.sequence)
        self.pending.append((ingest, durable, failed))

    def commit(self, count: int | None = None) -> None:
        committed, self.pending = self.pending[:count], self.pending[len(self.pending[:count]) :]
        for ingest, durable, _ in committed:
            if ingest.sequence > (self.applied[-1] if self.applied else 0):
                self.applied.append(ingest.sequence)
            durable()

    def lose_leadership(self) -> None:
        lost, self.pending = self.pending, []
        for _, _, failed in lost:
            failed()


class Fixture:
    def __init__(self) -> None:
        self.storage = MemoryStorage()
        self.target = Target()
        self.shipped: list[OutboxShipped] = []
        self.sequence = 0
        self.outbox = Outbox(SOURCE, self.storage, self.target, self.submit)

    def submit(self, command: OutboxShipped) -> None:
        self.shipped.append(command)
        group = command.target.to_bytes(2, "big")
        for sub, _ in self.storage.scan(OUTBOX, group):
            if int.from_bytes(sub, "big") <= command.sequence:
                self.storage.delete(OUTBOX, group, sub)

    def put(self) -> None:
        self.sequence += 1
        self.storage.put(OUTBOX, TARGET.to_bytes(2, "big"), self.sequence.to_bytes(8, "big"), Kill(b"x" * 24))

    def ship(self) -> None:
        self.put()
        self.outbox.ship(TARGET, self.sequence, Kill(b"x" * 24))

    def left(self) -> int:
        return len(list(self.storage.scan(OUTBOX, TARGET.to_bytes(2, "big"))))


async def test_a_new_leader_ships_what_the_table_holds_then_what_comes() -> None:
    f = Fixture()
    for _ in range(3):
        f.put()
    f.outbox.start()
    f.ship()
    assert f.target.received == [1, 2, 3, 4]


async def test_what_was_read_from_the_table_is_not_sent_again_by_its_action() -> None:
    f = Fixture()
    f.put()
    f.put()
    f.outbox.start()
    f.outbox.ship(TARGET, 2, Kill(b"x" * 24))
    assert f.target.received == [1, 2]


async def test_a_row_is_kept_while_one_before_it_is_not_acknowledged() -> None:
    f = Fixture()
    for _ in range(3):
        f.ship()
    _, durable_last, _ = f.target.pending[2]
    durable_last()
    await asyncio.sleep(0.1)
    assert f.left() == 3
    assert not f.shipped


async def test_rows_are_deleted_lazily_and_only_when_the_target_has_them() -> None:
    f = Fixture()
    for _ in range(5):
        f.ship()
    f.target.commit(3)
    assert not f.shipped
    await until(lambda: bool(f.shipped))
    assert f.shipped == [OutboxShipped(TARGET, 3)]
    assert f.left() == 2


async def test_what_is_in_flight_is_bounded_and_the_rest_follows_from_the_table() -> None:
    f = Fixture()
    for _ in range(3 * IN_FLIGHT_MAX):
        f.ship()
    assert len(f.target.pending) == IN_FLIGHT_MAX
    while f.target.pending:
        f.target.commit(7)
        assert len(f.target.pending) <= IN_FLIGHT_MAX
    assert f.target.received == list(range(1, 3 * IN_FLIGHT_MAX + 1))


async def test_after_a_failure_nothing_overtakes_what_was_lost() -> None:
    f = Fixture()
    for _ in range(4):
        f.ship()
    f.target.commit(1)
    f.target.lose_leadership()
    f.ship()
    assert not f.target.pending
    await until(lambda: bool(f.target.pending))
    f.target.commit()
    assert f.target.applied == [1, 2, 3, 4, 5]


async def test_a_target_that_refuses_is_tried_again() -> None:
    f = Fixture()
    f.target.refuses = True
    f.ship()
    f.ship()
    f.target.refuses = False
    await until(lambda: len(f.target.pending) == 2)
    assert f.target.received == [1, 2]


async def test_a_leader_that_was_deposed_ships_nothing_more() -> None:
    f = Fixture()

    def refuse(_: OutboxShipped) -> None:
        raise NotLeader(SOURCE, None)

    outbox = Outbox(SOURCE, f.storage, f.target, refuse)
    f.put()
    outbox.ship(TARGET, 1, Kill(b"x" * 24))
    f.target.commit()
    await asyncio.sleep(0.1)
    f.target.pending.clear()
    outbox.close()
    f.put()
    outbox._channel(TARGET).pump()
    assert not f.target.pending


@pytest.mark.parametrize("seed", range(6))
async def test_all_arrive_in_order_whatever_fails(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS_MIN", 0.0001)
    monkeypatch.setattr(module, "RETRY_SECONDS_MAX", 0.001)
    monkeypatch.setattr(module, "REPORT_SECONDS", 0.001)
    monkeypatch.setattr(module, "IN_FLIGHT_MAX", 5)
    rng = random.Random(seed)
    f = Fixture()
    for _ in range(2_000):
        match rng.randrange(9):
            case 0 | 1 | 2 | 3:
                f.ship()
            case 4 | 5:
                f.target.commit(rng.randrange(6))
            case 6:
                f.target.lose_leadership()
            case 7:
                f.target.refuses = rng.random() < 0.3
            case _:
                await asyncio.sleep(rng.choice((0, 0, 0.0005)))
                if rng.random() < 0.1:  # a new leader at the source, which knows only the table
                    f.outbox.close()
                    f.target.lose_leadership()
                    f.outbox = Outbox(SOURCE, f.storage, f.target, f.submit)
                    f.outbox.start()
    f.target.refuses = False
    async with asyncio.timeout(5):
        while f.left():
            f.target.commit()
            await asyncio.sleep(0.001)
    assert f.target.applied == list(range(1, f.sequence + 1))

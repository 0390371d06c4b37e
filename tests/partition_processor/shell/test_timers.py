"""Timers fire in order, on time, once each, however many there are and whatever the clock does."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable

import pytest

from holdfast_log.types import NotLeader
from holdfast_partition_processor import timers
from holdfast_partition_processor.command import TimerFired
from holdfast_partition_processor.memory_storage import MemoryStorage
from holdfast_partition_processor.tables import TIMERS
from holdfast_partition_processor.timers import FIRED_AT_ONCE, WINDOW, TimerService
from tests.partition_processor.shell.fakes import turns, until


class Fixture:
    """A table of timers; what is fired is applied, as the state machine would, when the test says so or at once."""

    def __init__(self, automatic: bool = True) -> None:
        self.storage = MemoryStorage()
        self.shift_ms = 0
        self.fired: list[TimerFired] = []
        self.on_the_way: list[tuple[TimerFired, Callable[[], None] | None]] = []
        self.automatic = automatic
        self.service = TimerService(self.storage, self.clock_ms, self.submit)

    def clock_ms(self) -> int:
        return int(time.monotonic() * 1000) + self.shift_ms

    def put(self, due_ms: int, timer: bytes) -> None:
        self.storage.put(TIMERS, b"", due_ms.to_bytes(8, "big") + timer, b"")

    def set(self, due_ms: int, timer: bytes) -> None:
        self.put(due_ms, timer)
        self.service.set(due_ms, timer)

    def submit(self, command: TimerFired, durable: Callable[[], None] | None = None) -> None:
        self.on_the_way.append((command, durable))
        if self.automatic:
            asyncio.get_running_loop().call_soon(self.apply)

    def apply(self) -> None:
        on_the_way, self.on_the_way = self.on_the_way, []
        for command, durable in on_the_way:
            self.fired.append(command)
            self.storage.delete(TIMERS, b"", command.due_ms.to_bytes(8, "big") + command.timer)
            if durable is not None:
                durable()

    def left(self) -> int:
        return len(list(self.storage.scan(TIMERS, b"")))


async def test_timers_of_the_table_and_new_ones_fire_in_the_order_of_their_times() -> None:
    f = Fixture()
    now = f.clock_ms()
    f.put(now + 40, b"third")
    f.put(now - 5_000, b"long due")
    f.service.start()
    f.set(now + 20, b"second")
    await until(lambda: not f.left())
    assert [fired.timer for fired in f.fired] == [b"long due", b"second", b"third"]
    assert f.clock_ms() >= now + 40


async def test_a_sooner_timer_is_not_kept_waiting_by_a_later_one() -> None:
    f = Fixture()
    f.service.start()
    f.set(f.clock_ms() + 60_000, b"later")
    f.set(f.clock_ms() + 5, b"sooner")
    await until(lambda: len(f.fired) == 1, seconds=2)
    assert f.fired[0].timer == b"sooner"


async def test_a_timer_that_is_set_twice_fires_once() -> None:
    f = Fixture()
    f.service.start()
    due = f.clock_ms() + 5
    f.set(due, b"x")
    f.set(due, b"x")
    await until(lambda: not f.left())
    assert [fired.timer for fired in f.fired] == [b"x"]


async def test_none_fires_before_its_time() -> None:
    f = Fixture()
    f.service.start()
    f.set(f.clock_ms() + 60_000, b"x")
    await asyncio.sleep(0.02)
    assert not f.fired


async def test_a_timer_whose_row_is_gone_is_not_fired() -> None:
    f = Fixture()
    f.service.start()
    due = f.clock_ms() + 5
    f.set(due, b"cancelled")
    f.set(due, b"kept")
    f.storage.delete(TIMERS, b"", due.to_bytes(8, "big") + b"cancelled")
    await until(lambda: len(f.fired) == 1)
    await asyncio.sleep(0.02)
    assert [fired.timer for fired in f.fired] == [b"kept"]


async def test_more_timers_than_are_held_in_memory_all_fire_once_and_in_order() -> None:
    f = Fixture()
    rng = random.Random(1)
    now = f.clock_ms()
    for number in range(2 * WINDOW):
        f.put(now - rng.randrange(1, 100_000), number.to_bytes(4, "big"))
    f.service.start()
    for number in range(2 * WINDOW, 5 * WINDOW):
        f.set(now - rng.randrange(1, 100_000), number.to_bytes(4, "big"))
        assert len(f.service._heap) <= 2 * WINDOW
    await until(lambda: not f.left())
    assert len(f.fired) == 5 * WINDOW
    keys = [(fired.due_ms, fired.timer) for fired in f.fired]
    assert len(set(keys)) == 5 * WINDOW
    assert keys == sorted(keys)


async def test_a_bounded_number_is_on_its_way_through_the_log() -> None:
    f = Fixture(automatic=False)
    for number in range(3 * FIRED_AT_ONCE):
        f.put(1, number.to_bytes(4, "big"))
    f.service.start()
    await asyncio.sleep(0.02)
    assert len(f.on_the_way) == FIRED_AT_ONCE
    f.set(1, b"due too")
    await asyncio.sleep(0.02)
    assert len(f.on_the_way) == FIRED_AT_ONCE
    f.apply()
    await asyncio.sleep(0.02)
    assert len(f.on_the_way) == FIRED_AT_ONCE
    f.automatic = True
    f.apply()
    await until(lambda: not f.left())
    assert len(f.fired) == 3 * FIRED_AT_ONCE + 1


@pytest.mark.parametrize("shift_ms", [-3_600_000, 3_600_000])
async def test_a_clock_that_jumps_makes_timers_late_or_early_but_loses_and_doubles_none(
    shift_ms: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timers, "SLEEP_SECONDS_MAX", 0.01)
    f = Fixture()
    f.service.start()
    due = f.clock_ms() + 1_000
    f.set(due, b"x")
    f.shift_ms = shift_ms
    await asyncio.sleep(0.05)
    assert [fired.timer for fired in f.fired] == ([b"x"] if shift_ms > 0 else [])
    f.shift_ms = 1_000
    await asyncio.sleep(0.05)
    assert [fired.timer for fired in f.fired] == [b"x"]


async def test_nothing_fires_after_closing_or_when_leadership_is_gone() -> None:
    f = Fixture()
    f.service.start()
    f.set(f.clock_ms() + 5, b"x")
    f.service.close()
    f.set(f.clock_ms(), b"y")
    await asyncio.sleep(0.03)
    assert not f.fired

    def refuse(command: TimerFired, durable: Callable[[], None] | None = None) -> None:
        raise NotLeader(0, None)

    service = TimerService(f.storage, f.clock_ms, refuse)
    service.start()
    await turns()
    assert service._closed

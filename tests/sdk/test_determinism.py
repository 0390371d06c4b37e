"""Whatever asyncio a handler uses, replay gives the same commands: suspended at every wait, and from every prefix."""

from __future__ import annotations

from typing import Any

import programs as p
import pytest
from conftest import MakeDriver
from driver import check_every_prefix, timeless

from holdfast import TerminalError
from holdfast.handler import Handler

CASES: list[tuple[Handler[..., Any], tuple[Any, ...], Any]] = [
    (p.greet, ("Ada",), "Hello Ada"),
    (p.steps, (1,), 2 + 6 + 12),
    (p.gathers, (4,), [0, 2, 4, 6, 20, 402]),
    (p.groups, (), [12, 4, 8, 100]),
    (p.timeouts, (), ["timeout", "in time", "wait_for", "10"]),
    (p.queues, (), [0, 2, 4, 6, 8]),
    (p.races, (), "fast"),
    (p.group_that_fails, (), "a b c d e f g h no 7"),
    (p.sends, (), "Hello two"),
    (p.late_await, (), 16),
    (p.awaits_approval, (), "yes no 418"),
    (p.plain, (2,), 4 + 6 + 40),
    (p.add["k"], (5,), 5),
    (p.plain_add["k"], (5,), 5),
    (p.shuffle["k"], (), ["a", "b", "raw", "{'x': 1}", "None", "b'\\x00\\xff'", "None", "[]"]),
    (p.run["one"], ("Durable",), "Durable by Ada"),
]
IDS = [handler.name for handler, _, _ in CASES]


@pytest.mark.parametrize(("handler", "args", "expected"), CASES, ids=IDS)
@pytest.mark.parametrize("lazy_state", [False, True], ids=["eager", "lazy"])
async def test_replay_at_every_wait_gives_the_same_journal(
    make_driver: MakeDriver, handler: Handler[..., Any], args: tuple[Any, ...], expected: Any, lazy_state: bool
) -> None:
    live = make_driver(p.things, p.counter, p.publish, lazy_state=lazy_state)
    replayed = make_driver(p.things, p.counter, p.publish, lazy_state=lazy_state, replay=True)

    assert await live.call(handler, *args) == expected
    assert await replayed.call(handler, *args) == expected

    if handler is p.queues:
        return  # Two things race in it: which one wins may be recorded either way.
    journals = [
        [timeless(entry) for entry in next(iter(driver.records.values())).commands()] for driver in (live, replayed)
    ]
    assert journals[0] == journals[1]
    assert live.state == replayed.state


@pytest.mark.parametrize(("handler", "args", "expected"), CASES, ids=IDS)
async def test_every_prefix_of_a_journal_is_continued_as_it_went(
    make_driver: MakeDriver, handler: Handler[..., Any], args: tuple[Any, ...], expected: Any
) -> None:
    driver = make_driver(p.things, p.counter, p.publish)
    record = driver.begin(handler, *args)
    await driver.result(record)

    prefixes = await check_every_prefix(driver, record)

    assert prefixes == len(record.journal) > 1


async def test_random_numbers_and_time_are_the_same_in_each_attempt(make_driver: MakeDriver) -> None:
    live = make_driver(p.things)
    replayed = make_driver(p.things, replay=True)

    result = await live.call(p.values)

    assert result == await replayed.call(p.values)
    assert result[2:] == ["1", "v"]
    await check_every_prefix(live, next(iter(live.records.values())))


async def test_a_failed_saga_compensates_the_same_way_on_replay(make_driver: MakeDriver) -> None:
    for replay in (False, True):
        driver = make_driver(p.things, replay=replay)
        with pytest.raises(TerminalError, match="order 7: no 100") as error:
            await driver.call(p.saga, p.Order("7", 100))
        assert error.value.code == 402
        await check_every_prefix(driver, next(iter(driver.records.values())))

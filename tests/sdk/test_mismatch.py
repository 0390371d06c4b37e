"""Code that was changed under a running invocation is found out, and told what, where and what to do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import programs as p
import pytest
from conftest import MakeDriver
from driver import Driver, DriverStream

from holdfast import Context, Service
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import MessageType as M


def named(function: Callable[..., Any]) -> tuple[Service, Any]:
    made = Service("shop")
    return made, made.handler(name="checkout")(function)


async def before(ctx: Context) -> str:
    a = await ctx.run(p.double, 1)
    await ctx.call(p.steps, a)
    return "done"


async def other_step(ctx: Context) -> str:
    await ctx.run(p.triple, 1)
    return "done"


async def sends_instead(ctx: Context) -> str:
    a = await ctx.run(p.double, 1)
    ctx.send(p.steps, a)
    return "done"


async def other_argument(ctx: Context) -> str:
    a = await ctx.run(p.double, 1)
    await ctx.call(p.steps, a + 40)
    return "done"


async def ends_early(ctx: Context) -> str:
    await ctx.run(p.double, 1)
    return "done"


async def waits_instead(ctx: Context) -> str:
    await ctx.run(p.double, 1)
    await ctx.awakeable(str)
    return "done"


async def fewer_first(ctx: Context) -> str:
    await ctx.awakeable(str)
    return "done"


async def other_result(ctx: Context) -> str:
    a = await ctx.run(p.double, 1)
    await ctx.call(p.steps, a)
    return "something else"


async def mismatch(make_driver: MakeDriver, old: Any, new: Any) -> tuple[pb.ErrorMessage, Driver]:
    service, handler = named(old)
    driver = make_driver(service, p.things)
    record = driver.begin(handler)
    await driver.result(record)
    service, handler = named(new)
    record.definition = handler.definition
    stream = DriverStream(driver, None)
    attempt = driver.attempt(record, record.journal, stream)
    attempt.advance()
    for _ in range(100):
        if stream.over:
            break
        await asyncio.sleep(0.001)
    ((code, body),) = stream.sent
    assert code == M.ERROR
    return pb.ErrorMessage.FromString(body), driver


@pytest.mark.parametrize(
    ("new", "index", "recorded", "now"),
    [
        (other_step, 1, 'run "double"', 'run "triple"'),
        (sends_instead, 2, "call things/steps", "send things/steps"),
        (other_argument, 2, "call things/steps", "parameter: recorded 2, now 42"),
        (ends_early, 2, "call things/steps", "now:      the result"),
        (waits_instead, 2, "command 2, call things/steps", "but the code now waits without it"),
        (other_result, 3, "the result", "recorded done"),
    ],
)
async def test_the_first_difference_is_explained(
    make_driver: MakeDriver, new: Any, index: int, recorded: str, now: str
) -> None:
    error, _ = await mismatch(make_driver, before, new)

    assert error.code == 570
    assert error.related_command_index == index
    assert recorded in error.message
    assert now in error.message.replace('"', "") or now in error.message
    assert "serve the new code as a new\ndeployment" in error.message
    if index < 3 and new not in (waits_instead, ends_early):
        assert f"test_mismatch.py:{new.__code__.co_firstlineno + (1 if index == 1 else 2)}" in error.message


async def test_a_result_for_a_command_that_is_not_issued_any_more_is_found(make_driver: MakeDriver) -> None:
    error, _ = await mismatch(make_driver, before, fewer_first)
    assert error.code == 570
    assert 'command 1, run "double", but the code now waits without it' in error.message


async def test_a_mismatch_can_not_be_swallowed(make_driver: MakeDriver) -> None:
    async def swallows(ctx: Context) -> str:
        try:
            await ctx.run(p.triple, 1)
        except Exception:
            return "swallowed"
        return "done"

    error, _ = await mismatch(make_driver, before, swallows)
    assert error.code == 570


async def test_a_handler_that_does_not_do_the_same_each_time_is_found(make_driver: MakeDriver) -> None:
    runs = 0

    async def fickle(ctx: Context) -> None:
        nonlocal runs
        runs += 1
        await ctx.step(name=f"step {runs}")(p.double, 1)

    service, handler = named(fickle)
    driver = make_driver(service, replay=True)
    record = driver.begin(handler)
    with pytest.raises(Exception, match='recorded: run "step 1"'):
        await driver.result(record)

"""Handlers of every kind, for tests of determinism. Each is a real little program."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta

from holdfast import (
    Cancelled,
    Context,
    Future,
    ObjectContext,
    RetryPolicy,
    Service,
    SharedContext,
    TerminalError,
    VirtualObject,
    Workflow,
    WorkflowContext,
    WorkflowSharedContext,
)

things = Service("things")
counter = VirtualObject("counter")
publish = Workflow("publish")


@dataclass
class Order:
    id: str
    cents: int


async def double(n: int) -> int:
    return 2 * n


def triple(n: int) -> int:
    return 3 * n


async def broke(n: int) -> int:
    raise TerminalError(f"no {n}", code=402, reason="poor")


@things.handler
async def greet(ctx: Context, name: str) -> str:
    return f"Hello {name}"


@things.handler
async def steps(ctx: Context, n: int) -> int:
    a = await ctx.run(double, n)
    b = await ctx.run(triple, a)
    c = await ctx.step(name="last", retry=RetryPolicy(max_attempts=3))(double, b)
    return a + b + c


@things.handler
async def gathers(ctx: Context, n: int) -> list[int]:
    first = await asyncio.gather(*(ctx.run(double, i) for i in range(n)), ctx.call(steps, 1))
    second = await asyncio.gather(ctx.run(broke, 1), ctx.run(double, 2), return_exceptions=True)
    assert isinstance(second[0], TerminalError)
    return [*first, second[0].code]


@things.handler
async def groups(ctx: Context) -> list[int]:
    async def branch(n: int) -> int:
        a = await ctx.run(double, n)
        await asyncio.sleep(n)
        return await ctx.run(double, a)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(branch(n)) for n in (3, 1, 2)]
        direct = group.create_task(ctx.run(double, 50))
    return [task.result() for task in tasks] + [direct.result()]


@things.handler
async def timeouts(ctx: Context) -> list[str]:
    seen: list[str] = []
    try:
        async with asyncio.timeout(5):
            await ctx.sleep(timedelta(hours=1))
    except TimeoutError:
        seen.append("timeout")
    async with asyncio.timeout(3600):
        await ctx.sleep(1)
        seen.append("in time")
    try:
        await asyncio.wait_for(ctx.sleep(100), 2)
    except TimeoutError:
        seen.append("wait_for")
    loop = asyncio.get_running_loop()
    before = loop.time()
    await asyncio.sleep(10)
    seen.append(str(round(loop.time() - before)))
    return seen


@things.handler
async def queues(ctx: Context) -> list[int]:
    queue: asyncio.Queue[int] = asyncio.Queue(maxsize=2)
    event = asyncio.Event()

    async def producer() -> None:
        for n in range(5):
            await queue.put(await ctx.run(double, n))
        event.set()

    async def consumer() -> list[int]:
        got: list[int] = []
        while len(got) < 5:
            got.append(await queue.get())
            await ctx.sleep(0.5)
        await event.wait()
        return got

    task = asyncio.create_task(producer())
    got = await consumer()
    await task
    return got


@things.handler
async def races(ctx: Context) -> str:
    fast, slow = asyncio.create_task(ctx.sleep(1)), asyncio.create_task(ctx.sleep(60))
    done, pending = await asyncio.wait({slow, fast}, return_when=asyncio.FIRST_COMPLETED)
    assert pending == {slow}
    name = "fast" if fast in done else "slow"
    ctx.send(greet, name)
    return name


@things.handler
async def group_that_fails(ctx: Context) -> str:
    cleaned: list[str] = []

    async def waits(name: str) -> None:
        try:
            await ctx.sleep(1000)
        finally:
            await ctx.run(double, len(cleaned))
            cleaned.append(name)

    async def fails() -> None:
        await ctx.run(broke, 7)

    try:
        async with asyncio.TaskGroup() as group:
            for name in "abcdefgh":
                group.create_task(waits(name))
            group.create_task(fails())
    except* TerminalError as errors:
        cleaned.append(str(errors.exceptions[0]))
    return " ".join(cleaned)


@things.handler
async def values(ctx: Context) -> list[str]:
    now = ctx.now()
    assert ctx.now() == now
    numbers = [str(ctx.random.random()), str(ctx.uuid())]
    await ctx.sleep(3600)
    passed = ctx.now() - now
    return [*numbers, str(round(passed.total_seconds() / 3600)), ctx.headers["h"]]


@things.handler
async def sends(ctx: Context) -> str:
    first = ctx.send(greet, "one")
    second = ctx.options(delay=60, idempotency_key="k", headers={"a": "b"}).send(greet, "two")
    ids = await asyncio.gather(first.invocation_id, second.invocation_id)
    assert ids[0] != ids[1]
    return await ctx.attach(ids[1], str)


@things.handler
async def late_await(ctx: Context) -> int:
    slow: Future[None] = ctx.sleep(10)
    value = ctx.run(double, 4)
    await ctx.sleep(20)
    await slow
    return await value + await value


@things.handler
async def saga(ctx: Context, order: Order) -> str:
    undo: list[int] = []
    try:
        undo.append(await ctx.run(double, order.cents))
        await ctx.run(broke, order.cents)
    except TerminalError as error:
        for cents in reversed(undo):
            await ctx.run(triple, cents)
        raise TerminalError(f"order {order.id}: {error}", code=error.code) from error
    return "never"


@things.handler
async def awaits_approval(ctx: Context) -> str:
    approval = ctx.awakeable(str)
    ctx.send(approve_it, approval.id)
    refused = ctx.awakeable(int)
    ctx.send(refuse_it, refused.id)
    answer = await approval
    try:
        await refused
    except TerminalError as error:
        answer += f" {error.message} {error.code}"
    return answer


@things.handler
async def approve_it(ctx: Context, id: str) -> None:
    await ctx.sleep(5)
    ctx.resolve_awakeable(id, "yes")


@things.handler
async def refuse_it(ctx: Context, id: str) -> None:
    ctx.reject_awakeable(id, "no", code=418)


@things.handler
async def waits_long(ctx: Context) -> str:
    await ctx.sleep(10_000)
    return "woke up"


@things.handler
async def compensates(ctx: Context) -> str:
    try:
        await ctx.call(waits_long)
    except Cancelled:
        await ctx.run(double, 1)
        raise
    return "never"


@things.handler
def plain(ctx: Context, n: int) -> int:
    a, b = ctx.run(double, n), ctx.run(triple, n)
    ctx.sleep(1).result()
    return a.result() + b.result() + ctx.call(steps, n).result()


@counter.handler
async def add(ctx: ObjectContext, n: int) -> int:
    value = await ctx.get("value", int, 0) + n
    ctx.set("value", value)
    return value


@counter.shared
async def value(ctx: SharedContext) -> int:
    return await ctx.get("value", int, 0)


@counter.handler
async def shuffle(ctx: ObjectContext) -> list[str]:
    ctx.set("b", {"x": 1})
    before = await ctx.get("b", dict[str, int], {})
    ctx.set("a", "text")
    ctx.set("raw", b"\x00\xff")
    keys = await ctx.keys()
    ctx.clear("b")
    gone = await ctx.get("b", str)
    await ctx.run(double, 1)
    raw = await ctx.get("raw", bytes, b"")
    ctx.clear()
    return [*keys, str(before), str(gone), str(raw), str(await ctx.get("a", str)), str(await ctx.keys())]


@counter.handler
def plain_add(ctx: ObjectContext, n: int) -> int:
    value = ctx.get("value", int, 0).result() + n
    ctx.set("value", value)
    ctx.run(double, n).result()
    return ctx.get("value", int, 0).result()


@publish.main
async def run(ctx: WorkflowContext, title: str) -> str:
    promise = ctx.promise("approved", str)
    assert await promise.peek() is None
    ctx.set("status", "waiting")
    ctx.send(approve[ctx.key], "Ada")
    by = await promise
    ctx.set("status", "done")
    return f"{title} by {by}"


@publish.handler
async def approve(ctx: WorkflowSharedContext, by: str) -> str | None:
    await ctx.promise("approved", str).resolve(by)
    try:
        await ctx.promise("approved", str).reject("too late")
    except TerminalError as error:
        assert error.code == 409
    return await ctx.get("status", str)

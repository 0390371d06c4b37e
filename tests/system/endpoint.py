"""The endpoint that the system tests kill: one handler of each kind, their effects countable from outside."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

from examples.podcast.outside import Effects
from holdfast import (
    Context,
    ObjectContext,
    Service,
    SharedContext,
    VirtualObject,
    Workflow,
    WorkflowContext,
    serve,
)

effects = Effects(Path(os.environ["EFFECTS"]))

counter = VirtualObject("counter")
line = VirtualObject("line")
mailbox = VirtualObject("mailbox")
job = Service("job")
once = Workflow("once")


@counter.handler
async def add(ctx: ObjectContext, n: int) -> int:
    value = await ctx.get("value", int, 0) + n
    ctx.set("value", value)
    return value


@counter.shared
async def value(ctx: SharedContext) -> int:
    return await ctx.get("value", int, 0)


@line.handler
async def append(ctx: ObjectContext, item: int) -> None:
    items = await ctx.get("items", list[int], [])
    ctx.set("items", [*items, item])


@line.shared
async def items(ctx: SharedContext) -> list[int]:
    return await ctx.get("items", list[int], [])


@mailbox.handler
async def put(ctx: ObjectContext, text: str) -> None:
    ctx.set("text", text)


@mailbox.shared
async def text(ctx: SharedContext) -> str:
    return await ctx.get("text", str, "")


@dataclass(frozen=True)
class Transfer:
    source: str
    target: str


@job.handler
async def steps(ctx: Context, name: str) -> list[str]:
    """Three steps; each run of each leaves a take of its own in the effects file."""
    first = await ctx.run(take, name, "first")
    second, third = await asyncio.gather(ctx.run(take, name, "second"), ctx.run(take, name, "third"))
    return [first, second, third]


@job.handler
async def transfer(ctx: Context, how: Transfer) -> None:
    await asyncio.gather(ctx.call(add[how.source], -1), ctx.call(add[how.target], 1))


@job.handler
async def nap(ctx: Context, key: str) -> int:
    await ctx.sleep(timedelta(milliseconds=50))
    return await ctx.call(add[key], 1)


@job.handler
async def tell(ctx: Context, key: str) -> None:
    """One way: the count arrives although nobody waits for it."""
    ctx.send(add[key], 1)


@job.handler
async def wait(ctx: Context, key: str) -> int:
    """Waits for somebody outside, who finds the awakeable's id in the mailbox."""
    answer = ctx.awakeable(int)
    ctx.send(put[key], answer.id)
    return await answer


@once.main
async def run(ctx: WorkflowContext, key: str) -> str:
    mark = await ctx.run(take, ctx.key, "once")
    await ctx.call(add[key], 1)
    return mark


def take(name: str, step: str) -> str:
    mark = uuid4().hex
    effects.record(name, step, mark)
    return mark


if __name__ == "__main__":
    serve([counter, line, mailbox, job, once])

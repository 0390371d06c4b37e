"""The endpoint that `invoke.py` drives: handlers that do as little as possible, so that the machinery is measured."""

from __future__ import annotations

from holdfast import Context, ObjectContext, Service, VirtualObject, serve

bench = Service("bench")
counter = VirtualObject("counter")
vault = VirtualObject("vault")


@bench.handler
async def greet(ctx: Context, name: str) -> str:
    return f"Hello {name}"


@bench.handler
async def steps3(ctx: Context, name: str) -> str:
    for _ in range(3):
        name = await ctx.run(step, name)
    return name


@bench.handler
async def call(ctx: Context, name: str) -> str:
    return await ctx.call(greet, name)


@counter.handler
async def add(ctx: ObjectContext, n: int) -> int:
    value = await ctx.get("value", int, 0) + n
    ctx.set("value", value)
    return value


@vault.handler
async def fill(ctx: ObjectContext, count: int) -> int:
    """``--stored-keys``: state that only lies there."""
    for number in range(count):
        ctx.set(f"entry-{number:06d}", f"value {number} of {ctx.key}")
    return count


async def step(name: str) -> str:
    return name


if __name__ == "__main__":
    serve([bench, counter, vault])

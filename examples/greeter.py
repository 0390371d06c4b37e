"""The smallest Holdfast app: run it with ``holdfast dev examples/greeter.py``."""

from __future__ import annotations

from holdfast import Context, ObjectContext, Service, VirtualObject, serve

greeter = Service("greeter")
counter = VirtualObject("counter")


@counter.handler
async def add(ctx: ObjectContext, n: int) -> int:
    """One at a time per key, and the state lasts: no lock, no database."""
    value = await ctx.get("value", int, 0) + n
    ctx.set("value", value)
    return value


def compose(name: str, times: int) -> str:
    """Stands for whatever is slow, random or elsewhere: ``ctx.run`` keeps what it returned."""
    return f"Hello {name}, for the {times}. time"


@greeter.handler
async def greet(ctx: Context, name: str) -> str:
    times = await ctx.call(add[name], 1)
    return await ctx.run(compose, name, times)


if __name__ == "__main__":
    serve([greeter, counter])

"""An endpoint that misbehaves in every way a user's code can, beside handlers that are fine.

Which attempt it is must survive the process, so it is counted in files below ATTEMPTS.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from holdfast import Context, Service, SharedContext, TerminalError, VirtualObject, serve

attempts = Path(os.environ["ATTEMPTS"])
hostile = Service("hostile")
box = VirtualObject("box")


def attempt(name: str) -> int:
    """Which run of ``name`` this is, from 1, over all processes."""
    with (attempts / name).open("ab") as file:
        file.write(b".")
        return file.tell()


@hostile.handler
async def fine(ctx: Context, name: str) -> str:
    return f"fine, {name}"


@hostile.handler
async def crash(ctx: Context, name: str) -> int:
    """The process dies in the middle of the first attempt, after one step."""
    first = await ctx.run(attempt, f"{name}-step")
    if attempt(name) == 1:
        os._exit(13)
    return first


@hostile.handler
async def hang(ctx: Context, name: str) -> None:
    """Never comes back."""
    await ctx.run(hang_in_step, name)


async def hang_in_step(name: str) -> None:
    attempt(name)
    await asyncio.sleep(3600)


@hostile.handler
async def raises_twice(ctx: Context, name: str) -> int:
    count = attempt(name)
    if count < 3:
        raise ValueError(f"attempt {count} of {name} fails")
    return count


@hostile.handler
async def gives_up(ctx: Context, name: str) -> None:
    raise TerminalError(f"no way, {name}", code=418)


@hostile.handler
async def unserialisable(ctx: Context, name: str) -> object:
    return object()


@hostile.handler
async def not_durable(ctx: Context, name: str) -> None:
    await asyncio.to_thread(time.sleep, 0.01)


@hostile.handler
async def changes_its_mind(ctx: Context, name: str) -> str:
    """Takes another way on the second attempt than the journal of the first says."""
    if attempt(name) == 1:
        await ctx.run(fine_step, name)
        raise ValueError("the first attempt fails")
    await ctx.sleep(0.01)
    return name


def fine_step(name: str) -> str:
    time.sleep(0.01)
    return name


@box.shared
async def writes(ctx: SharedContext, text: str) -> None:
    """A shared handler that helps itself to the exclusive one's interface."""
    ctx.set("text", text)  # type: ignore[attr-defined]


if __name__ == "__main__":
    serve([hostile, box])

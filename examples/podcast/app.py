"""A podcast studio: each episode is transcribed, summarised, paid for, approved by an editor and published.

The workflow reads like a script that never fails. Kill this process, or the node that drives it, wherever you like:
each step that had finished is not run again, and the others go on where they were. `make demo` does exactly that.

Run it with ``python -m examples.podcast.app``; it listens on HOLDFAST_BIND (127.0.0.1:9080).
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from examples.podcast.outside import Effects, Payments
from holdfast import (
    ObjectContext,
    SharedContext,
    TerminalError,
    VirtualObject,
    Workflow,
    WorkflowContext,
    WorkflowSharedContext,
    serve,
)

DIRECTORY = Path(os.environ.get("PODCAST_DIRECTORY", "."))
effects = Effects(DIRECTORY / "effects.jsonl")
payments = Payments(DIRECTORY / "payments.jsonl")

show = VirtualObject("show")
episode = Workflow("episode")


@dataclass(frozen=True)
class Episode:
    show: str
    title: str
    cents: int


@dataclass(frozen=True)
class Published:
    """What the studio hands back. ``takes`` are the marks that each step left in the world, see `Effects`."""

    number: int
    summary: str
    receipt: str
    takes: dict[str, str]


@show.handler
async def add(ctx: ObjectContext, title: str) -> int:
    """Give the next episode its number. Handlers of one show run one at a time, so none is given twice."""
    number = await ctx.get("episodes", int, 0) + 1
    ctx.set("episodes", number)
    ctx.set("latest", title)
    return number


@show.shared
async def episodes(ctx: SharedContext) -> int:
    return await ctx.get("episodes", int, 0)


@episode.main
async def run(ctx: WorkflowContext, job: Episode) -> Published:
    transcript = await ctx.run(transcribe, ctx.key, job.title)
    summary = await ctx.run(summarise, ctx.key, transcript.text)

    # The workflow's key is the payment's reference: a charge that is repeated after a crash is the same charge.
    receipt = await ctx.run(payments.charge, ctx.key, job.cents)
    try:
        if not await ctx.promise("approved", bool):
            raise TerminalError("the editor rejected the episode", code=422)
        feed = await ctx.run(publish, ctx.key, job.title)
        number = await ctx.call(add[job.show], job.title)
    except TerminalError:  # a cancelled workflow comes by here too
        await ctx.run(payments.refund, ctx.key)
        raise

    takes = {"transcribe": transcript.take, "summarise": summary.take, "publish": feed.take}
    return Published(number, summary.text, receipt, takes)


@episode.handler
async def review(ctx: WorkflowSharedContext, approved: bool) -> None:
    """The editor's word, given at any time: the workflow above waits for it, for weeks if need be."""
    await ctx.promise("approved", bool).resolve(approved)


@dataclass(frozen=True)
class Work:
    text: str
    take: str


def transcribe(key: str, title: str) -> Work:
    return _work(key, "transcribe", f"{title}, word by word")


def summarise(key: str, text: str) -> Work:
    return _work(key, "summarise", f"In short: {text}")


def publish(key: str, title: str) -> Work:
    return _work(key, "publish", f"{title} is out")


def _work(key: str, step: str, text: str) -> Work:
    """Stands for a slow call to somebody else; what it did is written down before it answers."""
    time.sleep(0.02)
    take = uuid4().hex
    effects.record(key, step, take)
    return Work(text, take)


if __name__ == "__main__":
    serve([show, episode])

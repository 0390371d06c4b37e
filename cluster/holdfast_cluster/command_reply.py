"""Submit one command and await what applying it answered.

For operators' commands, one at a time: what is on the hot path gathers its commands and takes callbacks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from holdfast_cluster.admin_error import InvalidRequest, NoRoom, Unavailable
from holdfast_log.types import LogError, LogFull, Overloaded, PayloadTooLarge
from holdfast_partition_processor.action import InvocationCompleted, Reply
from holdfast_partition_processor.command import Command
from holdfast_partition_processor.waiters import Waiter

REPLY_SECONDS_MAX = 10.0
"""An operator who waits longer than this wants to know that something is wrong."""


class CommandTaker(Protocol):
    """The part of `PartitionProcessor` that is needed here."""

    @property
    def partition(self) -> int: ...

    def submit(self, command: Command) -> None: ...
    def next_request(self, waiter: Waiter) -> int: ...
    def drop_request(self, number: int) -> None: ...


async def ask(
    processor: CommandTaker, command_of: Callable[[int], Command], *, seconds_max: float = REPLY_SECONDS_MAX
) -> Reply:
    """The reply to ``command_of(request number)``. Raises Unavailable when this node does not lead the partition, loses
    the lead or hears nothing in time, NoRoom when nothing more can be taken, InvalidRequest for a command that is too
    large."""
    waiter = _FutureWaiter(asyncio.get_running_loop().create_future())
    request = 0
    try:
        request = processor.next_request(waiter)
        processor.submit(command_of(request))
        async with asyncio.timeout(seconds_max):
            return await waiter.reply
    except TimeoutError:
        raise Unavailable(
            f"partition {processor.partition} did not apply the command within {seconds_max:g} s; it may still do so"
        ) from None
    except (LogFull, Overloaded) as error:
        raise NoRoom(str(error)) from error
    except PayloadTooLarge as error:
        raise InvalidRequest(str(error)) from error
    except LogError as error:
        raise Unavailable(str(error)) from error
    finally:
        processor.drop_request(request)


class _FutureWaiter:
    def __init__(self, reply: asyncio.Future[Reply]) -> None:
        self.reply = reply

    def replied(self, reply: Reply) -> None:
        if not self.reply.done():
            self.reply.set_result(reply)

    def completed(self, result: InvocationCompleted) -> None:
        raise AssertionError("waits for a command, not for an invocation")

    def lost(self, error: LogError) -> None:
        if not self.reply.done():
            self.reply.set_exception(error)

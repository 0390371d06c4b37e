"""Futures of an ``async def`` handler: asyncio's own, completed by notifications.

They are coroutines as well, so that ``TaskGroup.create_task(ctx.run(f))`` works. Their hash is a number given in
program order, because asyncio keeps futures in sets, and the order of a set must be the same on replay.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from types import TracebackType
from typing import Any, TypeVar

from holdfast._runner import DurableFuture
from holdfast._wire import Decode, from_failure
from holdfast_proto import protocol_pb2 as pb

T = TypeVar("T")


class AsyncFuture(asyncio.Future[T], DurableFuture[T]):
    """See the module."""

    _asyncio_future_blocking: bool

    def __init__(self, decode: Decode[T], loop: asyncio.AbstractEventLoop, number: int) -> None:
        super().__init__(loop=loop)
        self._decode = decode
        self._number = number

    # ---------------------------------------------------------------- as a waiter of the journal

    @property
    def awaited(self) -> bool:
        return bool(self._callbacks)

    def complete(self, notification: pb.Notification) -> None:
        if self.done():
            return
        if notification.HasField("failure"):
            self.set_exception(from_failure(notification.failure))
            return
        try:
            self.set_result(self._decode(notification))
        except Exception as error:  # noqa: BLE001 - a serde of the user's may raise anything; it belongs to the awaiter
            self.set_exception(error)

    def fail(self, error: BaseException) -> None:
        if not self.done():
            self.set_exception(error)

    # ---------------------------------------------------------------- as a coroutine

    def __await__(self) -> Generator[Any, Any, T]:
        return super().__await__()

    __iter__ = __await__

    def send(self, value: Any, /) -> Any:
        if not self.done():
            self._asyncio_future_blocking = True
            return self
        raise StopIteration(self.result())

    def throw(self, typ: Any, val: Any = None, tb: TracebackType | None = None, /) -> Any:
        error = typ if isinstance(typ, BaseException) else (val if isinstance(val, BaseException) else typ())
        raise error.with_traceback(tb) if tb is not None else error

    def close(self) -> None:
        """A coroutine that was not begun needs no clean-up."""

    def __hash__(self) -> int:
        return self._number

"""Many calls over one gRPC stream: requests that are made in one turn of the event loop travel in one message.

::

    invoke ─▶ queue ─▶ one InvokeBatch per turn ─▶ node
                                                    │
    invoke ◀─ future by correlation id ◀─ InvokeBatchResponse, in the order of completion

A unary gRPC call costs some 200 µs of CPU on each side, an item of such a batch a few. A stream that breaks takes with
it all that is outstanding; each of those is told whether it had been sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
import grpc.aio

from holdfast_proto import ingress_pb2 as pb

if TYPE_CHECKING:
    from holdfast_proto.ingress_pb2_grpc import IngressAsyncStub  # known to the type checker only

OUTSTANDING_MAX = 1_000
"""Calls per stream. A node stops reading a stream that has some thousands, and a call that is waited for must not be
behind the one that would complete it: with more, another stream is opened."""
BATCH_REQUESTS_MAX = 512
BATCH_BYTES_MAX = 1024 * 1024
"""Of bodies: larger messages would delay what is behind them. A larger body goes alone."""


class StreamLost(Exception):
    """The stream ended before the answer, in good order if there is no ``error``. ``sent``: the node may have got the
    request."""

    def __init__(self, error: grpc.aio.AioRpcError | None, sent: bool) -> None:
        super().__init__("the node ended the stream" if error is None else str(error))
        self.error = error
        self.sent = sent


@dataclass(slots=True)
class _Outstanding:
    request: pb.InvokeRequest
    answer: asyncio.Future[pb.InvokeResponse]
    sent: bool = False


class CallStream:
    """Opens itself with the first call. Once it broke it is `broken` for good."""

    def __init__(self, stub: IngressAsyncStub) -> None:
        self._stub = stub
        self._outstanding: dict[int, _Outstanding] = {}
        self._queue: list[_Outstanding] = []
        self._last_id = 0
        self._wake = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None
        self.broken = False

    @property
    def outstanding(self) -> int:
        return len(self._outstanding)

    async def invoke(self, request: pb.InvokeRequest) -> pb.InvokeResponse:
        """``request`` gets a correlation id. Raises StreamLost."""
        assert not self.broken, "look before you leap"
        if self._reader is None:
            self._reader = asyncio.create_task(self._read(), name="holdfast call stream")
        self._last_id += 1
        number = request.correlation_id = self._last_id
        item = _Outstanding(request, asyncio.get_running_loop().create_future())
        self._outstanding[number] = item
        self._queue.append(item)
        self._wake.set()
        try:
            return await item.answer
        finally:
            self._outstanding.pop(number, None)

    async def close(self) -> None:
        """Calls that are outstanding are cancelled here; their invocations go on."""
        self.broken = True
        for item in self._outstanding.values():
            item.answer.cancel()
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.wait([self._reader])

    async def _read(self) -> None:
        call = self._stub.InvokeStream(self._batches())
        ended: grpc.aio.AioRpcError | None = None
        try:
            async for batch in call:
                for response in batch.responses:
                    item = self._outstanding.get(response.correlation_id)
                    if item is not None and not item.answer.done():
                        item.answer.set_result(response)
        except grpc.aio.AioRpcError as error:
            ended = error
        finally:
            self.broken = True
            call.cancel()
            for item in self._outstanding.values():
                if not item.answer.done():
                    item.answer.set_exception(StreamLost(ended, item.sent))

    async def _batches(self) -> AsyncIterator[pb.InvokeBatch]:
        """gRPC takes the next batch when it has room for it; what is asked for meanwhile gathers."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                yield pb.InvokeBatch(requests=self._take())

    def _take(self) -> list[pb.InvokeRequest]:
        size, count = 0, 0
        for item in self._queue[:BATCH_REQUESTS_MAX]:
            size += len(item.request.body)
            if count and size > BATCH_BYTES_MAX:
                break
            count += 1
        batch, self._queue = self._queue[:count], self._queue[count:]
        wanted = [item for item in batch if not item.answer.done()]  # a caller may have given up meanwhile
        for item in wanted:
            item.sent = True
        return [item.request for item in wanted]

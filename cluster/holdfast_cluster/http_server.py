"""An HTTP/1.1 listener in the node's own event loop: httptools parses, a callback handles, no task per request.

What it promises: requests of one connection are answered in their order; answers of one turn of the event loop leave
with one write per connection; whatever a client does (goes away, never reads, sends byte by byte, sends garbage) costs
that client its connection and nobody else anything. `HttpLimits` has every number.

What a handler must do: call `Responder.respond` exactly once, now or later, on the event loop; set
`Responder.on_disconnect` if it wants to know that nobody waits any more.

HTTP/2 is not spoken (clients fall back: an upgrade offer is ignored, a bare HTTP/2 preface is answered with 505);
for many calls over one connection there is the gRPC ingress.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from email.utils import formatdate

from holdfast_cluster.http_connection import HttpConnection, Responder
from holdfast_cluster.http_message import HttpLimits, Request, status_line

logger = logging.getLogger(__name__)

SWEEP_SECONDS = 1.0
"""Timeouts of all connections are looked at this often, in one go; they are so much coarse."""
BACKLOG = 1024

Handler = Callable[[Request, Responder], None]


class HttpServer:
    """One listener. ``name`` is what log lines call it."""

    def __init__(self, name: str, handler: Handler, limits: HttpLimits | None = None) -> None:
        self.name = name
        self.handler = handler
        self.limits = limits or HttpLimits()
        self.connections: set[HttpConnection] = set()
        self.requests = 0
        self.refused_connections = 0
        self.closing = False
        self.port = 0  # the real one, after `start`
        self._dirty: list[HttpConnection] = []
        self._heads: dict[int, bytes] = {}
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._emptied = asyncio.Event()

    async def start(self, host: str, port: int) -> None:
        """Raises OSError when the address can't be bound."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: HttpConnection(self), host, port, backlog=BACKLOG)
        self.port = int(self._server.sockets[0].getsockname()[1])
        self._sweep()

    async def close(self, grace_seconds: float) -> None:
        """Stop listening, let the requests that are being handled finish for so long, then cut what is left."""
        self.closing = True
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            connection.finish()
        if self.connections:
            try:
                await asyncio.wait_for(self._emptied.wait(), grace_seconds)
            except TimeoutError:
                logger.info("%s: %d connections cut after %g s", self.name, len(self.connections), grace_seconds)
        for connection in list(self.connections):
            connection.abort()
        if self._sweeper is not None:
            self._sweeper.cancel()

    # ------------------------------------------------------------ called by connections

    def admit(self, connection: HttpConnection) -> bool:
        if len(self.connections) >= self.limits.connections_max or self.closing:
            self.refused_connections += 1
            return False
        self.connections.add(connection)
        return True

    def forget(self, connection: HttpConnection) -> None:
        self.connections.discard(connection)
        if self.closing and not self.connections:
            self._emptied.set()

    def flush_soon(self, connection: HttpConnection) -> None:
        if not self._dirty:
            asyncio.get_running_loop().call_soon(self._flush)
        self._dirty.append(connection)

    def head(self, status: int) -> bytes:
        """Status line and date, which are the same for a second."""
        head = self._heads.get(status)
        if head is None:
            date = formatdate(time.time(), usegmt=True)
            head = self._heads[status] = status_line(status) + f"date: {date}\r\n".encode()
        return head

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, []
        for connection in dirty:
            connection.flush()

    def _sweep(self) -> None:
        self._heads.clear()
        loop = asyncio.get_running_loop()
        now = loop.time()
        for connection in list(self.connections):
            connection.check_time(now)
        self._sweeper = loop.call_later(SWEEP_SECONDS, self._sweep)

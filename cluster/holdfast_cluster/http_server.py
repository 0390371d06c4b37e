"""An HTTP/1.1 server on the node's event loop: httptools parses, callbacks answer, no task per request.

Responses go out in the order of their requests; those of one loop turn leave in one write.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from typing import cast

import httptools

HEADER_BYTES_MAX = 64 * 1024
HEADERS_MAX = 128
CONNECTIONS_MAX = 10_000
PIPELINE_MAX = 1_024
"""Requests of one connection that wait for their answer; more are not read."""
READ_SECONDS = 30.0
"""From the first byte of a request to its last: slower clients are cut off."""
IDLE_SECONDS = 300.0
SWEEP_SECONDS = 5.0
_STATUS = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_STATUS[470] = b"HTTP/1.1 470 Not Ready\r\n"


class Request:
    """One request; `respond` answers it once. ``headers`` have lower-case names."""

    __slots__ = ("_connection", "answered", "body", "headers", "keep_alive", "method", "on_disconnect", "url")

    def __init__(self, connection: Connection, method: str, url: bytes, headers: list[tuple[str, str]]) -> None:
        self._connection = connection
        self.method = method
        self.url = url
        self.headers = headers
        self.body = b""
        self.keep_alive = True
        self.answered: bytes | None = None
        self.on_disconnect: Callable[[], None] | None = None

    def header(self, name: str) -> str | None:
        for key, value in self.headers:
            if key == name:
                return value
        return None

    def respond(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        if self.answered is not None:
            return
        lines = [_STATUS.get(status) or b"HTTP/1.1 %d Status\r\n" % status]
        lines += [f"{name}: {value}\r\n".encode("latin-1", "replace") for name, value in headers]
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        lines.append(b"content-length: %d\r\n\r\n" % len(body))
        if self.method != "HEAD":
            lines.append(body)
        self.answered = b"".join(lines)
        self._connection.flush_soon()


class Connection(asyncio.Protocol):
    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[Request] = deque()
        self._url = b""
        self._headers: list[tuple[str, str]] = []
        self._header_bytes = 0
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._began: float | None = None
        self._idle_since = 0.0
        self._flush_scheduled = False
        self._closing = False
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        connected = cast(asyncio.Transport, transport)  # uvloop's transports are not subclasses
        self._transport = connected
        self._idle_since = self._server.loop.time()
        if len(self._server.connections) >= CONNECTIONS_MAX:
            self._closing = True
            connected.close()
            return
        self._server.connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._server.connections.discard(self)
        self._transport = None
        for request in self._waiting:
            if request.on_disconnect is not None and request.answered is None:
                request.on_disconnect()
        self._waiting.clear()

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        if self._began is None:
            self._began = self._server.loop.time()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(400, "upgrades (HTTP/2, WebSocket) are not served here; use HTTP/1.1")
        except _Refused as refusal:
            self._refuse(refusal.status, refusal.message)
        except httptools.HttpParserError as error:
            cause = error.__context__
            if isinstance(cause, _Refused):
                self._refuse(cause.status, cause.message)
            else:
                self._refuse(400, f"not HTTP/1.1: {error}")

    def eof_received(self) -> bool:
        return False

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers = []
        self._header_bytes = 0
        self._body = []
        self._body_bytes = 0

    def on_url(self, url: bytes) -> None:
        self._url += url
        self._count_header(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count_header(len(name) + len(value))
        if len(self._headers) >= HEADERS_MAX:
            raise _Refused(431, f"more than {HEADERS_MAX} headers")
        self._headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def _count_header(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > HEADER_BYTES_MAX:
            raise _Refused(431, f"headers of more than {HEADER_BYTES_MAX} bytes")

    def on_headers_complete(self) -> None:
        for name, value in self._headers:
            if name == "content-length" and int(value) > self._server.body_bytes_max:
                raise _Refused(413, f"body of {value} bytes, the limit is {self._server.body_bytes_max}")
            if name == "expect" and value.lower() == "100-continue" and self._transport is not None:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes > self._server.body_bytes_max:
            raise _Refused(413, f"body of more than {self._server.body_bytes_max} bytes, which is the limit")
        self._body.append(body)

    def on_message_complete(self) -> None:
        request = Request(self, self._parser.get_method().decode(), self._url, self._headers)
        request.body = b"".join(self._body)
        request.keep_alive = self._parser.should_keep_alive()
        self._began = None
        self._waiting.append(request)
        if len(self._waiting) >= PIPELINE_MAX and self._transport is not None and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        self._server.handle(request)

    def flush_soon(self) -> None:
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._server.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_scheduled = False
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        out = []
        last: Request | None = None
        while self._waiting and self._waiting[0].answered is not None:
            last = self._waiting.popleft()
            assert last.answered is not None
            out.append(last.answered)
            if not last.keep_alive:
                break
        if out:
            transport.write(b"".join(out))
            self._idle_since = self._server.loop.time()
        if self._paused and len(self._waiting) < PIPELINE_MAX // 2:
            self._paused = False
            transport.resume_reading()
        if last is not None and (not last.keep_alive or (self._closing and not self._waiting)):
            transport.close()

    def _refuse(self, status: int, message: str) -> None:
        """The rest of the connection can't be understood: answer what came before, say why, close."""
        self._closing = True
        request = Request(self, "GET", b"", [])
        request.keep_alive = False
        self._waiting.append(request)
        self._server.refuse(request, status, message)

    def sweep(self, now: float) -> None:
        if self._began is not None and now - self._began > READ_SECONDS:
            self._began = None
            self._refuse(408, f"the request was not complete after {READ_SECONDS:g} s")
        elif not self._waiting and self._began is None and now - self._idle_since > IDLE_SECONDS:
            self.close_when_idle()

    def close_when_idle(self) -> None:
        self._closing = True
        if not self._waiting and self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class _Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class HttpServer:
    """``handle`` gets each request; ``refuse`` words the answer to one that could not be read."""

    def __init__(
        self,
        handle: Callable[[Request], None],
        refuse: Callable[[Request, int, str], None],
        *,
        body_bytes_max: int,
    ) -> None:
        self.handle = handle
        self.refuse = refuse
        self.body_bytes_max = body_bytes_max
        self.loop = asyncio.get_running_loop()
        self.connections: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self._sweeper = self.loop.call_later(SWEEP_SECONDS, self._sweep)

    async def start(self, host: str, port: int) -> int:
        """Returns the port. Raises OSError."""
        self._server = await self.loop.create_server(lambda: Connection(self), host, port, backlog=1024)
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def stop(self, grace_seconds: float) -> None:
        """Take no more connections, let answers go out, then cut off what is left."""
        self._sweeper.cancel()
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            connection.close_when_idle()
        end = self.loop.time() + grace_seconds
        while self.connections and self.loop.time() < end:
            await asyncio.sleep(0.02)
        for connection in list(self.connections):
            connection.abort()

    def _sweep(self) -> None:
        now = self.loop.time()
        for connection in list(self.connections):
            connection.sweep(now)
        self._sweeper = self.loop.call_later(SWEEP_SECONDS, self._sweep)

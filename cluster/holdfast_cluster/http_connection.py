"""One HTTP/1.1 connection: bytes in, requests to the handler, answers out in the order of the requests.

::

             first byte            headers complete         message complete
    IDLE ────────────────▶ HEAD ─────────────────▶ BODY ─────────────────▶ IDLE
     │ idle_seconds_max     │ head_seconds_max      │ body_seconds_max
     └──────────────────────┴──────── closed ───────┘

Apart from that a connection has requests that wait for their turn (`_parsed`) or for their answer (`_outstanding`).
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, cast

import httptools

from holdfast_cluster.http_message import ERROR_HEADERS, Request, error_body

if TYPE_CHECKING:
    from holdfast_cluster.http_server import HttpServer

logger = logging.getLogger(__name__)

JOINED_BODY_BYTES_MAX = 16 * 1024
"""A body up to this size is copied behind its headers; a larger one is cheaper as a buffer of its own."""
HTTP2_PREFACE = b"PRI * HTTP/2"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
CLOSE = b"connection: close\r\n"
KEEP_ALIVE = b"connection: keep-alive\r\n"


class Phase(Enum):
    IDLE = "idle"
    HEAD = "the headers"
    BODY = "the body"


class Refused(Exception):
    """The request breaks a rule of HTTP or a limit; the connection can't go on after the answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Responder:
    """Where the answer to one request goes."""

    __slots__ = ("_connection", "connection_header", "head_only", "on_disconnect", "response")

    def __init__(self, connection: HttpConnection, connection_header: bytes, head_only: bool) -> None:
        self._connection: HttpConnection | None = connection
        self.connection_header = connection_header
        self.head_only = head_only
        self.response: list[bytes] | None = None
        self.on_disconnect: Callable[[], None] | None = None

    def respond(self, status: int, headers: bytes, body: bytes = b"") -> None:
        """Nothing happens when the client is gone."""
        connection = self._connection
        if connection is None:
            return
        assert self.response is None, "one request has one answer"
        self.on_disconnect = None
        start = connection.server.head(status)
        head = b"%b%b%bcontent-length: %d\r\n\r\n" % (start, headers, self.connection_header, len(body))
        if self.head_only or not body:
            self.response = [head]
        elif len(body) <= JOINED_BODY_BYTES_MAX:
            self.response = [head + body]
        else:
            self.response = [head, body]
        connection.answered(self)

    def refuse(self, status: int, message: str) -> None:
        self.respond(status, ERROR_HEADERS, error_body(status, message))

    def disconnected(self) -> None:
        self._connection = None
        callback, self.on_disconnect = self.on_disconnect, None
        if callback is not None:
            callback()


class HttpConnection(asyncio.Protocol):
    """Its callbacks are called by the transport (`asyncio.Protocol`) and by httptools (``on_...``)."""

    def __init__(self, server: HttpServer) -> None:
        self.server = server
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._phase = Phase.IDLE
        self._phase_since = self._loop.time()
        self._parsed: deque[tuple[Request, Responder]] = deque()
        self._outstanding: deque[Responder] = deque()
        self._out: list[bytes] = []
        self._flush_due = False
        self._continue_due = False
        self._deaf = False  # what still comes is ignored: the client was refused, or said that it was done
        self._closes = False  # close once everything is answered
        self._refusal: Refused | None = None  # to be said after the answers to the requests before
        self._refused = False
        self._lingers_since = 0.0  # when our side was closed, 0: it is not
        self._half_closed_since = 0.0  # when the client closed its side, 0: it did not
        self._reading_paused = False
        self._blocked_since = 0.0  # when the client stopped reading, 0: it reads
        self._new_message()

    def _new_message(self) -> None:
        self._method = b""
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._head_bytes = 0
        self._header_count = 0
        self._unfinished_head_bytes = 0
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._upgrade_offered = False
        self._resuming = False

    # ------------------------------------------------------------ transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast("asyncio.Transport", transport)  # uvloop's has another base class
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # a client that waits long may vanish silently
        if not self.server.admit(self):
            limit = self.server.limits.connections_max
            self._deaf = True
            message = f"this listener has its limit of {limit} connections (connections_max), or it is stopping"
            body = error_body(503, message)
            head = self.server.head(503) + ERROR_HEADERS + b"retry-after: 1\r\n" + CLOSE
            transport.write(b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body))
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._deaf = True
        self._parsed.clear()
        self._out.clear()
        outstanding = list(self._outstanding)
        self._outstanding.clear()
        self.server.forget(self)
        for responder in outstanding:
            responder.disconnected()

    def eof_received(self) -> bool:
        """A client that goes away looks like one that closed its side and still reads. It gets a little time."""
        self._deaf = True
        if self._outstanding or self._parsed or self._out:
            self._closes = True
            self._half_closed_since = self._loop.time()
            return True
        return False

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        try:
            self._feed(data)
        except Refused as refused:
            self._refuse(refused)
        if self._phase is Phase.HEAD:
            self._watch_unfinished_head(len(data))
        if self._continue_due:
            self._send_continue()
        if self._parsed:
            self._dispatch()

    def pause_writing(self) -> None:
        self._blocked_since = self._loop.time()
        self._pause_reading()

    def resume_writing(self) -> None:
        self._blocked_since = 0.0
        self._advance()

    # ------------------------------------------------------------ parsing

    def _feed(self, data: bytes) -> None:
        """Raises Refused."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserCallbackError as error:
            if isinstance(error.__context__, Refused):
                raise error.__context__ from None
            raise
        except httptools.HttpParserError as error:
            if self._deaf:
                return  # what follows the request that said "connection: close"
            if data.startswith(HTTP2_PREFACE):
                raise Refused(505, "this listener speaks HTTP/1.1 only; for HTTP/2 use the gRPC ingress") from None
            raise Refused(400, f"malformed HTTP request: {error}") from None

    def _ignore_upgrade(self, rest: bytes) -> None:
        """RFC 9110 lets a server ignore an offer to upgrade, but httptools stops at it and takes no body. A fresh
        parser is told of a body of the same length, and given what follows."""
        if self._method == b"CONNECT":
            raise Refused(405, "method CONNECT is not allowed here")
        self._parser = httptools.HttpRequestParser(self)
        length, coding = self._headers.get(b"content-length"), self._headers.get(b"transfer-encoding")
        framing = b"transfer-encoding: " + coding if coding else b"content-length: " + (length or b"0")
        self._resuming = True
        self._feed(b"POST / HTTP/1.1\r\n" + framing + b"\r\n\r\n")
        if rest:
            self._feed(rest)

    def on_message_begin(self) -> None:
        if not self._resuming:
            self._new_message()
            self._enter(Phase.HEAD)

    def on_url(self, url: bytes) -> None:
        if not self._resuming:
            self._target += url
            self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._resuming:
            return
        self._header_count += 1
        self._count_head(len(name) + len(value))
        if self._header_count > self.server.limits.header_count_max:
            limit = self.server.limits.header_count_max
            raise Refused(431, f"more than {limit} headers, the limit (header_count_max)")
        name = name.lower()
        known = self._headers.get(name)
        self._headers[name] = value if known is None else known + b", " + value

    def on_headers_complete(self) -> None:
        self._enter(Phase.BODY)
        if self._resuming:
            return
        self._method = self._parser.get_method()
        self._upgrade_offered = self._parser.should_upgrade()
        length = self._headers.get(b"content-length")
        if length is not None and int(length) > self.server.limits.body_bytes_max:
            raise self._body_too_large(int(length))
        if b"expect" in self._headers:
            self._expect(self._headers[b"expect"])

    def on_body(self, data: bytes) -> None:
        self._body_bytes += len(data)
        if self._body_bytes > self.server.limits.body_bytes_max:
            raise self._body_too_large(self._body_bytes)
        self._body.append(data)

    def on_message_complete(self) -> None:
        if self._upgrade_offered and not self._resuming:
            return  # `_ignore_upgrade` goes on with the body
        body = b"" if not self._body else self._body[0] if len(self._body) == 1 else b"".join(self._body)
        header = b""
        if not self._parser.should_keep_alive() or self.server.closing:
            header = CLOSE
            self._deaf = self._closes = True
        elif b"connection" in self._headers:
            header = KEEP_ALIVE  # HTTP/1.0 clients want to be told
        request = Request(self._method, self._target, self._headers, body)
        self._parsed.append((request, Responder(self, header, self._method == b"HEAD")))
        self.server.requests += 1
        self._body = []
        self._resuming = self._continue_due = False
        self._enter(Phase.IDLE)

    def _enter(self, phase: Phase) -> None:
        self._phase = phase
        self._phase_since = self._loop.time()

    def _expect(self, value: bytes) -> None:
        if value.lower() != b"100-continue":
            raise Refused(417, f"expectation {value[:40].decode('latin-1')!r} is not known, only 100-continue")
        self._continue_due = True

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self.server.limits.header_bytes_max:
            raise self._head_too_large()

    def _watch_unfinished_head(self, size: int) -> None:
        """The parser hands over a header when it is whole; one that never ends is caught by counting what came since
        the request began. The first piece is not counted: most of it may belong to earlier requests."""
        if self._unfinished_head_bytes == 0:
            self._unfinished_head_bytes = 1
            return
        self._unfinished_head_bytes += size
        if self._unfinished_head_bytes > self.server.limits.header_bytes_max:
            self._refuse(self._head_too_large())

    def _head_too_large(self) -> Refused:
        limit = self.server.limits.header_bytes_max
        return Refused(431, f"URL and headers have more than {limit} bytes, the limit (header_bytes_max)")

    def _body_too_large(self, size: int) -> Refused:
        limit = self.server.limits.body_bytes_max
        return Refused(413, f"body of {size} bytes or more, the limit is {limit} (body_bytes_max)")

    # ------------------------------------------------------------ handling

    def _dispatch(self) -> None:
        limit = self.server.limits.pipelined_requests_max
        while self._parsed and len(self._outstanding) < limit and not self._blocked_since:
            request, responder = self._parsed.popleft()
            self._outstanding.append(responder)
            try:
                self.server.handler(request, responder)
            except Exception:  # a bug met by one request must not end the connection of the others
                logger.exception("%s: handling %r failed", self.server.name, request.target[:200])
                if responder.response is None:
                    responder.refuse(500, "internal error; the node's log has the details")
        if self._parsed:
            self._pause_reading()
        elif self._refusal is not None:
            refusal, self._refusal = self._refusal, None
            self._refused = self._closes = True
            responder = Responder(self, CLOSE, False)
            self._outstanding.append(responder)
            responder.refuse(refusal.status, refusal.message)

    def answered(self, responder: Responder) -> None:
        queue = self._outstanding
        if queue[0] is not responder:
            return  # kept until those before it are answered
        while queue and queue[0].response is not None:
            self._out += queue.popleft().response or ()
        self._flush_later()

    def _refuse(self, refused: Refused) -> None:
        self._deaf = True
        self._phase = Phase.IDLE
        self._refusal = refused
        self._dispatch()

    # ------------------------------------------------------------ writing

    def _flush_later(self) -> None:
        if not self._flush_due:
            self._flush_due = True
            self.server.flush_soon(self)

    def flush(self) -> None:
        self._flush_due = False
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if self._phase is Phase.IDLE:
            self._phase_since = self._loop.time()
        out, self._out = self._out, []
        if len(out) == 1:
            transport.write(out[0])
        elif out:
            transport.writelines(out)
        self._advance()

    def _advance(self) -> None:
        """After a write: go on with what waits, or close."""
        if self._continue_due:
            self._send_continue()
        if self._parsed or self._refusal is not None:
            self._dispatch()
        if self._parsed or self._refusal is not None or self._transport is None:
            return
        if self._closes and not self._outstanding and not self._out:
            self._hang_up()
        elif self._reading_paused and not self._blocked_since:
            self._resume_reading()

    def _send_continue(self) -> None:
        """Only when no earlier request still waits for its answer: a client would take it for theirs."""
        if not (self._outstanding or self._parsed or self._out) and self._transport is not None:
            self._continue_due = False
            self._transport.write(CONTINUE)

    def _hang_up(self) -> None:
        """A client that was refused may still be sending. To close now would reset the connection, and it would never
        read why: our side is closed, and what comes is ignored for `linger_seconds`."""
        transport = self._transport
        if transport is None or self._lingers_since or transport.is_closing():
            return
        if self._refused and transport.can_write_eof():
            transport.write_eof()
            self._lingers_since = self._loop.time()
            self._resume_reading()
        else:
            transport.close()

    def _resume_reading(self) -> None:
        if self._reading_paused and self._transport is not None and not self._transport.is_closing():
            self._reading_paused = False
            self._transport.resume_reading()

    def _pause_reading(self) -> None:
        if not self._reading_paused and self._transport is not None and not self._transport.is_closing():
            self._reading_paused = True
            self._transport.pause_reading()

    # ------------------------------------------------------------ time and shutdown

    def check_time(self, now: float) -> None:
        """Called by the server's sweep."""
        limits = self.server.limits
        waited = now - self._phase_since
        if self._blocked_since:
            if now - self._blocked_since > limits.write_seconds_max:
                self.abort()
        elif self._lingers_since:
            if now - self._lingers_since > limits.linger_seconds:
                self.abort()
        elif self._half_closed_since:
            if now - self._half_closed_since > limits.half_closed_seconds_max:
                self.abort()
        elif self._reading_paused or self._deaf:
            return  # that nothing comes is our doing
        elif self._phase is Phase.HEAD:
            if waited > limits.head_seconds_max:
                self._too_slow(limits.head_seconds_max, "head_seconds_max")
        elif self._phase is Phase.BODY:
            allowed = limits.body_seconds_max + self._body_bytes / limits.body_bytes_per_second_min
            if waited > allowed:
                self._too_slow(allowed, "body_seconds_max, body_bytes_per_second_min")
        elif waited > limits.idle_seconds_max and not (self._outstanding or self._parsed or self._out):
            self._hang_up()

    def _too_slow(self, seconds: float, limit: str) -> None:
        self._refuse(Refused(408, f"{self._phase.value} took more than {seconds:g} s ({limit})"))

    def finish(self) -> None:
        """The server is stopping: answer what was asked, then close. A request that is half here is still taken."""
        if self._phase is not Phase.IDLE:
            return
        self._deaf = self._closes = True
        for responder in self._outstanding:
            responder.connection_header = CLOSE
        self._advance()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

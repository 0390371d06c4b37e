"""The HTTP listener against clients that behave and clients that don't."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from holdfast_cluster import http_server
from holdfast_cluster.http_connection import Responder
from holdfast_cluster.http_message import HttpLimits, Request
from holdfast_cluster.http_server import HttpServer
from tests.cluster.ingress.raw_http import ask, connect, until

LIMITS = HttpLimits(
    header_bytes_max=1_000,
    header_count_max=10,
    body_bytes_max=1_000,
    connections_max=20,
    pipelined_requests_max=3,
    head_seconds_max=0.1,
    body_seconds_max=0.1,
    body_bytes_per_second_min=100_000,
    idle_seconds_max=0.2,
    write_seconds_max=0.2,
    half_closed_seconds_max=0.1,
    linger_seconds=0.1,
)


class Held:
    """A handler that answers at once with what it was sent, or holds the answer back for `/hold`."""

    def __init__(self) -> None:
        self.held: list[tuple[Request, Responder]] = []
        self.gone: list[bytes] = []

    def __call__(self, request: Request, responder: Responder) -> None:
        if request.target.startswith(b"/hold"):
            responder.on_disconnect = lambda: self.gone.append(request.target)
            self.held.append((request, responder))
        elif request.target == b"/bug":
            raise ZeroDivisionError
        elif request.target == b"/big":
            responder.respond(200, b"", b"x" * 8_000_000)
        else:
            responder.respond(200, b"x-method: %b\r\n" % request.method, request.target + b" " + request.body)

    async def wait_for(self, count: int) -> None:
        await until(lambda: len(self.held) >= count)


@asynccontextmanager
async def serving(handler: Held, limits: HttpLimits = LIMITS) -> AsyncIterator[HttpServer]:
    server = HttpServer("test", handler, limits)
    await server.start("127.0.0.1", 0)
    try:
        yield server
    finally:
        await server.close(0)


@pytest.fixture
async def handler() -> Held:
    return Held()


@pytest.fixture
async def server(handler: Held, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[HttpServer]:
    monkeypatch.setattr(http_server, "SWEEP_SECONDS", 0.02)
    async with serving(handler) as server:
        yield server


async def test_a_connection_serves_many_requests(server: HttpServer) -> None:
    async with connect(server.port) as client:
        for number in range(3):
            answer = await client.ask("POST", f"/{number}", b"hello")
            assert (answer.status, answer.body) == (200, f"/{number} hello".encode())
    assert server.requests == 3


async def test_pipelined_answers_keep_the_order_of_the_requests(server: HttpServer, handler: Held) -> None:
    async with connect(server.port) as client:
        for target in ("/hold/1", "/2", "/hold/3", "/4"):
            client.request("GET", target)
        await handler.wait_for(2)
        for request, responder in reversed(handler.held):
            responder.respond(200, b"", request.target)
        assert [(await client.answer()).body.strip() for _ in range(4)] == [b"/hold/1", b"/2", b"/hold/3", b"/4"]


async def test_only_so_many_pipelined_requests_are_handled_at_once(server: HttpServer, handler: Held) -> None:
    async with connect(server.port) as client:
        for number in range(10):
            client.request("GET", f"/hold/{number}")
        await asyncio.sleep(0.05)
        assert len(handler.held) == LIMITS.pipelined_requests_max
        for number in range(10):
            await handler.wait_for(number + 1)
            handler.held[number][1].respond(200, b"", b"%d" % number)
        assert [(await client.answer()).body for _ in range(10)] == [b"%d" % number for number in range(10)]


async def test_a_body_may_come_in_chunks_and_in_pieces(server: HttpServer) -> None:
    async with connect(server.port) as client:
        message = b"POST /c HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"
        for at in range(len(message)):
            client.send(message[at : at + 1])
            await asyncio.sleep(0)
        assert (await client.answer()).body == b"/c hello world"


async def test_continue_is_sent_before_the_body_is_expected(server: HttpServer) -> None:
    async with connect(server.port) as client:
        client.send(b"POST /e HTTP/1.1\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n")
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"ok")
        assert (await client.answer()).body == b"/e ok"


async def test_head_is_answered_without_a_body(server: HttpServer) -> None:
    async with connect(server.port) as client:
        answer = await client.ask("HEAD", "/h")
        assert answer.headers["content-length"] == "3"
        assert (await client.ask("GET", "/next")).body == b"/next "


async def test_an_offer_to_upgrade_is_ignored(server: HttpServer) -> None:
    upgrade = b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQA\r\n"
    async with connect(server.port) as client:
        client.send(b"GET /u HTTP/1.1\r\n" + upgrade + b"\r\n")
        assert (await client.answer()).body == b"/u "
        client.send(b"POST /u HTTP/1.1\r\n" + upgrade + b"content-length: 4\r\n\r\nbo")
        await asyncio.sleep(0.01)
        client.send(b"dyGET /next HTTP/1.1\r\n\r\n")
        assert (await client.answer()).body == b"/u body"
        assert (await client.answer()).body == b"/next "


@pytest.mark.parametrize(
    ("sent", "status", "words"),
    [
        (b"garbage\r\n\r\n", 400, "malformed"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01", 400, "malformed"),  # TLS to a plain port
        (b"GET / HTTP/1.1\r\nbad header\r\n\r\n", 400, "malformed"),
        (b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n", 400, "malformed"),
        (b"POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", 400, "malformed"),
        (b"POST / HTTP/1.1\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n", 400, "malformed"),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", 400, "malformed"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "HTTP/1.1"),
        (b"CONNECT a:1 HTTP/1.1\r\n\r\n", 405, "CONNECT"),
        (b"GET / HTTP/1.1\r\nexpect: miracles\r\n\r\n", 417, "miracles"),
        (b"POST / HTTP/1.1\r\ncontent-length: 1001\r\n\r\n", 413, "body_bytes_max"),
        (b"POST / HTTP/1.1\r\ncontent-length: 9" + b"9" * 30 + b"\r\n\r\n", 400, "malformed"),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3e9\r\n" + b"x" * 1001, 413, "body_bytes_max"),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 11 + b"\r\n", 431, "header_count_max"),
        (b"GET /" + b"x" * 1001 + b" HTTP/1.1\r\n\r\n", 431, "header_bytes_max"),
        (b"GET / HTTP/1.1\r\na: " + b"x" * 1001 + b"\r\n\r\n", 431, "header_bytes_max"),
    ],
)
async def test_what_breaks_a_rule_is_refused_with_the_reason(
    server: HttpServer, sent: bytes, status: int, words: str
) -> None:
    async with connect(server.port) as client:
        client.send(sent)
        answer = await client.answer()
        assert answer.status == status, answer
        assert words in answer.json["message"]
        assert (answer.json["code"], answer.json["source"]) == (status, "ingress")
        assert answer.headers["connection"] == "close"
        assert await client.closed()
    assert (await ask(server.port, "GET", "/after")).status == 200


async def test_a_refused_request_does_not_overtake_the_answers_before_it(server: HttpServer, handler: Held) -> None:
    async with connect(server.port) as client:
        client.request("GET", "/hold")
        client.send(b"garbage\r\n\r\n")
        await handler.wait_for(1)
        handler.held[0][1].respond(200, b"", b"first")
        assert (await client.answer()).body == b"first"
        assert (await client.answer()).status == 400


async def test_a_header_that_never_ends_is_refused(server: HttpServer) -> None:
    async with connect(server.port) as client:
        client.send(b"GET / HTTP/1.1\r\na: ")
        for _ in range(20):
            client.send(b"x" * 100)
            await asyncio.sleep(0.001)
        assert (await client.answer()).status == 431


@pytest.mark.parametrize(
    ("first", "dripped", "words"),
    [
        (b"GET / HTTP/1.1\r\n", b"a", "head_seconds_max"),
        (b"POST / HTTP/1.1\r\ncontent-length: 999\r\n\r\n", b"a", "body_seconds_max"),
    ],
)
async def test_a_request_sent_drop_by_drop_is_cut(server: HttpServer, first: bytes, dripped: bytes, words: str) -> None:
    async with connect(server.port) as client:
        client.send(first)
        answer = asyncio.ensure_future(client.answer())
        while not answer.done():
            client.send(dripped)
            await asyncio.sleep(0.01)
        assert (answer.result().status, words in answer.result().json["message"]) == (408, True)


async def test_an_idle_connection_is_closed_and_a_waiting_one_is_not(server: HttpServer, handler: Held) -> None:
    async with connect(server.port) as idle, connect(server.port) as waiting:
        waiting.request("GET", "/hold")
        assert await idle.closed()
        await asyncio.sleep(2 * LIMITS.idle_seconds_max)
        handler.held[0][1].respond(200, b"", b"at last")
        assert (await waiting.answer()).body == b"at last"
        assert (await waiting.ask("GET", "/again")).status == 200


async def test_a_client_that_does_not_read_is_cut(server: HttpServer) -> None:
    async with connect(server.port) as client:
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.request("GET", "/big")
        await until(lambda: server.requests == 1)
        await until(lambda: not server.connections)


async def test_connections_over_the_limit_are_told_so(server: HttpServer) -> None:
    async with AsyncClients(server.port, LIMITS.connections_max), connect(server.port) as client:
        answer = await client.answer()
        assert (answer.status, "connections_max" in answer.json["message"]) == (503, True)
        assert await client.closed()


class AsyncClients:
    def __init__(self, port: int, count: int) -> None:
        self.port, self.count = port, count
        self.clients: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> None:
        for _ in range(self.count):
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            self.clients.append(writer)

    async def __aexit__(self, *_: object) -> None:
        for writer in self.clients:
            writer.transport.abort()


async def test_the_handler_learns_that_nobody_waits_any_more(server: HttpServer, handler: Held) -> None:
    async with connect(server.port) as client:
        client.request("GET", "/hold")
        await handler.wait_for(1)
    await until(lambda: handler.gone == [b"/hold"])
    handler.held[0][1].respond(200, b"", b"to nobody")  # does nothing
    assert (await ask(server.port, "GET", "/after")).status == 200


async def test_a_client_that_closed_its_side_still_gets_its_answer(server: HttpServer, handler: Held) -> None:
    async with connect(server.port) as client:
        client.request("GET", "/hold")
        client.writer.write_eof()
        await handler.wait_for(1)
        handler.held[0][1].respond(200, b"", b"answer")
        assert (await client.answer()).body == b"answer"
        assert await client.closed()


async def test_a_bug_in_a_handler_is_a_500_for_that_request_only(server: HttpServer) -> None:
    async with connect(server.port) as client:
        assert (await client.ask("GET", "/bug")).status == 500
        assert (await client.ask("GET", "/fine")).status == 200


async def test_connection_close_and_http_1_0_are_honoured(server: HttpServer) -> None:
    async with connect(server.port) as client:
        answer = await client.ask("GET", "/", connection="close")
        assert answer.headers["connection"] == "close"
        assert await client.closed()
    async with connect(server.port) as client:
        client.send(b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n")
        assert (await client.answer()).headers["connection"] == "keep-alive"
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        assert (await client.answer()).headers["connection"] == "close"
        assert await client.closed()


async def test_a_large_answer_arrives_whole(handler: Held) -> None:
    async with serving(handler, replace(LIMITS, write_seconds_max=10)) as server, connect(server.port) as client:
        assert len((await client.ask("GET", "/big")).body) == 8_000_000


async def test_stopping_answers_what_was_asked_and_takes_nothing_new(handler: Held) -> None:
    server = HttpServer("test", handler, LIMITS)
    await server.start("127.0.0.1", 0)
    async with connect(server.port) as busy, connect(server.port) as idle:
        busy.request("GET", "/hold")
        await handler.wait_for(1)
        stopping = asyncio.ensure_future(server.close(5))
        assert await idle.closed()
        handler.held[0][1].respond(200, b"", b"last")
        answer = await busy.answer()
        assert (answer.body, answer.headers["connection"]) == (b"last", "close")
        assert await busy.closed()
        await stopping
    with pytest.raises(OSError):
        await ask(server.port, "GET", "/")


async def test_stopping_cuts_what_takes_too_long(handler: Held) -> None:
    server = HttpServer("test", handler, LIMITS)
    await server.start("127.0.0.1", 0)
    async with connect(server.port) as client:
        client.request("GET", "/hold")
        await handler.wait_for(1)
        await server.close(0.05)
        assert await client.closed()
    assert handler.gone == [b"/hold"]


def test_every_limit_is_positive() -> None:
    assert all(getattr(HttpLimits(), name) > 0 for name in HttpLimits.__slots__)

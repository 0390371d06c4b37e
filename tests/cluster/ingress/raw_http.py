"""A client that sends exactly what a test says, and reads answers as a careful client would."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class RawClient:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def request(self, method: str, target: str, body: bytes = b"", **headers: str) -> None:
        lines = [
            f"{method} {target} HTTP/1.1",
            "host: test",
            *(f"{k.replace('_', '-')}: {v}" for k, v in headers.items()),
        ]
        if body or method == "POST":
            lines.append(f"content-length: {len(body)}")
        self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    async def answer(self, *, head_only: bool = False) -> Answer:
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 10)
        first, *lines = head.decode().split("\r\n")[:-2]
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        size = 0 if head_only else int(headers.get("content-length", 0))
        body = await asyncio.wait_for(self.reader.readexactly(size), 10)
        return Answer(int(first.split()[1]), headers, body)

    async def ask(self, method: str, target: str, body: bytes = b"", **headers: str) -> Answer:
        self.request(method, target, body, **headers)
        return await self.answer(head_only=method == "HEAD")

    async def closed(self, seconds: float = 5.0) -> bool:
        """Whether the server ends the connection without another byte."""
        try:
            return await asyncio.wait_for(self.reader.read(1), seconds) == b""
        except ConnectionResetError:
            return True


@asynccontextmanager
async def connect(port: int) -> AsyncIterator[RawClient]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=64 * 1024 * 1024)
    try:
        yield RawClient(reader, writer)
    finally:
        writer.transport.abort()


async def ask(port: int, method: str, target: str, body: bytes = b"", **headers: str) -> Answer:
    async with connect(port) as client:
        return await client.ask(method, target, body, **headers)


async def until(holds: Callable[[], object], seconds: float = 5.0) -> None:
    """Let the event loop run until ``holds()``; an AssertionError after ``seconds``."""
    for _ in range(int(seconds / 0.002)):
        if holds():
            return
        await asyncio.sleep(0.002)
    raise AssertionError(f"still not so after {seconds} s")

"""The gRPC side of an endpoint: a session's stream is read by one task and written by another."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio

from holdfast._attempt import Surroundings
from holdfast._session import Handlers, Session, SessionError
from holdfast_proto import endpoint_pb2 as ep
from holdfast_proto.endpoint_pb2_grpc import EndpointServicer

logger = logging.getLogger("holdfast")

IDLE_POLL_SECONDS = 0.02


class Servicer(EndpointServicer):
    """Answers nodes."""

    def __init__(self, handlers: Handlers, manifest: ep.DiscoverResponse, surroundings: Surroundings) -> None:
        self._handlers = handlers
        self._manifest = manifest
        self._surroundings = surroundings
        self._sessions: dict[Session, Callable[[], None]] = {}  # with what ends them once all is written
        self._draining = False

    async def drain(self, seconds: float) -> None:
        """Take no more attempts, suspend those that only wait, give the others so long, then end all sessions."""
        self._draining = True
        for session in list(self._sessions):
            session.drain()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        # Asked now and then, as sessions come and go: an event for each would be no simpler.
        while any(session.streams for session in self._sessions) and loop.time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(IDLE_POLL_SECONDS)
        for session, end in list(self._sessions.items()):
            session.close(503, "this endpoint was shut down")
            end()

    async def Discover(self, request: ep.DiscoverRequest, context: Any) -> ep.DiscoverResponse:
        return self._manifest

    async def Session(self, request_iterator: Any, context: Any) -> None:  # type: ignore[override]
        """Lives as long as the node keeps the stream."""
        loop = asyncio.get_running_loop()
        over, something = asyncio.Event(), asyncio.Event()

        def end() -> None:
            over.set()
            something.set()

        session = Session(self._handlers, self._surroundings, something.set, self._manifest.sdk)
        session.draining = self._draining
        self._sessions[session] = end
        failure: asyncio.Future[SessionError] = loop.create_future()
        writer = loop.create_task(_write_all(session, something, over, context))
        reader = loop.create_task(_read_all(session, failure, context))
        try:
            await asyncio.wait((writer, reader, failure), return_when=asyncio.FIRST_COMPLETED)
            if failure.done():
                logger.warning("session with %s ended: %s", session.peer, failure.result())
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(failure.result()))
        finally:
            del self._sessions[session]
            writer.cancel()
            reader.cancel()
            session.close()
            await asyncio.wait((writer, reader))
            _report(session, writer)
            _report(session, reader)


async def _read_all(session: Session, failure: asyncio.Future[SessionError], context: Any) -> None:
    loop = asyncio.get_running_loop()

    def take(flush: ep.SessionFlush) -> None:
        # Handlers run in here. It is a callback because they must not run inside another task.
        if not failure.done():
            try:
                session.receive(flush)
            except SessionError as error:
                failure.set_result(error)

    while (flush := await context.read()) is not grpc.aio.EOF:
        loop.call_soon(take, flush)


async def _write_all(session: Session, something: asyncio.Event, over: asyncio.Event, context: Any) -> None:
    while True:
        flush = session.take_flush()
        if flush is not None:
            await context.write(flush)
        elif over.is_set():
            return
        else:
            something.clear()
            await something.wait()


def _report(session: Session, task: asyncio.Task[None]) -> None:
    """A node that went away is nothing special; say it for those who look for it."""
    error = None if task.cancelled() else task.exception()
    if error is not None:
        logger.debug("session with %s ended: %s: %s", session.peer, type(error).__name__, error)

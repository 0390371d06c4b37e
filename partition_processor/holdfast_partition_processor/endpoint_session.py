"""Sessions with service endpoints: one multiplexed gRPC stream per deployment address, shared by all partitions.

Theory of operation. `EndpointSessions.open` asks for a stream at an address. If its session is up and has room, the
stream is there before the call returns; else the asker waits in line, in order, and the session is connected. When
connecting fails, all who wait are told so (their retry policy decides when they come again), and the next try is not
made before a growing, jittered pause is over. A session that is lost takes its streams with it and is connected again
when somebody asks. A session without streams is closed after a while.

Writing is one task per session that writes one flush at a time: what is sent while a flush is under way forms the next
one, so gRPC's back-pressure makes the batches, and no message, task or future exists per attempt.

An address stands for one process here. Several processes behind one address would be several `EndpointSession`s in one
`_Endpoint`, which picks one in `open`; nobody else would notice.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import grpc
import grpc.aio

from holdfast_partition_processor.endpoint_address import (
    KEEPALIVE_MS,
    PATIENT_KEEPALIVE_MS,
    MalformedAddress,
    channel_options,
    grpc_target,
)
from holdfast_partition_processor.session_hello import Limits, SessionViolation, read_hello, write_hello
from holdfast_partition_processor.session_mux import SessionMux, StreamUser

logger = logging.getLogger(__name__)

UNAVAILABLE = 503
_SESSION_METHOD = "/holdfast.endpoint.v1.Endpoint/Session"
_PINGED_TOO_OFTEN = "too many pings"  # gRPC's words; it has no status code for this
_Call: TypeAlias = "grpc.aio.StreamStreamCall[bytes, bytes]"


class SessionFailed(Exception):
    """No session could be made, or it is over. The message names the endpoint and the reason."""


@dataclass(frozen=True, slots=True)
class SessionOptions:
    limits: Limits = field(default_factory=Limits)
    connect_timeout_s: float = 5.0  # until the endpoint's hello is there
    idle_timeout_s: float = 300.0  # a session without streams is closed after this to twice this
    back_off_initial_s: float = 0.1
    back_off_max_s: float = 2.0  # short: each try serves all attempts that wait, and each of them has its own policy
    keepalive_ms: int = KEEPALIVE_MS
    proven_after_s: float = 5.0  # a session that lived this long ends the back-off


class EndpointSession:
    """One live session."""

    def __init__(
        self,
        address: str,
        channel: grpc.aio.Channel,
        call: _Call,
        hello: bytes,
        options: SessionOptions,
        on_room: Callable[[], None],
    ) -> None:
        peer_limits, self.peer = read_hello(hello)
        self._outgoing = asyncio.Event()
        self.mux = SessionMux(options.limits, peer_limits, self._outgoing.set, on_room)
        self.address = address
        self._channel = channel
        self._call = call
        self._loop = asyncio.get_running_loop()
        self._tasks: list[asyncio.Task[str]] = []
        self._idle_timeout_s = options.idle_timeout_s
        self._idle_timer: asyncio.TimerHandle | None = None
        self._on_over: Callable[[EndpointSession, str], None] | None = None
        self.started_at = self._loop.time()

    @classmethod
    async def connect(
        cls, address: str, node: str, options: SessionOptions, keepalive_ms: int, on_room: Callable[[], None]
    ) -> EndpointSession:
        """Dial and exchange hellos. Raises SessionFailed."""
        try:
            target = grpc_target(address)
        except MalformedAddress as error:
            raise SessionFailed(str(error)) from error
        channel = grpc.aio.insecure_channel(target, options=channel_options(keepalive_ms))
        try:
            async with asyncio.timeout(options.connect_timeout_s):
                call: _Call = channel.stream_stream(_SESSION_METHOD)()
                await call.write(write_hello(options.limits, node))
                hello = await call.read()
            if not isinstance(hello, bytes):
                raise SessionFailed(f"endpoint {address} closed the session instead of saying hello")
            return cls(address, channel, call, hello, options, on_room)
        except BaseException as error:
            await channel.close()  # ends the call too
            if isinstance(error, TimeoutError):
                silence = f"did not say hello within {options.connect_timeout_s:g} s"
                raise SessionFailed(f"endpoint {address} {silence}") from error
            if isinstance(error, SessionViolation | grpc.aio.AioRpcError | asyncio.InvalidStateError):
                raise SessionFailed(f"no session with endpoint {address}: {_reason(error)}") from error
            raise

    def start(self, on_over: Callable[[EndpointSession, str], None]) -> None:
        """Read and write until the session is over; then the streams are told first and ``on_over`` after them."""
        self._on_over = on_over
        for work in (self._read(), self._write()):
            task = self._loop.create_task(work)
            task.add_done_callback(self._task_done)
            self._tasks.append(task)
        self._idle_timer = self._loop.call_later(self._idle_timeout_s, self._check_idle, 0)

    def end(self, message: str) -> None:
        """Close it now. ``message`` is what the attempts on it fail with."""
        on_over, self._on_over = self._on_over, None
        if on_over is None:
            return
        for task in self._tasks:
            task.cancel()
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        self._call.cancel()
        self.mux.fail(UNAVAILABLE, message)
        on_over(self, message)

    async def closed(self) -> None:
        """Everything of it is released. Call it once, after the end."""
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._channel.close()

    async def _read(self) -> str:
        """Returns why the session is over."""
        call, receive = self._call, self.mux.receive
        while isinstance(data := await call.read(), bytes):
            receive(data)
        return "it closed the session"

    async def _write(self) -> str:
        call, take, outgoing = self._call, self.mux.take, self._outgoing
        while True:
            flush = take()
            if flush is None:
                outgoing.clear()
                await outgoing.wait()
            else:
                await call.write(flush.SerializeToString())

    def _task_done(self, task: asyncio.Task[str]) -> None:
        if self._on_over is None:
            return  # ended already: this is only the task's cancellation
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, _EXPECTED):
            logger.error("the session with endpoint %s met a mistake of our own", self.address, exc_info=error)
        reason = "it was cancelled" if task.cancelled() else _reason(error) if error is not None else task.result()
        self.end(f"the session with endpoint {self.address} is lost: {reason}")

    def _check_idle(self, last_id_before: int) -> None:
        if not self.mux.streams and self.mux.last_id == last_id_before:
            self.end(f"the session with endpoint {self.address} was idle")
        else:
            self._idle_timer = self._loop.call_later(self._idle_timeout_s, self._check_idle, self.mux.last_id)


_EXPECTED = (SessionViolation, grpc.aio.AioRpcError, asyncio.InvalidStateError)


def _reason(error: BaseException) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            return "what answers there is not a Holdfast endpoint (gRPC status UNIMPLEMENTED)"
        return f"{error.details() or 'no details'} (gRPC status {error.code().name})"
    return str(error) or type(error).__name__


class _Endpoint:
    """One address: its session, and those who wait for room in it."""

    def __init__(self, address: str, node: str, options: SessionOptions, rng: random.Random) -> None:
        self._address = address
        self._node = node
        self._options = options
        self._rng = rng
        self._loop = asyncio.get_running_loop()
        self.session: EndpointSession | None = None
        self.waiting: deque[StreamUser] = deque()
        self._connecting: asyncio.Task[None] | None = None
        self._live: set[EndpointSession] = set()  # the session, and those that used up their ids but still have streams
        self._releasing: set[asyncio.Task[None]] = set()
        self._failures = 0  # in a row
        self._keepalive_ms = options.keepalive_ms
        self._not_before = 0.0  # loop time of the next try to connect
        self._closed = False

    def open(self, user: StreamUser) -> None:
        session = self.session
        if session is not None and not self.waiting and session.mux.has_room:
            session.mux.open(user)
            return
        self.waiting.append(user)
        if session is not None and session.mux.exhausted:
            self.session = session = None
        if session is None:
            self._connect_soon()

    def _connect_soon(self) -> None:
        if self._connecting is None and not self._closed:
            self._connecting = self._loop.create_task(self._connect())

    async def _connect(self) -> None:
        try:
            while self.waiting and self.session is None:
                await asyncio.sleep(max(0.0, self._not_before - self._loop.time()))
                try:
                    session = await EndpointSession.connect(
                        self._address, self._node, self._options, self._keepalive_ms, self._admit
                    )
                except SessionFailed as error:
                    self._count_failure()
                    self._turn_away(str(error))
                else:
                    self._use(session)
        finally:
            self._connecting = None

    def _use(self, session: EndpointSession) -> None:
        logger.info("session with endpoint %s (%s) is up", self._address, session.peer)
        self.session = session
        self._live.add(session)
        session.start(self._over)
        self._admit()

    def _admit(self) -> None:
        """Let in who waits, in order, while there is room."""
        while self.waiting and self.session is not None and self.session.mux.has_room:
            self.session.mux.open(self.waiting.popleft())
        if self.waiting and self.session is not None and self.session.mux.exhausted:
            self.session = None
            self._connect_soon()

    def _turn_away(self, message: str) -> None:
        """Those who wait now, not those who come while they are told."""
        waiting, self.waiting = self.waiting, deque()
        for user in waiting:
            user.lost(UNAVAILABLE, message)

    def _count_failure(self) -> None:
        options = self._options
        pause = min(options.back_off_initial_s * 2 ** min(self._failures, 16), options.back_off_max_s)
        self._failures += 1
        self._not_before = self._loop.time() + pause * (0.5 + self._rng.random())

    def _over(self, session: EndpointSession, message: str) -> None:
        logger.info("%s", message)
        if _PINGED_TOO_OFTEN in message.lower() and self._keepalive_ms < PATIENT_KEEPALIVE_MS:
            self._keepalive_ms = PATIENT_KEEPALIVE_MS
            advice = "set grpc.http2.min_ping_interval_without_data_ms there, or a dead connection is found late"
            logger.warning("endpoint %s does not allow keepalive pings; %s", self._address, advice)
        if self._loop.time() - session.started_at >= self._options.proven_after_s:
            self._failures = 0
        else:
            self._count_failure()
        self._live.discard(session)
        release = self._loop.create_task(session.closed())
        self._releasing.add(release)
        release.add_done_callback(self._releasing.discard)
        if self.session is session:
            self.session = None
        if self.waiting and self.session is None:
            self._connect_soon()

    async def close(self) -> None:
        self._closed = True
        message = "this node is stopping"
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        self._turn_away(message)
        for session in list(self._live):
            session.end(message)
        await asyncio.gather(*self._releasing)


class EndpointSessions:
    """All sessions of a node. ``node`` is the name that endpoints see in their logs."""

    def __init__(self, node: str, options: SessionOptions | None = None, rng: random.Random | None = None) -> None:
        self._node = node
        self._options = options or SessionOptions()
        self._rng = rng or random.Random()
        self._endpoints: dict[str, _Endpoint] = {}
        self._closed = False

    @property
    def sessions(self) -> int:
        """How many are up."""
        return sum(endpoint.session is not None for endpoint in self._endpoints.values())

    def open(self, address: str, user: StreamUser) -> None:
        """Ask for a stream. ``user`` is told `opened`, perhaps before this returns, or `lost`."""
        assert not self._closed, "attempts end before the sessions are closed"
        endpoint = self._endpoints.get(address)
        if endpoint is None:
            endpoint = self._endpoints[address] = _Endpoint(address, self._node, self._options, self._rng)
        endpoint.open(user)

    def withdraw(self, address: str, user: StreamUser) -> None:
        """``user`` does not want the stream any more that it waits for."""
        waiting = self._endpoints[address].waiting
        if user in waiting:  # else it is among those being turned away at this moment
            waiting.remove(user)

    async def close(self) -> None:
        """End all sessions. Attempts that are still on them fail, so invokers are closed before."""
        self._closed = True
        await asyncio.gather(*(endpoint.close() for endpoint in self._endpoints.values()))

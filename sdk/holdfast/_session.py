"""One session with a node: many attempts, multiplexed over one stream of flushes, with credit in both directions.

No IO in here: `receive` takes a flush, `take_flush` gives the next one. What all attempts send in one turn of the event
loop leaves as one flush; while it is being written, the next one gathers.

Credit. The node says in its Hello how much it takes; so do we. What is sent on a stream is paid from the stream's and
from the session's credit; the last frame of a stream may go without. What we received is paid back when half of the
allowance is used up, at once, as all of it is taken in by then: recorded entries must be in memory anyway.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping

from google.protobuf.message import DecodeError

from holdfast._attempt import Attempt, Surroundings
from holdfast._replay import ProtocolError
from holdfast.handler import HandlerDefinition
from holdfast_proto import endpoint_pb2 as ep
from holdfast_proto.framing import (
    FRAME_BYTES_MAX,
    PROTOCOL_VERSION,
    MalformedFrame,
    MessageType,
    decode_frames,
    encode_frame,
)

logger = logging.getLogger("holdfast")

SESSION_VERSION = 1
STREAM_CREDIT_BYTES = 8 * 1024 * 1024
"""What one invocation may have on its way to us: a node that sends a larger journal waits for our credit in between."""
SESSION_CREDIT_BYTES = 64 * 1024 * 1024
STREAMS_MAX = 10_000
"""Attempts at a time on one session: a bound for memory, far above what one process gets through."""
FLUSH_BYTES_MAX = 4 * 1024 * 1024
"""A flush beyond this is split, unless one stream's bytes alone are more."""
CONGESTED_BYTES = 1024 * 1024
"""With so much waiting for credit a handler is not allowed to go on."""

Handlers = Mapping[tuple[str, str], HandlerDefinition]


class SessionError(Exception):
    """The node does not keep to the session's rules: the session is over."""


class SessionStream:
    """One attempt's share of a session; see `Stream`."""

    __slots__ = ("_last", "_session", "_waiting", "_waiting_bytes", "attempt", "credit", "id", "window")

    def __init__(self, session: Session, id: int, window: int) -> None:
        self._session = session
        self.id = id
        self.window = window
        self.credit = window
        self.attempt: Attempt | None = None
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._last: bytes | None = None

    @property
    def congested(self) -> bool:
        return self._waiting_bytes > CONGESTED_BYTES

    def send(self, frames: list[bytes]) -> None:
        data = frames[0] if len(frames) == 1 else b"".join(frames)
        if not self._waiting and self._session.pay(self, len(data)):
            self._session.write(self.id, data)
        else:
            self._waiting.extend(frames)
            self._waiting_bytes += len(data)
            self.pump()

    def end(self, frames: list[bytes], last: bytes) -> None:
        if not self._waiting:
            data = b"".join(frames)
            if not data or self._session.pay(self, len(data)):
                self._session.finish(self, data + last)
                return
        self._waiting.extend(frames)
        self._waiting_bytes += sum(map(len, frames))
        self._last = last
        self.pump()

    def pump(self) -> None:
        """Send of what waits as much as there is credit for."""
        waiting, session = self._waiting, self._session
        while waiting and session.pay(self, len(waiting[0])):
            data = waiting.popleft()
            self._waiting_bytes -= len(data)
            session.write(self.id, data)
        if waiting:
            session.wait_for_credit(self)
        elif self._last is not None:
            session.finish(self, self._last)

    def close(self) -> None:
        self._waiting.clear()
        self._last = None
        if self.attempt is not None:
            self.attempt.abort()
            self.attempt = None


class Session:
    """See the module. ``wake`` is called when there is something to flush."""

    def __init__(
        self,
        handlers: Handlers,
        surroundings: Surroundings,
        wake: Callable[[], None],
        sdk: str,
    ) -> None:
        self._handlers = handlers
        self._surroundings = surroundings
        self._wake = wake
        self._streams: dict[int, SessionStream] = {}
        self._last_stream = 0
        self._peer: ep.Hello | None = None
        self._credit = 0  # what we may send on the session
        self._starved: dict[SessionStream, None] = {}  # streams that wait for credit, in order
        self._unpaid: dict[int, int] = {0: 0}  # bytes received since credit was given, by stream; 0 is the session
        self._out: list[tuple[int, bytes]] = []
        self._hello: ep.Hello | None = ep.Hello(
            session_version=SESSION_VERSION,
            stream_credit_bytes=STREAM_CREDIT_BYTES,
            session_credit_bytes=SESSION_CREDIT_BYTES,
            frame_bytes_max=FRAME_BYTES_MAX,
            peer=sdk,
            streams_max=STREAMS_MAX,
        )
        self.draining = False

    # ---------------------------------------------------------------- from the node

    def receive(self, flush: ep.SessionFlush) -> None:
        """Take a flush. Raises SessionError."""
        if self._peer is None:
            self._take_hello(flush)
        if len(flush.stream_ids) != len(flush.frames):
            raise SessionError(f"{len(flush.stream_ids)} stream ids for {len(flush.frames)} pieces")
        for number, data in zip(flush.stream_ids, flush.frames, strict=True):
            self._received(number, len(data))
            try:
                self._receive_on(number, data)
            except (MalformedFrame, DecodeError, ProtocolError) as error:
                if number == 0:
                    raise SessionError(f"on stream 0: {error}") from error
                logger.warning("stream %d of %s: %s", number, self.peer, error)
                self._reset(number, 400, f"{type(error).__name__}: {error}")
            except Exception as error:  # our own mistake must not take the other streams with it
                logger.exception("stream %d of %s failed", number, self.peer)
                self._reset(number, 500, f"{type(error).__name__}: {error}")

    @property
    def peer(self) -> str:
        """The node's name, for logs."""
        return self._peer.peer if self._peer is not None else "unknown node"

    @property
    def streams(self) -> int:
        return len(self._streams)

    def _take_hello(self, flush: ep.SessionFlush) -> None:
        if not flush.HasField("hello"):
            raise SessionError("the first message has no hello")
        hello = flush.hello
        if hello.session_version != SESSION_VERSION:
            raise SessionError(f"session version {hello.session_version}, this SDK speaks {SESSION_VERSION}")
        if not (hello.stream_credit_bytes and hello.session_credit_bytes and hello.frame_bytes_max):
            raise SessionError("the hello gives no credit or no frame limit")
        self._peer = hello
        self._credit = hello.session_credit_bytes

    def _receive_on(self, number: int, data: bytes) -> None:
        stream = self._streams.get(number)
        for code, _, start, end in decode_frames(data):
            body = data[start:end]
            if code == MessageType.OPEN:
                stream = self._open(number, ep.Open.FromString(body))
            elif code == MessageType.CREDIT:
                self._take_credit(number, ep.Credit.FromString(body).bytes)
            elif number == 0:
                raise ProtocolError(f"message type 0x{code:04x} on the session itself")
            elif stream is None:
                return  # It has ended here while this was on its way.
            elif code == MessageType.HALF_CLOSE:
                assert stream.attempt is not None
                stream.attempt.half_close()
            elif code == MessageType.RESET:
                self._forget(stream)
                return
            else:
                assert stream.attempt is not None
                stream.attempt.receive(code, body)
        if stream is not None and stream.attempt is not None:
            stream.attempt.advance()

    def _open(self, number: int, opening: ep.Open) -> SessionStream | None:
        assert self._peer is not None
        if number <= self._last_stream:
            raise ProtocolError(f"stream {number} opened after stream {self._last_stream}")
        self._last_stream = number
        problem = self._refusal(opening)
        if problem is not None:
            self._reset(number, *problem)
            return None
        definition = self._handlers[opening.service, opening.handler]
        stream = SessionStream(self, number, self._peer.stream_credit_bytes)
        stream.attempt = Attempt(definition, opening, stream, self._surroundings, self._peer.frame_bytes_max)
        self._streams[number] = stream
        return stream

    def _refusal(self, opening: ep.Open) -> tuple[int, str] | None:
        if self.draining:
            return 503, "this endpoint is shutting down"
        if opening.protocol_version != PROTOCOL_VERSION:
            return 415, f"protocol version {opening.protocol_version}, this SDK speaks {PROTOCOL_VERSION}"
        if (opening.service, opening.handler) not in self._handlers:
            return 404, f"this endpoint does not serve {opening.service}/{opening.handler}"
        if len(self._streams) >= STREAMS_MAX:
            return 429, f"this endpoint runs {STREAMS_MAX} attempts already"
        return None

    # ---------------------------------------------------------------- credit

    def pay(self, stream: SessionStream, size: int) -> bool:
        """Whether the stream may send so much now; then it is charged. What is larger than a whole allowance may go
        when nothing else is on its way."""
        assert self._peer is not None
        if size > stream.credit and stream.credit < stream.window:
            return False
        if size > self._credit and self._credit < self._peer.session_credit_bytes:
            return False
        stream.credit -= size
        self._credit -= size
        return True

    def wait_for_credit(self, stream: SessionStream) -> None:
        self._starved[stream] = None

    def _take_credit(self, number: int, size: int) -> None:
        if number == 0:
            self._credit += size
        else:
            stream = self._streams.get(number)
            if stream is None:
                return
            stream.credit += size
        starved, self._starved = self._starved, {}
        for stream in starved:
            congested = stream.congested
            stream.pump()
            if congested and not stream.congested and stream.attempt is not None:
                stream.attempt.advance()

    def _received(self, number: int, size: int) -> None:
        unpaid = self._unpaid
        unpaid[0] += size
        if unpaid[0] > SESSION_CREDIT_BYTES // 2:
            self._give_credit(0, unpaid[0])
            unpaid[0] = 0
        if number in self._streams:
            received = unpaid.get(number, 0) + size
            if received > STREAM_CREDIT_BYTES // 2:
                self._give_credit(number, received)
                received = 0
            unpaid[number] = received

    def _give_credit(self, number: int, size: int) -> None:
        self.write(number, encode_frame(MessageType.CREDIT, ep.Credit(bytes=size).SerializeToString()))

    # ---------------------------------------------------------------- to the node

    def write(self, number: int, data: bytes) -> None:
        if not self._out:
            self._wake()
        self._out.append((number, data))

    def finish(self, stream: SessionStream, last: bytes) -> None:
        """The stream's last bytes."""
        self.write(stream.id, last)
        self._forget(stream)

    def take_flush(self) -> ep.SessionFlush | None:
        """The next message to write; None when there is nothing."""
        out = self._out
        if not out and self._hello is None:
            return None
        size = count = 0
        for _, data in out:
            size += len(data)
            if count and size > FLUSH_BYTES_MAX:
                break
            count += 1
        taken, self._out = out[:count], out[count:]
        hello, self._hello = self._hello, None
        return ep.SessionFlush(
            stream_ids=[number for number, _ in taken], frames=[data for _, data in taken], hello=hello
        )

    # ---------------------------------------------------------------- ending

    def drain(self) -> None:
        """Take no more attempts; suspend those that only wait."""
        self.draining = True
        for stream in list(self._streams.values()):
            if stream.attempt is not None:
                stream.attempt.half_close()
                stream.attempt.advance()

    def close(self, code: int = 0, message: str = "") -> None:
        """End all attempts, with a reset when there is a code; the node starts them again elsewhere."""
        for number in list(self._streams):
            if code:
                self._reset(number, code, message)
            else:
                self._forget(self._streams[number])

    def _reset(self, number: int, code: int, message: str) -> None:
        self.write(number, encode_frame(MessageType.RESET, ep.Reset(code=code, message=message).SerializeToString()))
        stream = self._streams.get(number)
        if stream is not None:
            self._forget(stream)

    def _forget(self, stream: SessionStream) -> None:
        self._streams.pop(stream.id, None)
        self._unpaid.pop(stream.id, None)
        self._starved.pop(stream, None)
        stream.close()

"""Many streams over one session: what goes into the next flush, who gets what arrived, and who may send how much.

::

    attempts ── Stream.send ──▶ [backlog, while credit lacks] ──▶ outgoing ── take() ──▶ one SessionFlush per turn
    attempts ◀─ user.received ─ by stream id ◀────────────────────────────── receive() ◀── one SessionFlush

No IO in here. The caller takes flushes when `on_outgoing` was called, one at a time, and hands in what it reads.
Duties of a stream's user: `consumed` for every byte received once it is dealt with, and `close` or `reset` at the end.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from typing import Protocol

from google.protobuf.message import DecodeError

from holdfast_partition_processor.session_credit import CreditExceeded, ReceiveWindow, SendCredit
from holdfast_partition_processor.session_hello import Limits, SessionViolation, decode_flush
from holdfast_proto import endpoint_pb2 as ep
from holdfast_proto.framing import (
    FRAME_BYTES_MAX,
    HEADER_BYTES,
    MalformedFrame,
    MessageType,
    decode_frames,
    encode_frame,
)

logger = logging.getLogger(__name__)

PIECE_BYTES_MAX = 256 * 1024
"""A long journal goes out in pieces of about this size, so that the streams take turns."""
FLUSH_BYTES_MAX = 1024 * 1024
"""A flush ends after this many bytes; what is left goes into the next. One piece may be larger by itself."""
STREAM_ID_MAX = 0xFFFF_FFFF
OVERDRAFT_BYTES_MAX = 2 * FRAME_BYTES_MAX
"""What a peer may send beyond its credit: its last piece, which is at most one gRPC message."""
PROTOCOL_VIOLATION = 571
UNKNOWN_STREAM = 404


class FrameTooLarge(Exception):
    """A frame is larger than what the peer's Hello allows."""


class StreamUser(Protocol):
    """The attempt behind a stream. None of these may raise."""

    def opened(self, stream: Stream) -> None:
        """There is room: the stream is the user's, its first frame must be Open."""

    def received(self, data: bytes) -> None:
        """One or more frames, or garbage: whatever the peer put there."""

    def lost(self, code: int, message: str) -> None:
        """The stream is gone, or was never opened because the endpoint can't be reached. Nothing more will come."""


class Stream:
    """One attempt's share of a session, as its user sees it."""

    __slots__ = ("_announced", "_backlog", "_credit", "_mux", "_ready", "_window", "id", "user")

    def __init__(self, mux: SessionMux, stream_id: int, user: StreamUser) -> None:
        self.id = stream_id
        self.user = user
        self._mux = mux
        self._credit = SendCredit(mux.peer.stream_credit_bytes)
        self._window = ReceiveWindow(mux.own.stream_credit_bytes, OVERDRAFT_BYTES_MAX)
        self._backlog: deque[bytes] = deque()
        self._announced = False  # something of it went out: the peer knows the stream
        self._ready = False  # stands in the session's queue of streams that lack nothing but the session's credit

    def send(self, frames: bytes) -> None:
        """Whole frames; they wait here while credit lacks. Raises FrameTooLarge."""
        mux = self._mux
        fits = len(frames) <= mux.piece_bytes_max
        if fits and not self._backlog and self._credit.balance > 0 and mux.credit.balance > 0:
            self._announced = True
            self._credit.spend(len(frames))
            mux.put(self.id, frames)
            return
        self._backlog.extend((frames,) if fits else _pieces(frames, mux.piece_bytes_max, mux.peer.frame_bytes_max))
        mux.pump(self)

    def consumed(self, size: int) -> None:
        """So many bytes of what was received are dealt with: the peer may send as many again."""
        if grant := self._window.consumed(size):
            self._give(grant)
        self._mux.consumed(size)

    def settle(self) -> None:
        """Give the rest of the credit back when nothing is outstanding; see `session_credit`."""
        if grant := self._window.settle():
            self._give(grant)

    def _give(self, grant: int) -> None:
        frame = _credit_frame(grant)
        self._credit.spend(len(frame))
        self._mux.put(self.id, frame)

    def granted(self, size: int) -> None:
        """A Credit frame came."""
        self._credit.grant(size)
        self._mux.pump(self)

    def close(self) -> None:
        """Both sides are through with it: End, Suspension, Error or Reset was received."""
        self._backlog.clear()
        self._mux.forget(self, self._window.unconsumed)

    def reset(self, code: int, message: str) -> None:
        """Tell the peer that the stream is over at once."""
        if self._announced:
            self._mux.put(self.id, _reset_frame(code, message))
        self.close()

    def accept(self, data: bytes) -> None:
        self._window.received(len(data))

    def next_piece(self) -> bytes | None:
        """What may go out as far as this stream's own credit is concerned."""
        if not self._backlog or self._credit.balance <= 0:
            return None
        piece = self._backlog.popleft()
        self._announced = True
        self._credit.spend(len(piece))
        return piece


class SessionMux:
    def __init__(self, own: Limits, peer: Limits, on_outgoing: Callable[[], None], on_room: Callable[[], None]) -> None:
        self.own = own
        self.peer = peer
        self.piece_bytes_max = min(PIECE_BYTES_MAX, peer.frame_bytes_max)
        self.credit = SendCredit(peer.session_credit_bytes)
        self.streams: dict[int, Stream] = {}
        self.last_id = 0
        self._window = ReceiveWindow(own.session_credit_bytes, OVERDRAFT_BYTES_MAX)
        self._ready: deque[Stream] = deque()
        self._outgoing: deque[tuple[int, bytes]] = deque()
        self._outgoing_bytes = 0
        self._on_outgoing = on_outgoing
        self._on_room = on_room
        self._strays_seen = False

    @property
    def exhausted(self) -> bool:
        """All ids are used: a new session must take over."""
        return self.last_id >= STREAM_ID_MAX

    @property
    def has_room(self) -> bool:
        streams_max = self.peer.streams_max
        return (not streams_max or len(self.streams) < streams_max) and self.last_id < STREAM_ID_MAX

    def open(self, user: StreamUser) -> None:
        assert self.has_room, "the caller lets attempts wait for room"
        self.last_id += 1
        stream = self.streams[self.last_id] = Stream(self, self.last_id, user)
        user.opened(stream)

    # ------------------------------------------------------------ outgoing

    def put(self, stream_id: int, frames: bytes) -> None:
        if not self._outgoing:
            self._on_outgoing()
        self.credit.spend(len(frames))
        self._outgoing.append((stream_id, frames))
        self._outgoing_bytes += len(frames)

    def pump(self, stream: Stream | None = None) -> None:
        """Move backlogs on, one piece per stream in turn, while the session has credit."""
        ready = self._ready
        if stream is not None and not stream._ready:
            stream._ready = True
            ready.append(stream)
        while ready and self.credit.balance > 0:
            stream = ready.popleft()
            piece = stream.next_piece()
            if piece is None:
                stream._ready = False
            else:
                self.put(stream.id, piece)
                ready.append(stream)

    def take(self) -> ep.SessionFlush | None:
        """The next message to write; None when there is nothing to say."""
        outgoing = self._outgoing
        if not outgoing:
            return None
        if self._outgoing_bytes <= FLUSH_BYTES_MAX:
            flush = ep.SessionFlush(stream_ids=[item[0] for item in outgoing], frames=[item[1] for item in outgoing])
            outgoing.clear()
            self._outgoing_bytes = 0
            return flush
        flush = ep.SessionFlush()
        size = 0
        while outgoing and (not size or size + len(outgoing[0][1]) <= FLUSH_BYTES_MAX):
            stream_id, frames = outgoing.popleft()
            flush.stream_ids.append(stream_id)
            flush.frames.append(frames)
            size += len(frames)
        self._outgoing_bytes -= size
        return flush

    # ------------------------------------------------------------ incoming

    def receive(self, data: bytes) -> None:
        """Hand one message to the streams it is for. Raises SessionViolation."""
        flush = decode_flush(data)
        ids, frames = flush.stream_ids, flush.frames
        if len(ids) != len(frames):
            raise SessionViolation(f"a flush has {len(ids)} stream ids for {len(frames)} pieces of frames")
        pairs: Iterator[tuple[int, bytes]] = zip(ids, frames, strict=True)
        if len(set(ids)) != len(ids):
            pairs = _merged(pairs)
        for stream_id, piece in pairs:
            try:
                self._window.received(len(piece))
            except CreditExceeded as error:
                raise SessionViolation(f"session: {error}") from error
            stream = self.streams.get(stream_id)
            if stream is None:
                self._without_stream(stream_id, piece)
            else:
                self._deliver(stream, piece)

    def _deliver(self, stream: Stream, piece: bytes) -> None:
        try:
            stream.accept(piece)
        except CreditExceeded as error:
            self._blame(stream, PROTOCOL_VIOLATION, f"the endpoint ignored flow control: {error}")
            return
        try:
            stream.user.received(piece)
        except Exception:
            # Our own mistake must cost this attempt only: the rest of the flush belongs to others.
            logger.exception("reading stream %d failed", stream.id)
            if stream.id in self.streams:
                self._blame(stream, 500, "the node failed to read what the endpoint sent; see the node's log")

    def _blame(self, stream: Stream, code: int, message: str) -> None:
        stream.reset(code, message)
        stream.user.lost(code, message)

    def _without_stream(self, stream_id: int, piece: bytes) -> None:
        """Credit for the session; the tail of a stream that is over; or something the peer made up."""
        if stream_id == 0:
            self._session_frames(piece)
        elif stream_id > self.last_id:
            self._stray(f"frames for stream {stream_id}, but the last one opened is {self.last_id}")
            self.put(stream_id, _reset_frame(UNKNOWN_STREAM, "this stream was never opened"))
        self.consumed(len(piece))

    def _session_frames(self, piece: bytes) -> None:
        try:
            for code, _, start, end in decode_frames(piece):
                if code == MessageType.CREDIT:
                    self.credit.grant(ep.Credit.FromString(piece[start:end]).bytes)
                else:
                    self._stray(f"a frame of type 0x{code:04x} on stream 0, which carries Credit only")
        except (MalformedFrame, DecodeError) as error:
            raise SessionViolation(f"garbage on stream 0: {error}") from error
        self.pump()

    def _stray(self, what: str) -> None:
        if not self._strays_seen:  # once per session is enough to know, more would let a peer fill the log
            self._strays_seen = True
            logger.warning("an endpoint sent %s; ignored", what)

    def consumed(self, size: int) -> None:
        if grant := self._window.consumed(size):
            self.put(0, _credit_frame(grant))

    # ------------------------------------------------------------ ending

    def forget(self, stream: Stream, unconsumed: int) -> None:
        if self.streams.pop(stream.id, None) is not None:
            self.consumed(unconsumed)
            self._on_room()

    def fail(self, code: int, message: str) -> None:
        """The session is lost, and all streams with it."""
        streams, self.streams = self.streams, {}
        for stream in streams.values():
            stream.user.lost(code, message)


def _merged(pairs: Iterator[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    """One piece per stream: what came in one flush for one attempt becomes one command."""
    pieces: dict[int, list[bytes]] = {}
    for stream_id, piece in pairs:
        pieces.setdefault(stream_id, []).append(piece)
    return ((stream_id, b"".join(parts)) for stream_id, parts in pieces.items())


def _pieces(frames: bytes, piece_bytes_max: int, frame_bytes_max: int) -> list[bytes]:
    """``frames`` cut between frames into pieces of about ``piece_bytes_max``. Raises FrameTooLarge."""
    pieces: list[bytes] = []
    begin = 0
    for code, _, start, end in decode_frames(frames):
        if end - start > frame_bytes_max:
            size = f"{end - start} bytes, the endpoint accepts {frame_bytes_max} (frame_bytes_max)"
            raise FrameTooLarge(f"a frame of type 0x{code:04x} has {size}")
        head = start - HEADER_BYTES
        if end - begin > piece_bytes_max and head > begin:
            pieces.append(frames[begin:head])
            begin = head
    pieces.append(frames[begin:])
    return pieces


def _credit_frame(size: int) -> bytes:
    return encode_frame(MessageType.CREDIT, ep.Credit(bytes=size).SerializeToString())


def _reset_frame(code: int, message: str) -> bytes:
    return encode_frame(MessageType.RESET, ep.Reset(code=code, message=message).SerializeToString())

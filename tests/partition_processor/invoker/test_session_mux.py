"""Multiplexing and flow control, without IO: the arithmetic against a model, and who is served when credit lacks."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from holdfast_partition_processor import session_mux
from holdfast_partition_processor.session_credit import CreditExceeded, ReceiveWindow, SendCredit
from holdfast_partition_processor.session_hello import Limits, SessionViolation
from holdfast_partition_processor.session_mux import FrameTooLarge, SessionMux, Stream
from holdfast_proto import endpoint_pb2 as ep
from holdfast_proto.framing import HEADER_BYTES, decode_frames, encode_frame
from holdfast_proto.framing import MessageType as M


@dataclass
class User:
    got: list[bytes] = field(default_factory=list)
    losses: list[tuple[int, str]] = field(default_factory=list)
    stream: Stream | None = None
    fault: Exception | None = None

    def opened(self, stream: Stream) -> None:
        self.stream = stream

    def received(self, data: bytes) -> None:
        if self.fault is not None:
            raise self.fault
        self.got.append(data)

    def lost(self, code: int, message: str) -> None:
        self.losses.append((code, message))


@dataclass
class Counter:
    calls: int = 0

    def __call__(self) -> None:
        self.calls += 1


def mux_of(own: Limits | None = None, peer: Limits | None = None) -> SessionMux:
    return SessionMux(own or Limits(), peer or Limits(), Counter(), Counter())


def open_stream(mux: SessionMux) -> tuple[User, Stream]:
    user = User()
    mux.open(user)
    assert user.stream is not None
    return user, user.stream


def flush(*pairs: tuple[int, bytes]) -> bytes:
    return ep.SessionFlush(stream_ids=[p[0] for p in pairs], frames=[p[1] for p in pairs]).SerializeToString()


def drain(mux: SessionMux) -> list[tuple[int, bytes]]:
    taken: list[tuple[int, bytes]] = []
    while (message := mux.take()) is not None:
        taken += zip(message.stream_ids, message.frames, strict=True)
    return taken


def credit(size: int) -> bytes:
    return encode_frame(M.CREDIT, ep.Credit(bytes=size).SerializeToString())


# ---------------------------------------------------------------- credit


@pytest.mark.parametrize("seed", range(20))
def test_sender_and_receiver_never_disagree_and_never_stand_still(seed: int) -> None:
    """Random pieces, consumed in random portions: the receiver never complains, and when all is consumed the sender
    may go on, whatever the sizes were."""
    rng = random.Random(seed)
    window, piece_max = rng.randrange(1, 2_000), rng.randrange(1, 5_000)
    sender, receiver = SendCredit(window), ReceiveWindow(window, piece_max)
    held = 0
    for _ in range(2_000):
        if sender.balance > 0 and rng.random() < 0.6:
            size = rng.randrange(1, piece_max + 1)
            sender.spend(size)
            receiver.received(size)
            held += size
        elif held:
            part = rng.randrange(1, held + 1)
            held -= part
            sender.grant(receiver.consumed(part))
        assert receiver.unconsumed == held
    sender.grant(receiver.consumed(held))
    assert sender.balance > 0, f"seed {seed}: everything is consumed, and the sender may not send"


def test_credit_is_returned_by_halves_of_the_window() -> None:
    window = ReceiveWindow(100, 0)
    window.received(100)
    assert [window.consumed(30), window.consumed(19), window.consumed(1), window.consumed(50)] == [0, 0, 50, 50]


def test_more_than_window_and_one_frame_is_refused() -> None:
    window = ReceiveWindow(100, 50)
    window.received(150)
    with pytest.raises(CreditExceeded, match="151 bytes"):
        window.received(1)


def test_absurd_grants_do_not_grow_without_bound() -> None:
    sender = SendCredit(2**64 - 1)
    sender.grant(2**64 - 1)
    assert sender.balance <= 2**62


def test_a_sender_that_waits_until_its_credit_covers_everything_is_served_too() -> None:
    """It sends what is larger than the window only when all credit is back, which halves alone never bring about."""
    window = ReceiveWindow(100, 1_000)
    window.received(30)
    assert window.settle() == 0  # something is outstanding
    assert window.consumed(30) == 0
    assert [window.settle(), window.settle()] == [30, 0]


# ---------------------------------------------------------------- outgoing


def test_what_is_sent_within_a_turn_is_one_flush_and_wakes_the_writer_once() -> None:
    woken = Counter()
    mux = SessionMux(Limits(), Limits(), woken, Counter())
    for _ in range(100):
        open_stream(mux)[1].send(encode_frame(M.START, b"x"))
    message = mux.take()
    assert message is not None
    assert list(message.stream_ids) == list(range(1, 101))
    assert mux.take() is None
    assert woken.calls == 1


def test_a_large_turn_becomes_several_messages_of_bounded_size() -> None:
    mux = mux_of()
    for _ in range(10):
        open_stream(mux)[1].send(encode_frame(M.START, b"x" * 200_000))
    sizes = []
    while (message := mux.take()) is not None:
        sizes.append(sum(len(frames) for frames in message.frames))
    assert len(sizes) == 2
    assert max(sizes) <= session_mux.FLUSH_BYTES_MAX


def test_a_stream_without_credit_waits_and_holds_up_nobody() -> None:
    mux = mux_of(peer=Limits(stream_credit_bytes=100))
    _, slow = open_stream(mux)
    _, quick = open_stream(mux)
    first, second = encode_frame(M.START, b"x" * 200), encode_frame(M.INPUT, b"y")
    slow.send(first)
    slow.send(second)
    quick.send(second)
    assert drain(mux) == [(slow.id, first), (quick.id, second)]
    slow.granted(100)
    assert drain(mux) == []  # still in overdraft
    slow.granted(100)
    assert drain(mux) == [(slow.id, second)]


def test_streams_take_turns_when_the_session_has_little_credit() -> None:
    frame = encode_frame(M.INPUT, b"z" * 200_000)
    mux = mux_of(peer=Limits(stream_credit_bytes=10**9, session_credit_bytes=1))
    _, first = open_stream(mux)
    _, second = open_stream(mux)
    first.send(frame * 3)
    second.send(frame * 3)
    order = []
    for _ in range(20):
        order += [stream_id for stream_id, _ in drain(mux)]
        mux.receive(flush((0, credit(len(frame)))))
    assert order == [1, 1, 2, 1, 2, 2]  # the first was alone when it began; from then on they alternate


def test_pieces_are_cut_between_frames_and_lose_nothing() -> None:
    mux = mux_of()
    _, stream = open_stream(mux)
    journal = b"".join(encode_frame(M.INPUT, bytes([i]) * 100_000) for i in range(10))
    stream.send(journal)
    pieces = [frames for _, frames in drain(mux)]
    assert b"".join(pieces) == journal
    assert len(pieces) > 1
    for piece in pieces:
        assert sum(HEADER_BYTES + end - start for _, _, start, end in decode_frames(piece)) == len(piece)


def test_a_frame_the_peer_does_not_take_is_refused_before_it_is_sent() -> None:
    mux = mux_of(peer=Limits(frame_bytes_max=100))
    _, stream = open_stream(mux)
    with pytest.raises(FrameTooLarge, match="accepts 100"):
        stream.send(encode_frame(M.START, b"x" * 101))
    assert drain(mux) == []


def test_reset_drops_the_backlog_and_is_not_held_up_by_credit() -> None:
    mux = mux_of(peer=Limits(stream_credit_bytes=10))
    _, stream = open_stream(mux)
    opening = encode_frame(M.OPEN, b"x" * 20)
    stream.send(opening)
    stream.send(encode_frame(M.INPUT, b"never sent"))
    stream.reset(499, "enough")
    (_, sent), (_, reset) = drain(mux)
    assert sent == opening
    assert ep.Reset.FromString(reset[HEADER_BYTES:]).message == "enough"
    assert not mux.streams


def test_a_stream_the_peer_never_heard_of_is_not_reset() -> None:
    mux = mux_of()
    _, stream = open_stream(mux)
    stream.reset(499, "enough")
    assert drain(mux) == []


# ---------------------------------------------------------------- incoming


def test_session_credit_is_returned_also_for_streams_that_ended_with_unread_bytes() -> None:
    mux = mux_of(own=Limits(session_credit_bytes=1_000))
    granted = 0
    for _ in range(50):
        _, stream = open_stream(mux)
        mux.receive(flush((stream.id, b"x" * 100)))
        stream.close()
        mux.receive(flush((stream.id, b"late" * 25)))  # of a stream that is over
    for stream_id, frames in drain(mux):
        assert stream_id == 0
        granted += ep.Credit.FromString(frames[HEADER_BYTES:]).bytes
    assert granted > 10_000 - 500


def test_a_short_stream_causes_no_credit_frame() -> None:
    mux = mux_of()
    _, stream = open_stream(mux)
    mux.receive(flush((stream.id, b"x" * 100)))
    stream.consumed(100)
    stream.close()
    assert drain(mux) == []


def test_a_long_stream_gets_credit_of_its_own() -> None:
    mux = mux_of(own=Limits(stream_credit_bytes=100))
    _, stream = open_stream(mux)
    mux.receive(flush((stream.id, b"x" * 60)))
    stream.consumed(60)
    ((stream_id, frames),) = drain(mux)
    assert (stream_id, ep.Credit.FromString(frames[HEADER_BYTES:]).bytes) == (stream.id, 60)


def test_a_mistake_of_ours_while_reading_costs_one_stream_only() -> None:
    mux = mux_of()
    broken, _ = open_stream(mux)
    fine, _ = open_stream(mux)
    broken.fault = KeyError("bug")
    mux.receive(flush((1, b"a"), (2, b"b")))
    assert fine.got == [b"b"]
    assert [code for code, _ in broken.losses] == [500]
    assert list(mux.streams) == [2]


def test_a_session_that_sends_without_credit_is_a_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_mux, "OVERDRAFT_BYTES_MAX", 100)
    mux = mux_of(own=Limits(stream_credit_bytes=10**6, session_credit_bytes=100))
    streams = [open_stream(mux)[1] for _ in range(4)]
    with pytest.raises(SessionViolation, match="sent without credit"):
        mux.receive(flush(*((stream.id, b"x" * 100) for stream in streams)))


def test_ids_ascend_and_end() -> None:
    mux = mux_of()
    mux.last_id = session_mux.STREAM_ID_MAX - 1
    _, stream = open_stream(mux)
    assert stream.id == 0xFFFF_FFFF
    assert mux.exhausted
    assert not mux.has_room


def test_the_peers_limit_of_streams_counts_open_ones() -> None:
    room = Counter()
    mux = SessionMux(Limits(), Limits(streams_max=2), Counter(), room)
    _, first = open_stream(mux)
    open_stream(mux)
    assert not mux.has_room
    first.close()
    assert mux.has_room
    assert room.calls == 1

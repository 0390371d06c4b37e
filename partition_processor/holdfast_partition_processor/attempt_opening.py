"""What opens an attempt at an endpoint: who is to run, with which state, and what its journal holds so far."""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct

from holdfast_partition_processor.invocation import Invocation
from holdfast_proto import endpoint_pb2 as ep
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import HEADER, PROTOCOL_VERSION, MessageType, decode_frames
from holdfast_proto.identifiers import encode_invocation_id

_THREE_WORDS = Struct(">QQQ")


def opening_frames(
    invocation: Invocation,
    journal: bytes,
    known_entries: int,
    state: Sequence[tuple[bytes, bytes]],
    partial_state: bool,
    now_ms: int,
) -> bytes:
    """Open, Start and the journal, which has ``known_entries`` frames."""
    target = invocation.target
    debug_id = encode_invocation_id(invocation.id)
    key = target.key or ""
    opening = ep.Open(
        service=target.service,
        handler=target.handler,
        key=key,
        protocol_version=PROTOCOL_VERSION,
        attempt=invocation.attempt,
        invocation_id=debug_id,
    ).SerializeToString()
    first, second, third = _THREE_WORDS.unpack(invocation.id)
    start = pb.StartMessage(
        id=invocation.id,
        debug_id=debug_id,
        known_entries=known_entries,
        partial_state=partial_state,
        key=key,
        random_seed=first ^ second ^ third,
    )
    if invocation.retry_count:
        start.retry_count_since_last_stored_entry = invocation.retry_count
        start.duration_since_last_stored_entry = max(0, now_ms - invocation.last_progress_ms)
    for name, value in state:
        start.state_map.add(key=name, value=value)
    body = start.SerializeToString()
    open_header, start_header = (
        HEADER.pack(MessageType.OPEN, 0, len(opening)),
        HEADER.pack(MessageType.START, 0, len(body)),
    )
    return b"".join((open_header, opening, start_header, body, journal))


def frame_count(frames: bytes) -> int:
    return sum(1 for _ in decode_frames(frames))


def first_frames(journal: bytes, count: int) -> bytes | None:
    """The first ``count`` frames of ``journal``, None when it has fewer."""
    seen, last = 0, 0
    for _, _, _, end in decode_frames(journal):
        seen, last = seen + 1, end
        if seen == count:
            return journal[:last] if last < len(journal) else journal
    return None

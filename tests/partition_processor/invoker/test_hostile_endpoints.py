"""Everything an endpoint can do wrong (RELIABILITY.md, row 18): the attempt fails with words that say what happened, is
tried again by policy, and whatever else runs on the session is not disturbed."""

from __future__ import annotations

import asyncio
import struct

import pytest

from holdfast_partition_processor.command import (
    AttemptFailed,
    Effects,
    GiveUp,
    HandlerOptions,
    HandlerType,
    Pause,
    Retry,
)
from holdfast_proto import endpoint_pb2 as ep
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import FRAME_BYTES_MAX
from holdfast_proto.framing import MessageType as M

from .conftest import INPUT, NOW_MS, Bench
from .fake_endpoint import Connection, FakeEndpoint, Seen, end, error, frame, output, propose, run

VOID = pb.Void()


def call(**fields: object) -> bytes:
    known = {"service_name": "greeter", "handler_name": "greet", "invocation_id_notification_idx": 1}
    return frame(M.CALL, pb.CallCommandMessage(**{**known, "result_completion_id": 2, **fields}))  # type: ignore[arg-type]


BAD_FRAMES = {
    "garbage bytes": (b"\xde\xad\xbe\xef" * 5, "garbage"),
    "half a header": (output() + b"\x04", "1 bytes left at offset"),
    "truncated frame": (output()[:-2], "ends 2 bytes after the data"),
    "unknown message type": (frame(0x0499), "0x0499 is not one that an endpoint may send"),
    "unknown control type": (frame(0xFC99), "0xfc99 is not one that an endpoint may send"),
    "message only nodes send": (frame(M.START, pb.StartMessage()), "0x0000 is not one that an endpoint may send"),
    "body that does not decode": (struct.pack(">HHI", M.OUTPUT, 0, 3) + b"\xff\xff\xff", "the body of 3 bytes"),
    "broken error message": (struct.pack(">HHI", M.ERROR, 0, 3) + b"\xff\xff\xff", "broken message"),
    "length over the limit": (struct.pack(">HHI", M.OUTPUT, 0, FRAME_BYTES_MAX + 1), f"the limit is {FRAME_BYTES_MAX}"),
    "frame after End": (output() + end() + run(1), "0x0411 after the end of the attempt"),
    "frame after Error": (error("x") + output(), "0x0401 after the end of the attempt"),
    "completion id used twice": (run(1) + run(1), "1 is used twice"),
    "completion id zero": (run(0), "not set; they count from 1"),
    "outcome proposed twice": (run(1) + propose(1) + propose(1), "step 1 was proposed before"),
    "outcome of no step": (propose(9), "step 9 belongs to no durable step"),
    "outcome for a call": (call() + propose(2), "step 2 belongs to no durable step"),
    "empty suspension": (frame(M.SUSPENSION, pb.SuspensionMessage()), "wait"),
    "output of nothing": (frame(M.OUTPUT, pb.OutputCommandMessage()), "neither value nor failure"),
    "state of a service": (frame(M.SET_STATE, pb.SetStateCommandMessage(key=b"k")), "SET_STATE"),
    "call of an unknown service": (call(service_name="gone"), "calls gone/greet: service 'gone' is not registered"),
    "call of an unknown handler": (call(handler_name="gone"), "has no handler 'gone'"),
    "call without its key": (call(service_name="counter", handler_name="add"), "must name a key"),
    "call with a superfluous key": (call(key="k"), "has no keys"),
    "call with an empty idempotency key": (call(idempotency_key=""), "idempotency key is empty"),
    "idempotent call of a workflow's run": (
        call(service_name="flow", handler_name="run", key="k", idempotency_key="i"),
        "takes no idempotency key",
    ),
    "awakeable id that is none": (
        frame(M.COMPLETE_AWAKEABLE, pb.CompleteAwakeableCommandMessage(awakeable_id="sign_nope", value=pb.Value())),
        "awakeable",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_FRAMES)
async def test_bad_frames_fail_their_attempt_only(bench: Bench, name: str) -> None:
    data, words = BAD_FRAMES[name]
    neighbour_may_answer = asyncio.Event()

    async def bad(connection: Connection, seen: Seen) -> None:
        await connection.send((seen.id, data))

    async def slow(connection: Connection, seen: Seen) -> None:
        await neighbour_may_answer.wait()
        await connection.send((seen.id, output() + end()))

    bench.endpoint.scripts |= {"bad": bad, "quiet": slow}
    neighbour, victim = bench.row("quiet"), bench.row("bad")
    bench.start(neighbour, INPUT)
    bench.start(victim, INPUT)
    failed = await bench.failure(victim.id)
    assert words in failed.failure.message
    assert isinstance(failed.then, Retry)
    assert NOW_MS + 100 <= failed.then.at_ms <= NOW_MS + 130
    assert len(bench.host.of(victim.id)) == 1, "one wrong frame, and nothing of the flush is stored"
    await bench.until(lambda: _reset_of(bench, victim_stream=2))
    neighbour_may_answer.set()
    (command,) = await bench.commands(neighbour.id)
    assert isinstance(command, Effects)
    assert len(bench.endpoint.connections) == 1


def _reset_of(bench: Bench, victim_stream: int) -> bool:
    return M.RESET in bench.endpoint.connections[0].streams[victim_stream].codes()


async def test_call_of_an_unknown_service_names_the_command(bench: Bench) -> None:
    async def bad(connection: Connection, seen: Seen) -> None:
        await connection.send((seen.id, run(5) + call(service_name="gone", name="ask")))

    bench.endpoint.scripts["bad"] = bad
    row = bench.row("bad")
    bench.start(row, INPUT)
    failed = await bench.failure(row.id)
    assert (failed.related_index, failed.related_name, failed.related_type) == (2, "ask", M.CALL)
    assert failed.failure.code == 404


@pytest.mark.parametrize(
    ("flush", "words"),
    [
        (b"\xff\xff\xff not protobuf", "not a SessionFlush"),
        (ep.SessionFlush(stream_ids=[1, 2], frames=[b""]).SerializeToString(), "2 stream ids for 1 pieces"),
        (ep.SessionFlush(stream_ids=[0], frames=[b"junk"]).SerializeToString(), "garbage on stream 0"),
    ],
)
async def test_a_flush_that_can_be_blamed_on_no_stream_ends_the_session_and_the_next_one_works(
    bench: Bench, flush: bytes, words: str
) -> None:
    async def bad(connection: Connection, seen: Seen) -> None:
        await connection.write_raw(flush)

    bench.endpoint.scripts["bad"] = bad
    row = bench.row("bad")
    bench.start(row, INPUT)
    failed = await bench.failure(row.id)
    assert words in failed.failure.message
    assert isinstance(failed.then, Retry)
    after = bench.row()
    bench.start(after, INPUT)
    (command,) = await bench.commands(after.id)
    assert isinstance(command, Effects)


async def test_replies_for_other_streams_disturb_nobody(bench: Bench) -> None:
    """A stream that was never opened, and one that is over: both are dropped, the first is told so."""

    async def confused(connection: Connection, seen: Seen) -> None:
        await connection.send((1, output() + end()), (4_000, output() + end()), (0, frame(M.RUN)))
        await connection.send((seen.id, output() + end()))

    first = bench.row()
    bench.start(first, INPUT)
    await bench.commands(first.id)
    bench.endpoint.scripts["bad"] = confused
    row = bench.row("bad")
    bench.start(row, INPUT)
    (command,) = await bench.commands(row.id)
    assert isinstance(command, Effects)
    assert len(bench.host.of(first.id)) == 1
    assert len(bench.endpoint.connections) == 1


async def test_crash_in_the_middle_of_a_handler_keeps_what_was_stored(bench: Bench) -> None:
    async def crashes(connection: Connection, seen: Seen) -> None:
        await connection.send((seen.id, run(1)))
        await asyncio.sleep(0.05)
        raise ConnectionAbortedError

    bench.endpoint.scripts["bad"] = crashes
    row = bench.row("bad")
    bench.start(row, INPUT)
    failed = await bench.failure(row.id)
    assert isinstance(bench.host.of(row.id)[0], Effects)
    assert f"the session with endpoint {bench.endpoint.address} is lost" in failed.failure.message
    assert isinstance(failed.then, Retry)


async def test_output_without_end_does_not_complete_anything(bench: Bench) -> None:
    async def forgets(connection: Connection, seen: Seen) -> None:
        await connection.send((seen.id, output()))
        await connection.send((seen.id, frame(M.RESET, ep.Reset(code=500, message="handler vanished"))))

    bench.endpoint.scripts["bad"] = forgets
    row = bench.row("bad")
    bench.start(row, INPUT)
    stored, failed = await bench.commands(row.id, 2)
    assert isinstance(stored, Effects)
    assert [f.type for f in stored.frames] == [M.OUTPUT]
    assert isinstance(failed, AttemptFailed)
    assert "handler vanished" in failed.failure.message


async def test_session_closed_without_end(bench: Bench) -> None:
    async def leaves(connection: Connection, seen: Seen) -> None:
        await bench.endpoint.stop()

    bench.endpoint.scripts["bad"] = leaves
    row = bench.row("bad")
    bench.start(row, INPUT)
    failed = await bench.failure(row.id)
    assert bench.endpoint.address in failed.failure.message


async def test_hang_is_asked_to_suspend_then_cut_off(bench: Bench) -> None:
    async def hangs(connection: Connection, seen: Seen) -> None:
        await asyncio.sleep(3600)

    bench.set_options(HandlerOptions(inactivity_timeout_ms=100, abort_timeout_ms=150))
    bench.endpoint.scripts["quiet"] = hangs
    row = bench.row("quiet")
    bench.start(row, INPUT)
    failed = await bench.failure(row.id)
    assert failed.failure.code == 504
    assert "abort_timeout 150 ms" in failed.failure.message
    await bench.until(lambda: M.RESET in bench.endpoint.opened[0].codes())
    assert [code for code in bench.endpoint.opened[0].codes() if code != M.INPUT] == [M.HALF_CLOSE, M.RESET]


async def test_waiting_for_the_log_is_not_inactivity_of_the_endpoint(bench: Bench) -> None:
    async def steps(connection: Connection, seen: Seen) -> None:
        await connection.send((seen.id, run(1) + propose(1)))

    bench.set_options(HandlerOptions(inactivity_timeout_ms=60, abort_timeout_ms=60))
    bench.endpoint.scripts["quiet"] = steps
    row = bench.row("quiet")
    bench.start(row, INPUT)
    (command,) = await bench.commands(row.id)
    assert isinstance(command, Effects)
    await asyncio.sleep(0.3)
    assert len(bench.host.of(row.id)) == 1
    assert M.HALF_CLOSE not in bench.endpoint.opened[0].codes()
    bench.stored(command)  # now it is the endpoint's turn
    assert (await bench.failure(row.id)).failure.code == 504


async def test_inactivity_timeout_of_zero_asks_for_suspension_at_once(bench: Bench) -> None:
    async def suspends(connection: Connection, seen: Seen) -> None:
        await bench.until(lambda: M.HALF_CLOSE in seen.codes())
        await connection.send((seen.id, frame(M.SUSPENSION, pb.SuspensionMessage(waiting_signals=[1]))))

    bench.set_options(HandlerOptions(inactivity_timeout_ms=0))
    bench.endpoint.scripts["quiet"] = suspends
    row = bench.row("quiet")
    bench.start(row, INPUT)
    (command,) = await bench.commands(row.id)
    assert isinstance(command, Effects)


async def test_huge_reply_is_passed_on_and_an_oversize_one_refused(bench: Bench) -> None:
    async def huge(connection: Connection, seen: Seen) -> None:
        await connection.send((seen.id, output(b"x" * (20 * 1024 * 1024)) + end()))

    async def oversize(connection: Connection, seen: Seen) -> None:
        await connection.send((seen.id, output(b"x" * (FRAME_BYTES_MAX + 100))))

    bench.endpoint.scripts |= {"quiet": huge, "bad": oversize}
    large, larger, small = bench.row("quiet"), bench.row("bad"), bench.row()
    bench.start(large, INPUT)
    (command,) = await bench.commands(large.id)
    assert isinstance(command, Effects)
    assert len(command.frames[0].body) > 20 * 1024 * 1024
    bench.start(larger, INPUT)
    failed = await bench.failure(larger.id)
    assert str(FRAME_BYTES_MAX) in failed.failure.message
    bench.start(small, INPUT)
    (command,) = await bench.commands(small.id)
    assert isinstance(command, Effects)
    assert len(bench.endpoint.connections) == 1


async def test_ignoring_flow_control_costs_the_stream_that_did(bench: Bench) -> None:
    async def floods(connection: Connection, seen: Seen) -> None:
        for number in range(1, 10):
            await connection.send((seen.id, run(number) + propose(number, b"x" * 16 * 1024 * 1024)))

    bench.endpoint.scripts["bad"] = floods
    row = bench.row("bad")
    bench.start(row, INPUT)
    failed = await bench.failure(row.id)
    assert "ignored flow control" in failed.failure.message
    after = bench.row()
    bench.start(after, INPUT)
    await bench.commands(after.id)
    assert len(bench.endpoint.connections) == 1


@pytest.mark.parametrize(
    ("hello", "words"),
    [
        (ep.Hello(session_version=2, stream_credit_bytes=1, session_credit_bytes=1), "speaks session version 2"),
        (ep.Hello(session_version=1), "gives no credit"),
        (b"garbage \xff\xff", "not a SessionFlush"),
        (ep.SessionFlush(stream_ids=[1], frames=[b""]).SerializeToString(), "no hello"),
    ],
)
async def test_a_wrong_hello_is_explained(bench: Bench, hello: ep.Hello | bytes, words: str) -> None:
    bench.endpoint.hello = hello
    row = bench.row()
    bench.start(row, INPUT)
    failed = await bench.failure(row.id)
    assert words in failed.failure.message
    assert isinstance(failed.then, Retry)


async def test_an_endpoint_that_says_nothing_is_given_up(bench: Bench) -> None:
    bench.endpoint.hello = None
    row = bench.row()
    bench.start(row, INPUT)
    assert "did not say hello within 2 s" in (await bench.failure(row.id)).failure.message


async def test_refused_connection_then_an_endpoint_that_is_back(bench: Bench) -> None:
    port = bench.endpoint.port
    await bench.endpoint.stop()
    row = bench.row()
    bench.start(row, INPUT)
    failed = await bench.failure(row.id)
    assert "UNAVAILABLE" in failed.failure.message
    assert isinstance(failed.then, Retry)
    again = FakeEndpoint()
    await again.start(port)
    try:
        after = bench.row()
        bench.start(after, INPUT)
        (command,) = await bench.commands(after.id)
        assert isinstance(command, Effects | AttemptFailed)
        late = bench.row()
        bench.start(late, INPUT)
        (command,) = await bench.commands(late.id)
        assert isinstance(command, Effects)
    finally:
        await again.stop()


@pytest.mark.parametrize(
    ("fields", "then"),
    [
        ({"behavior": pb.PAUSE}, Pause()),
        ({"behavior": pb.FAIL}, GiveUp()),
        ({"next_retry_delay": 7_777}, Retry(NOW_MS + 7_777)),
    ],
)
async def test_the_endpoint_may_decide_what_follows_its_error(
    bench: Bench, fields: dict[str, int], then: Retry | Pause | GiveUp
) -> None:
    async def fails(connection: Connection, seen: Seen) -> None:
        await connection.send((seen.id, error("no", **fields)))

    bench.endpoint.scripts["bad"] = fails
    row = bench.row("bad")
    bench.start(row, INPUT)
    assert (await bench.failure(row.id)).then == then


async def test_a_poison_invocation_is_paused_when_its_attempts_are_used_up(bench: Bench) -> None:
    async def fails(connection: Connection, seen: Seen) -> None:
        await connection.send((seen.id, error("always")))

    bench.endpoint.scripts["bad"] = fails
    row = bench.row("bad", retry_count=4)
    bench.start(row, INPUT)
    assert (await bench.failure(row.id)).then == Pause()


async def test_a_handler_that_is_not_there_any_more(bench: Bench) -> None:
    unknown, removed = bench.row("nowhere"), bench.row(pinned="dp_removed")
    bench.start(unknown, INPUT)
    bench.start(removed, INPUT)
    assert "has no handler 'nowhere'" in (await bench.failure(unknown.id)).failure.message
    assert "'dp_removed' is not registered" in (await bench.failure(removed.id)).failure.message
    assert not bench.endpoint.opened


async def test_a_journal_frame_that_the_endpoint_can_not_take(bench: Bench) -> None:
    bench.endpoint.hello = ep.Hello(
        session_version=1, stream_credit_bytes=10**6, session_credit_bytes=10**6, frame_bytes_max=1_000
    )
    row = bench.row(journal=frame(M.INPUT, pb.InputCommandMessage(value=pb.Value(content=b"x" * 5_000))))
    bench.start(row)
    failed = await bench.failure(row.id)
    assert "the endpoint accepts 1000 (frame_bytes_max)" in failed.failure.message


async def test_shared_handler_that_writes_state(bench: Bench) -> None:
    async def writes(connection: Connection, seen: Seen) -> None:
        await connection.send((seen.id, frame(M.CLEAR_ALL_STATE)))

    bench.endpoint.scripts["value"] = writes
    row = bench.row("value", "counter", "k", HandlerType.SHARED)
    bench.start(row, INPUT)
    assert "CLEAR_ALL_STATE" in (await bench.failure(row.id)).failure.message

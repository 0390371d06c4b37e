"""Sessions as a node sees them: shared, limited by the endpoint, made again after they were lost, closed when idle."""

from __future__ import annotations

import asyncio
import random

import pytest

from holdfast_partition_processor import endpoint_session
from holdfast_partition_processor.command import AttemptFailed, Effects
from holdfast_partition_processor.endpoint_address import (
    KEEPALIVE_MS,
    PATIENT_KEEPALIVE_MS,
    MalformedAddress,
    channel_options,
    grpc_target,
)
from holdfast_partition_processor.endpoint_session import EndpointSessions, SessionOptions
from holdfast_partition_processor.session_hello import Limits
from holdfast_partition_processor.session_mux import STREAM_ID_MAX
from holdfast_proto import endpoint_pb2 as ep
from holdfast_proto.framing import MessageType as M

from .conftest import INPUT, Bench
from .fake_endpoint import HELLO, Connection, FakeEndpoint, Seen, end, frame, output, propose, run


async def test_all_invokers_of_a_node_share_one_session(bench: Bench) -> None:
    first, second = bench.row(), bench.row()
    bench.start(first, INPUT)
    bench.make_invoker()
    bench.start(second, INPUT)
    await bench.commands(first.id)
    await bench.commands(second.id)
    assert len(bench.endpoint.connections) == 1
    assert [seen.id for seen in bench.endpoint.opened] == [1, 2]
    assert bench.sessions.sessions == 1


async def test_streams_max_of_the_endpoint_is_kept_and_those_who_wait_are_served_in_order(bench: Bench) -> None:
    hello = ep.Hello()
    hello.CopyFrom(HELLO)
    hello.streams_max = 2
    bench.endpoint.hello = hello
    at_once = 0
    most = 0

    async def slow(connection: Connection, seen: Seen) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.01)
        at_once -= 1
        await connection.send((seen.id, output() + end()))

    bench.endpoint.scripts["greet"] = slow
    rows = [bench.row() for _ in range(10)]
    for row in rows:
        bench.start(row, INPUT)
    for row in rows:
        await bench.commands(row.id)
    assert most == 2
    assert [seen.start.id for seen in bench.endpoint.opened] == [row.id for row in rows]


async def test_an_attempt_that_waits_for_room_can_be_aborted(bench: Bench) -> None:
    hello = ep.Hello()
    hello.CopyFrom(HELLO)
    hello.streams_max = 1
    bench.endpoint.hello = hello

    async def holds(connection: Connection, seen: Seen) -> None:
        await bench.until(lambda: M.RESET in seen.codes())

    bench.endpoint.scripts["quiet"] = holds
    holder, waiter, last = bench.row("quiet"), bench.row(), bench.row()
    for row in (holder, waiter, last):
        bench.start(row, INPUT)
    await bench.until(lambda: bool(bench.endpoint.opened))
    bench.invoker.abort(waiter.id)
    bench.invoker.abort(holder.id)
    await bench.commands(last.id)
    assert [seen.start.id for seen in bench.endpoint.opened] == [holder.id, last.id]


async def test_flow_control_lets_a_long_journal_through_a_small_window(bench: Bench) -> None:
    """The endpoint takes 4 KiB per stream and gives credit for what it read; the journal is a hundred times that."""
    bench.endpoint.hello = ep.Hello(
        session_version=1, stream_credit_bytes=4_096, session_credit_bytes=8_192, frame_bytes_max=2_048, peer="small"
    )
    frames = [frame(M.INPUT)] + [frame(M.SLEEP_COMPLETION, ep.Reset(message="x" * 1_000)) for _ in range(400)]

    async def reads(connection: Connection, seen: Seen) -> None:
        done = 0
        while len(seen.frames) < len(frames):
            fresh = seen.frames[done:]
            size = sum(8 + len(body) for _, body in fresh)
            done += len(fresh)
            if size:
                credit = frame(M.CREDIT, ep.Credit(bytes=size))
                await connection.send((seen.id, credit), (0, credit))
            await asyncio.sleep(0.001)
        await connection.send((seen.id, output() + end()))

    bench.endpoint.scripts["greet"] = reads
    row = bench.row(journal=b"".join(frames), length=len(frames), commands=2)
    bench.start(row)
    (command,) = await bench.commands(row.id)
    assert isinstance(command, Effects)


async def test_a_strict_sender_gets_a_frame_larger_than_the_window_through(endpoint: FakeEndpoint) -> None:
    """An endpoint that sends such a frame only when all of its credit is back (see session_credit) does not wait for
    ever: what is left of the credit is returned while the stream is quiet."""
    limits = Limits(stream_credit_bytes=1_000)
    sessions = EndpointSessions("node-1", SessionOptions(limits=limits), random.Random(1))
    bench = Bench(endpoint, sessions)
    first = run(1)

    async def strict(connection: Connection, seen: Seen) -> None:
        await connection.send((seen.id, first))
        granted = 0
        while granted < len(first):
            granted = sum(ep.Credit.FromString(body).bytes for code, body in seen.frames if code == M.CREDIT)
            await asyncio.sleep(0.001)
        await connection.send((seen.id, propose(1, b"x" * 5_000)))

    endpoint.scripts["bad"] = strict
    try:
        row = bench.row("bad")
        bench.start(row, INPUT)
        (command,) = await bench.commands(row.id)
        assert isinstance(command, Effects)
        bench.stored(command)
        _, large = await bench.commands(row.id, 2)
        assert isinstance(large, Effects)
    finally:
        bench.invoker.close()
        await sessions.close()


async def test_an_endpoint_that_forbids_pings_is_pinged_less_after_that(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def recorded(keepalive_ms: int) -> tuple[tuple[str, int], ...]:
        asked.append(keepalive_ms)
        return channel_options(keepalive_ms)

    async def throws_out(connection: Connection, seen: Seen) -> None:
        raise ConnectionAbortedError("Too many pings")

    monkeypatch.setattr(endpoint_session, "channel_options", recorded)
    bench.endpoint.scripts["bad"] = throws_out
    row, after = bench.row("bad"), bench.row()
    bench.start(row, INPUT)
    await bench.failure(row.id)
    bench.start(after, INPUT)
    await bench.commands(after.id)
    assert asked == [KEEPALIVE_MS, PATIENT_KEEPALIVE_MS]


async def test_ids_used_up_leads_to_a_new_session_beside_the_old_one(bench: Bench) -> None:
    may_end = asyncio.Event()

    async def slow(connection: Connection, seen: Seen) -> None:
        await may_end.wait()
        await connection.send((seen.id, output() + end()))

    warm = bench.row()
    bench.start(warm, INPUT)
    await bench.commands(warm.id)
    bench.endpoint.scripts["quiet"] = slow
    session = next(iter(bench.sessions._endpoints.values())).session
    assert session is not None
    session.mux.last_id = STREAM_ID_MAX - 1
    old, new = bench.row("quiet"), bench.row()
    bench.start(old, INPUT)
    bench.start(new, INPUT)
    await bench.commands(new.id)
    assert len(bench.endpoint.connections) == 2
    may_end.set()
    (command,) = await bench.commands(old.id)
    assert isinstance(command, Effects)


async def test_a_lost_session_fails_all_its_attempts_and_a_new_one_serves_the_next(bench: Bench) -> None:
    async def crashes(connection: Connection, seen: Seen) -> None:
        await asyncio.sleep(0.05)
        raise ConnectionAbortedError

    async def waits(connection: Connection, seen: Seen) -> None:
        await asyncio.sleep(3600)

    bench.endpoint.scripts |= {"quiet": waits, "bad": crashes}
    rows = [*(bench.row("quiet") for _ in range(5)), bench.row("bad")]
    for row in rows:
        bench.start(row, INPUT)
    for row in rows:
        assert isinstance(await bench.failure(row.id), AttemptFailed)
    assert bench.invoker.in_flight == 0
    after = bench.row()
    bench.start(after, INPUT)
    await bench.commands(after.id)
    assert len(bench.endpoint.connections) == 2


async def test_an_idle_session_is_closed_and_a_used_one_is_not(endpoint: FakeEndpoint) -> None:
    sessions = EndpointSessions("node-1", SessionOptions(idle_timeout_s=0.1), random.Random(1))
    bench = Bench(endpoint, sessions)

    async def waits(connection: Connection, seen: Seen) -> None:
        await asyncio.sleep(0.5)
        await connection.send((seen.id, output() + end()))

    endpoint.scripts["quiet"] = waits
    try:
        row = bench.row("quiet")
        bench.start(row, INPUT)
        (command,) = await bench.commands(row.id)
        assert isinstance(command, Effects)
        await bench.until(lambda: sessions.sessions == 0, 2.0)
        again = bench.row()
        bench.start(again, INPUT)
        await bench.commands(again.id)
        assert len(endpoint.connections) == 2
    finally:
        bench.invoker.close()
        await sessions.close()


async def test_tries_to_connect_are_spaced_out_while_attempts_keep_coming(bench: Bench) -> None:
    await bench.endpoint.stop()
    loop = asyncio.get_running_loop()
    began = loop.time()
    for _ in range(8):
        row = bench.row()
        bench.start(row, INPUT)
        await bench.failure(row.id)
    assert loop.time() - began > 0.02 / 2 + 6 * 0.05 / 2


async def test_closing_with_attempts_on_the_way_leaves_nothing_behind(endpoint: FakeEndpoint) -> None:
    endpoint.hello = None  # they wait for a hello that does not come
    sessions = EndpointSessions("node-1", None, random.Random(1))
    bench = Bench(endpoint, sessions)
    for _ in range(3):
        bench.start(bench.row(), INPUT)
    await asyncio.sleep(0.05)
    bench.invoker.close()
    await sessions.close()
    assert bench.host.submitted == []


@pytest.mark.parametrize(
    ("address", "target"),
    [
        ("localhost:9080", "localhost:9080"),
        ("grpc://localhost:9080", "localhost:9080"),
        ("grpc://localhost:9080/", "localhost:9080"),
        ("[::1]:9080", "[::1]:9080"),
        ("unix:/run/app.sock", "unix:/run/app.sock"),
    ],
)
def test_addresses(address: str, target: str) -> None:
    assert grpc_target(address) == target


@pytest.mark.parametrize(
    "address",
    ["", "localhost", "http://localhost:9080", "localhost:0", "localhost:65536", "a b:1", "unix:", "x:1/path", ":80"],
)
def test_malformed_addresses_are_refused_with_the_forms_that_are_allowed(address: str) -> None:
    with pytest.raises(MalformedAddress, match="host:port"):
        grpc_target(address)

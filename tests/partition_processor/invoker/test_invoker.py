"""The invoker's own duties: its limits, the order under back-pressure, abort, and the end of leadership."""

from __future__ import annotations

import asyncio

import pytest

from holdfast_log.types import LogFull, NotLeader, Overloaded
from holdfast_partition_processor.action import ForwardNotifications
from holdfast_partition_processor.command import AttemptFailed, Effects
from holdfast_partition_processor.invoker import InvokerOptions
from holdfast_proto import endpoint_pb2 as ep
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import MessageType as M
from holdfast_proto.framing import encode_frame

from .conftest import INPUT, Bench
from .fake_endpoint import Connection, Seen, end, output, propose, run

SIGNAL = encode_frame(M.SIGNAL, pb.Notification(signal_id=17).SerializeToString())


async def hangs(connection: Connection, seen: Seen) -> None:
    await asyncio.sleep(3600)


async def test_attempts_beyond_the_limit_wait_in_order_and_read_nothing(bench: Bench) -> None:
    bench.make_invoker(InvokerOptions(concurrent_attempts_max=2))
    bench.endpoint.scripts["quiet"] = hangs
    rows = [bench.row("quiet"), bench.row("quiet"), bench.row("greet"), bench.row("greet")]
    for row in rows:
        bench.start(row, INPUT)
    assert (bench.invoker.in_flight, bench.invoker.queued) == (2, 2)
    await bench.until(lambda: len(bench.endpoint.opened) == 2)
    assert rows[2].id not in bench.host.journals_read
    bench.invoker.abort(rows[0].id)
    await bench.commands(rows[3].id)
    order = [seen.start.id for seen in bench.endpoint.opened]
    assert order == [row.id for row in rows]
    assert bench.host.journals_read[-2:] == [rows[2].id, rows[3].id]


async def test_many_attempts_that_fail_at_once_do_not_pile_up(bench: Bench) -> None:
    """Each makes room for the next: a loop, not a recursion."""
    bench.make_invoker(InvokerOptions(concurrent_attempts_max=1))
    bench.endpoint.scripts["quiet"] = hangs
    blocker = bench.row("quiet")
    bench.start(blocker, INPUT)
    rows = [bench.row("nowhere") for _ in range(3_000)]
    for row in rows:
        bench.start(row)
    bench.invoker.abort(blocker.id)
    assert [command.id for command in bench.host.submitted] == [row.id for row in rows]
    assert bench.invoker.in_flight == 0


async def test_notifications_before_the_start_come_with_the_journal_and_not_twice(bench: Bench) -> None:
    """While an attempt waits, its journal grows; the tables may even be ahead of the actions."""
    bench.make_invoker(InvokerOptions(concurrent_attempts_max=1))
    bench.endpoint.scripts["quiet"] = hangs
    blocker, row = bench.row("quiet"), bench.row("quiet")
    bench.start(blocker, INPUT)
    await bench.until(lambda: bool(bench.endpoint.opened))
    bench.start(row)
    bench.host.journals[row.id] = INPUT + SIGNAL + SIGNAL  # the second one's action is still to come
    bench.invoker.forward(ForwardNotifications(row.id, 1, SIGNAL, 1))
    bench.invoker.abort(blocker.id)
    bench.invoker.forward(ForwardNotifications(row.id, 1, SIGNAL, 2))
    await bench.until(lambda: len(bench.endpoint.opened) == 2 and len(bench.endpoint.opened[1].frames) >= 3)
    seen = bench.endpoint.opened[1]
    assert seen.start.known_entries == 2
    assert seen.codes() == [M.INPUT, M.SIGNAL, M.SIGNAL]


async def test_a_queued_attempt_whose_invocation_was_purged_is_dropped(bench: Bench) -> None:
    row = bench.row(journal=b"")
    bench.start(row)
    await bench.until(lambda: bench.invoker.in_flight == 0)
    assert not bench.host.submitted
    assert not bench.endpoint.opened


@pytest.mark.parametrize("refusal", [Overloaded("too much"), LogFull("no space")])
async def test_while_the_log_refuses_nothing_is_lost_or_reordered_and_no_credit_is_given(
    bench: Bench, refusal: Overloaded | LogFull
) -> None:
    async def steps(connection: Connection, seen: Seen) -> None:
        await connection.send((seen.id, run(1)))
        await connection.send((seen.id, propose(1)))
        await connection.send((seen.id, output() + end()))

    bench.endpoint.scripts["bad"] = steps
    bench.host.refuse = refusal
    rows = [bench.row("bad") for _ in range(5)]
    for row in rows:
        bench.start(row, INPUT)
    await asyncio.sleep(0.2)
    late = bench.row()
    bench.start(late, INPUT)  # has to wait: no new work while the log takes none
    assert bench.invoker.queued == 1
    assert bench.host.submitted == []
    bench.host.refuse = None
    for row in rows:
        commands = await bench.commands(row.id, 3)
        assert [frame.type for c in commands if isinstance(c, Effects) for frame in c.frames] == [
            M.RUN,
            M.PROPOSE_RUN_COMPLETION,
            M.OUTPUT,
            M.END,
        ]
    await bench.commands(late.id)
    assert bench.invoker.in_flight == 0


async def test_losing_leadership_resets_all_streams_and_submits_nothing_more(bench: Bench) -> None:
    bench.endpoint.scripts["quiet"] = hangs
    rows = [bench.row("quiet") for _ in range(3)]
    for row in rows:
        bench.start(row, INPUT)
    await bench.until(lambda: len(bench.endpoint.opened) == 3)
    bench.host.refuse = NotLeader(0, "node-2")
    last = bench.row()
    bench.start(last, INPUT)  # answers, and the host says that it leads no longer
    await bench.until(lambda: all(M.RESET in seen.codes() for seen in bench.endpoint.opened[:3]))
    assert bench.host.submitted == []
    assert bench.invoker.in_flight == 0
    reset = ep.Reset.FromString(bench.endpoint.opened[0].frames[-1][1])
    assert "does not lead" in reset.message


async def test_abort_resets_the_stream_and_late_frames_change_nothing(bench: Bench) -> None:
    async def answers_late(connection: Connection, seen: Seen) -> None:
        await bench.until(lambda: M.RESET in seen.codes())
        await connection.send((seen.id, output() + end()))

    bench.endpoint.scripts["quiet"] = answers_late
    row, after = bench.row("quiet"), bench.row()
    bench.start(row, INPUT)
    await bench.until(lambda: bool(bench.endpoint.opened))
    bench.invoker.abort(row.id)
    await bench.until(lambda: M.RESET in bench.endpoint.opened[0].codes())
    bench.start(after, INPUT)
    await bench.commands(after.id)
    assert bench.host.of(row.id) == []


async def test_a_new_attempt_takes_the_place_of_the_old_one(bench: Bench) -> None:
    bench.endpoint.scripts["quiet"] = hangs
    row = bench.row("quiet")
    bench.start(row, INPUT)
    await bench.until(lambda: bool(bench.endpoint.opened))
    bench.start(row, INPUT)
    await bench.until(lambda: len(bench.endpoint.opened) == 2 and M.RESET in bench.endpoint.opened[0].codes())
    assert bench.invoker.in_flight == 1


async def test_leadership_lost_while_attempts_wait_for_a_connection(bench: Bench) -> None:
    await bench.endpoint.stop()
    for _ in range(20):
        bench.start(bench.row(), INPUT)
    bench.host.refuse = NotLeader(0, None)  # the first that fails closes the invoker under the others
    await bench.until(lambda: bench.invoker.in_flight == 0)
    assert bench.host.submitted == []


async def test_a_failure_text_of_any_length_is_cut(bench: Bench) -> None:
    async def chatty(connection: Connection, seen: Seen) -> None:
        await connection.send(
            (seen.id, encode_frame(M.ERROR, pb.ErrorMessage(message="x" * 100_000).SerializeToString()))
        )

    bench.endpoint.scripts["bad"] = chatty
    row = bench.row("bad")
    bench.start(row, INPUT)
    failed = await bench.failure(row.id)
    assert isinstance(failed, AttemptFailed)
    assert len(failed.failure.message) == 4_000

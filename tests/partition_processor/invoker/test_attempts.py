"""Attempts that go well: what is sent to an endpoint, and which command its answer becomes."""

from __future__ import annotations

from holdfast_partition_processor.command import Effects, HandlerOptions, HandlerType, Retry
from holdfast_proto import endpoint_pb2 as ep
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import MessageType as M
from holdfast_proto.framing import encode_frame
from holdfast_proto.identifiers import encode_invocation_id

from .conftest import INPUT, NOW_MS, Bench
from .fake_endpoint import Connection, Seen, end, error, frame, output, run


async def test_output_and_end_of_one_flush_are_one_command_that_pins_the_deployment(bench: Bench) -> None:
    row = bench.row()
    bench.start(row, INPUT)
    (command,) = await bench.commands(row.id)
    assert isinstance(command, Effects)
    assert [stored.type for stored in command.frames] == [M.OUTPUT, M.END]
    assert (command.attempt, command.deployment) == (1, "dp_1")
    assert bench.invoker.in_flight == 0


async def test_opening_says_everything_about_the_attempt(bench: Bench) -> None:
    bench.host.state["counter", "k"] = [(b"a", b"1"), (b"b", b"2")]
    journal = INPUT + run(1) + encode_frame(M.RUN_COMPLETION, pb.Notification(completion_id=1).SerializeToString())
    row = bench.row(
        "add",
        "counter",
        "k",
        HandlerType.EXCLUSIVE,
        journal,
        length=3,
        commands=2,
        attempt=4,
        retry_count=2,
        pinned="dp_1",
    )
    bench.start(row)
    (command,) = await bench.commands(row.id)
    assert isinstance(command, Effects)
    assert command.deployment == ""
    seen = bench.endpoint.opened[0]
    assert seen.opening == ep.Open(
        service="counter",
        handler="add",
        key="k",
        protocol_version=6,
        attempt=4,
        invocation_id=encode_invocation_id(row.id),
    )
    start = seen.start
    assert (start.id, start.known_entries, start.key) == (row.id, 3, "k")
    assert (start.retry_count_since_last_stored_entry, start.duration_since_last_stored_entry) == (2, 5_000)
    assert [(entry.key, entry.value) for entry in start.state_map] == [(b"a", b"1"), (b"b", b"2")]
    assert not start.partial_state
    assert seen.codes() == [M.INPUT, M.RUN, M.RUN_COMPLETION]


async def test_random_seed_is_the_same_for_every_attempt_and_differs_between_invocations(bench: Bench) -> None:
    first, other = bench.row(), bench.row()
    bench.start(first, INPUT)
    await bench.commands(first.id)
    bench.start(first, INPUT)
    await bench.commands(first.id, 2)
    bench.start(other, INPUT)
    await bench.commands(other.id)
    seeds = [seen.start.random_seed for seen in bench.endpoint.opened]
    assert seeds[0] == seeds[1] != seeds[2]


async def test_state_beyond_the_limit_is_left_out_and_said_to_be_partial(bench: Bench) -> None:
    half = b"x" * 600 * 1024
    bench.host.state["counter", "k"] = [(b"a", half), (b"b", half)]
    bench.start(bench.row("add", "counter", "k", HandlerType.EXCLUSIVE), INPUT)
    await bench.until(lambda: bool(bench.endpoint.opened and bench.endpoint.opened[0].frames))
    start = bench.endpoint.opened[0].start
    assert [entry.key for entry in start.state_map] == [b"a"]
    assert start.partial_state


async def test_lazy_state_is_not_sent(bench: Bench) -> None:
    bench.set_options(HandlerOptions(enable_lazy_state=True))
    bench.host.state["counter", "k"] = [(b"a", b"1")]
    bench.start(bench.row("value", "counter", "k", HandlerType.SHARED), INPUT)
    await bench.until(lambda: bool(bench.endpoint.opened))
    assert not bench.endpoint.opened[0].start.state_map
    assert bench.endpoint.opened[0].start.partial_state


async def test_notifications_reach_the_attempt_they_are_for_in_order(bench: Bench) -> None:
    from holdfast_partition_processor.action import ForwardNotifications

    async def waits(connection: Connection, seen: Seen) -> None:
        await connection.send((seen.id, run(1)))

    bench.endpoint.scripts["bad"] = waits
    row = bench.row("bad", attempt=2)
    bench.start(row, INPUT)
    await bench.commands(row.id)
    notes = [encode_frame(M.SIGNAL, pb.Notification(signal_id=17 + i).SerializeToString()) for i in range(3)]
    bench.invoker.forward(ForwardNotifications(row.id, 1, notes[0], 1))  # an earlier attempt's
    bench.invoker.forward(ForwardNotifications(row.id, 2, notes[1], 2))
    bench.invoker.forward(ForwardNotifications(row.id, 2, notes[2], 3))
    seen = bench.endpoint.opened[0]
    await bench.until(lambda: len(seen.frames) >= 3)
    assert [pb.Notification.FromString(body).signal_id for code, body in seen.frames if code == M.SIGNAL] == [18, 19]


async def test_a_call_is_resolved_when_it_is_stored(bench: Bench) -> None:
    async def calls(connection: Connection, seen: Seen) -> None:
        call = pb.CallCommandMessage(
            service_name="counter",
            handler_name="add",
            key="k",
            idempotency_key="once",
            invocation_id_notification_idx=1,
            result_completion_id=2,
        )
        await connection.send((seen.id, frame(M.CALL, call)))

    bench.endpoint.scripts["bad"] = calls
    row = bench.row("bad")
    bench.start(row, INPUT)
    (command,) = await bench.commands(row.id)
    assert isinstance(command, Effects)
    resolved = command.frames[0].resolved
    assert resolved is not None
    assert (resolved.target.service, resolved.target.key, resolved.target.type) == (
        "counter",
        "k",
        HandlerType.EXCLUSIVE,
    )
    assert resolved.completion_retention_ms == bench.catalog.defaults.idempotency_retention_ms


async def test_several_pieces_for_one_stream_in_one_flush_are_one_command(bench: Bench) -> None:
    async def pieces(connection: Connection, seen: Seen) -> None:
        await connection.send((seen.id, run(1)), (seen.id, output()), (seen.id, end()))

    bench.endpoint.scripts["bad"] = pieces
    row = bench.row("bad")
    bench.start(row, INPUT)
    (command,) = await bench.commands(row.id)
    assert isinstance(command, Effects)
    assert [stored.type for stored in command.frames] == [M.RUN, M.OUTPUT, M.END]


async def test_suspension_ends_the_attempt(bench: Bench) -> None:
    async def suspends(connection: Connection, seen: Seen) -> None:
        await connection.send((seen.id, frame(M.SUSPENSION, pb.SuspensionMessage(waiting_signals=[17]))))

    bench.endpoint.scripts["bad"] = suspends
    row = bench.row("bad")
    bench.start(row, INPUT)
    (command,) = await bench.commands(row.id)
    assert isinstance(command, Effects)
    assert command.frames[0].type == M.SUSPENSION
    assert bench.invoker.in_flight == 0


async def test_error_after_commands_stores_them_and_counts_retries_anew(bench: Bench) -> None:
    async def fails(connection: Connection, seen: Seen) -> None:
        await connection.send(
            (seen.id, run(1) + error("boom", related_command_index=1, related_command_name="step", stacktrace="at x"))
        )

    bench.endpoint.scripts["bad"] = fails
    row = bench.row("bad", retry_count=4)  # one more failure without progress would be the last
    bench.start(row, INPUT)
    stored, failed = await bench.commands(row.id, 2)
    assert isinstance(stored, Effects)
    assert failed == await bench.failure(row.id)
    failure = await bench.failure(row.id)
    assert failure.failure.message == "boom"
    assert (failure.related_index, failure.related_name) == (1, "step")
    assert ("stacktrace", "at x") in failure.failure.metadata
    assert isinstance(failure.then, Retry)
    assert NOW_MS + 100 <= failure.then.at_ms <= NOW_MS + 130


async def test_an_asked_for_acknowledgement_is_sent_once_the_command_is_stored(bench: Bench) -> None:
    async def asks(connection: Connection, seen: Seen) -> None:
        body = pb.RunCommandMessage(result_completion_id=1)
        await connection.send((seen.id, frame(M.RUN, body, flags=0x8000)))

    bench.endpoint.scripts["bad"] = asks
    row = bench.row("bad")
    bench.start(row, INPUT)
    (command,) = await bench.commands(row.id)
    assert isinstance(command, Effects)
    seen = bench.endpoint.opened[0]
    assert M.COMMAND_ACK not in seen.codes()
    bench.stored(command)
    await bench.until(lambda: M.COMMAND_ACK in seen.codes())
    (acked,) = [pb.CommandAckMessage.FromString(body) for code, body in seen.frames if code == M.COMMAND_ACK]
    assert acked.command_index == 1  # the input is command 0

"""What a partition promises to those who submit, wait and lead."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from holdfast_log.types import Entry, EntryKind, LogFull, NotLeader, Overloaded, PayloadTooLarge
from holdfast_partition_processor.action import InvocationCompleted, Outcome, Reply
from holdfast_partition_processor.checkpoints import CheckpointOptions, Store
from holdfast_partition_processor.command import (
    Command,
    Deployment,
    Effects,
    Ingest,
    Kill,
    OutboxShipped,
    RegisterDeployment,
    StoredFrame,
    TimerFired,
    encode_batch,
    encode_command,
    join_batch,
)
from holdfast_partition_processor.leadership import Host, LeaderDuties
from holdfast_partition_processor.memory_storage import digest
from holdfast_partition_processor.memory_store import MemoryStore
from holdfast_partition_processor.processor import PartitionProcessor, PartitionStopped, ProcessorOptions
from holdfast_partition_processor.proposals import ProposalLimits
from holdfast_partition_processor.store import LmdbStore, StoreError, StoreFailed, StoreOptions
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import MessageType
from tests.partition_processor.shell.fakes import (
    FakeInvoker,
    FakeLog,
    FakeWaiter,
    invocation_id,
    invoke,
    output,
    turns,
    until,
)


class Fixture:
    """A processor with a log whose commits the test makes, and invokers of which the last is the present leader's."""

    def __init__(
        self, store: Store | None = None, options: ProcessorOptions | None = None, entries: list[Entry] | None = None
    ) -> None:
        self.log = FakeLog(entries=entries)
        self.store = store or MemoryStore()
        self.now_ms = 1_000
        self.invokers: list[FakeInvoker] = []
        self.deployments: list[list[Deployment]] = []
        self.fatal: list[BaseException] = []
        self.processor = PartitionProcessor(
            self.log,
            self.store,
            partitions=1,
            clock_ms=lambda: self.now_ms,
            duties=self.duties,
            on_deployments=self.deployments.append,
            on_fatal=self.fatal.append,
            options=options,
        )
        self.processor.start()

    def duties(self, processor: PartitionProcessor) -> LeaderDuties:
        def invoker(host: Host) -> FakeInvoker:
            self.invokers.append(FakeInvoker(host))
            return self.invokers[-1]

        return LeaderDuties(processor, clock_ms=lambda: self.now_ms, invoker=invoker, courier=lambda *_: None)

    async def commit(self) -> None:
        await turns()
        self.log.commit()

    def started(self) -> list[bytes]:
        return [action.invocation.id for action in self.invokers[-1].started]


def leading(store: Store | None = None, options: ProcessorOptions | None = None) -> Fixture:
    f = Fixture(store, options)
    f.log.run()
    return f


def test_joined_commands_are_the_bytes_of_their_batch() -> None:
    commands: list[Command] = [
        invoke(1, request=7),
        TimerFired(5, b"t"),
        Kill(b"x" * 24),
        RegisterDeployment(DEPLOYMENT),
    ]
    assert join_batch(17, [encode_command(c)[0] for c in commands]) == encode_batch(17, commands)
    assert [encode_command(c)[1] for c in commands] == commands


DEPLOYMENT = Deployment("dp_1", "127.0.0.1:9080", 1, "sdk", 6, 6, ())


# ---------------------------------------------------------------- proposing


async def test_commands_of_one_turn_are_one_entry_in_their_order() -> None:
    f = leading()
    commands = [invoke(number) for number in range(5)]
    for command in commands:
        f.processor.submit(command)
    assert not f.log.proposed
    await f.commit()
    assert [list(batch.commands) for batch in f.log.batches()] == [commands]
    assert f.processor.applied_index == 2


async def test_what_comes_while_the_log_is_busy_gathers_and_goes_as_one_entry() -> None:
    f = leading()
    f.log.writable = False
    for number in range(3):
        f.processor.submit(invoke(number))
        await turns()
    assert not f.log.proposed
    f.log.writable = True
    f.processor.on_writable()
    await f.commit()
    assert [len(batch.commands) for batch in f.log.batches()] == [3]


async def test_more_than_may_wait_is_refused_with_the_limit_but_not_what_finishes_accepted_work() -> None:
    f = leading(options=ProcessorOptions(proposals=ProposalLimits(commands_max=2)))
    f.log.writable = False
    f.processor.submit(invoke(1))
    f.processor.submit(invoke(2))
    with pytest.raises(Overloaded, match=r"2 commands wait.*commands_max"):
        f.processor.submit(invoke(3))
    f.processor.submit(OutboxShipped(1, 1))
    f.log.writable = True
    f.processor.on_writable()
    await f.commit()
    assert len(f.log.commands()) == 3


async def test_what_attempts_send_is_taken_whole_or_not_at_all() -> None:
    f = leading(options=ProcessorOptions(proposals=ProposalLimits(attempts_bytes_max=1000)))
    f.processor.submit(invoke(1))
    await f.commit()
    host, attempt = f.invokers[-1].host, f.invokers[-1].started[0].invocation
    f.log.writable = False
    frames = tuple(StoredFrame(MessageType.SET_STATE, bytes((n,)) * 9_000_000) for n in range(4))
    host.submit(Effects(attempt.id, attempt.attempt, frames, "dp_1", 7))
    with pytest.raises(Overloaded, match=r"1000 bytes wait.*attempts_bytes_max"):
        host.submit(Effects(attempt.id, attempt.attempt, frames))
    f.log.writable = True
    f.processor.on_writable()
    await f.commit()
    stored = f.log.commands()[1:]
    assert [len(c.frames) for c in stored if isinstance(c, Effects)] == [1, 1, 1, 1]
    assert [c.frames[0] for c in stored if isinstance(c, Effects)] == list(frames)
    assert all((c.deployment, c.incarnation) == ("dp_1", 7) for c in stored if isinstance(c, Effects))


async def test_bytes_that_wait_are_limited_too() -> None:
    f = leading(options=ProcessorOptions(proposals=ProposalLimits(bytes_max=1000)))
    f.log.writable = False
    f.processor.submit(invoke(1))
    f.processor.submit(Ingest(1, 1, Kill(bytes(800))))
    with pytest.raises(Overloaded, match=r"1000 bytes wait.*bytes_max"):
        f.processor.submit(Ingest(1, 2, Kill(bytes(200))))


async def test_a_command_that_can_not_be_encoded_hurts_only_who_submits_it() -> None:
    f = leading()
    f.processor.submit(invoke(1))
    with pytest.raises(OverflowError):
        f.processor.submit(TimerFired(1 << 70, b""))
    with pytest.raises(PayloadTooLarge, match="PAYLOAD_BYTES_MAX"):
        f.processor.submit(TimerFired(1, bytes(41 * 1024 * 1024)))
    f.processor.submit(invoke(2))
    await f.commit()
    assert f.started() == [invocation_id(1), invocation_id(2)]


async def test_big_commands_are_spread_over_several_entries() -> None:
    f = leading()
    for number in range(3):
        f.processor.submit(Ingest(1, number, Kill(number.to_bytes(3_000_000, "big"))))
    await f.commit()
    assert [len(batch.commands) for batch in f.log.batches()] == [1, 1, 1]


async def test_the_leaders_clock_never_goes_back() -> None:
    f = leading()
    for now_ms in (5_000, 3_000, 6_000):
        f.now_ms = now_ms
        f.processor.submit(invoke(now_ms))
        await f.commit()
    assert [batch.now_ms for batch in f.log.batches()] == [5_000, 5_000, 6_000]


async def test_a_full_log_refuses_new_work_keeps_the_rest_and_recovers_by_itself() -> None:
    f = leading()
    waiter = FakeWaiter()
    f.log.refuse = LogFull("the disk of the journal is full")
    f.processor.submit(invoke(1, request=f.processor.next_request(waiter)))
    f.processor.wait_for(invocation_id(1), waiter)
    f.processor.submit(TimerFired(5, b"t"))
    await turns()
    assert [type(error) for error in waiter.errors] == [LogFull]
    with pytest.raises(LogFull, match="disk of the journal is full"):
        f.processor.submit(invoke(2))
    f.log.refuse = None
    await until(lambda: bool(f.log.proposed))
    f.processor.submit(invoke(3))
    await f.commit()
    assert f.log.commands() == [TimerFired(5, b"t"), invoke(3)]


# ---------------------------------------------------------------- leading


async def test_nothing_is_taken_or_carried_out_before_the_own_terms_first_entry_is_applied() -> None:
    f = Fixture()
    with pytest.raises(NotLeader):
        f.processor.submit(invoke(1))
    f.log.append_foreign(1, encode_batch(1, [invoke(1)]))
    f.log.elect()
    with pytest.raises(NotLeader):
        f.processor.submit(invoke(2))
    with pytest.raises(NotLeader):
        f.processor.wait_for(invocation_id(1), FakeWaiter())
    assert not f.invokers
    f.log.commit()
    assert f.processor.is_leading
    assert f.started() == [invocation_id(1)]


async def test_first_entries_of_earlier_terms_make_no_leader() -> None:
    f = Fixture()
    f.log.append_foreign(1, b"", EntryKind.EMPTY)
    assert not f.processor.is_leading
    f.log.elect()
    late = Entry(1, 2, EntryKind.EMPTY, b"")
    own = f.log.proposed[0]
    f.log.proposed = [late, Entry(own.term, 3, EntryKind.EMPTY, b"")]
    f.processor.on_committed([late])
    assert not f.processor.is_leading
    f.processor.on_committed(f.log.proposed[1:])
    assert f.processor.is_leading


async def test_a_later_attempt_that_begins_before_the_turn_of_the_one_that_was_found_is_the_only_one() -> None:
    f = Fixture()
    f.log.append_foreign(1, encode_batch(1, [invoke(number) for number in range(600)]))
    f.log.elect()
    run = pb.RunCommandMessage(result_completion_id=1).SerializeToString()
    done = pb.ProposeRunCompletionMessage(result_completion_id=1, value=b"1").SerializeToString()
    frames = (
        StoredFrame(MessageType.RUN, run),
        StoredFrame(MessageType.PROPOSE_RUN_COMPLETION, done),
        StoredFrame(MessageType.SUSPENSION, pb.SuspensionMessage(waiting_completions=[1]).SerializeToString()),
    )
    f.log.propose(encode_batch(1, [Effects(invocation_id(599), 1, frames)]))
    f.log.commit()
    await turns(5)
    last = [
        action.invocation.attempt for action in f.invokers[-1].started if action.invocation.id == invocation_id(599)
    ]
    assert last == [2]
    assert len(f.started()) == 600


async def test_entries_before_and_after_the_election_start_each_attempt_once() -> None:
    """All in one delivery: what was there is read from the tables, what follows comes as actions."""
    f = Fixture()
    f.log.entries.append(Entry(1, 1, EntryKind.NORMAL, encode_batch(1, [invoke(1), invoke(2), Kill(invocation_id(2))])))
    f.log.term = 1
    f.log.elect()
    f.log.propose(encode_batch(1, [invoke(3)]))
    f.log.commit()
    assert f.started() == [invocation_id(1), invocation_id(3)]


async def test_a_new_leader_starts_what_runs_but_not_what_ended_before_its_turn_came() -> None:
    f = Fixture()
    f.log.append_foreign(1, encode_batch(1, [invoke(number) for number in range(600)]))
    f.log.elect()
    f.log.propose(encode_batch(1, [Kill(invocation_id(599))]))
    f.log.commit()
    await turns(5)
    assert sorted(f.started()) == [invocation_id(number) for number in range(599)]
    assert f.invokers[-1].aborted == [invocation_id(599)]


async def test_an_invoker_of_an_earlier_term_can_submit_nothing() -> None:
    f = leading()
    f.processor.submit(invoke(1))
    await f.commit()
    old = f.invokers[-1]
    f.log.depose("other")
    f.log.run()
    with pytest.raises(NotLeader):
        old.host.submit(output(old.started[0]))
    await turns()
    assert old.closed
    new = f.invokers[-1]
    assert new is not old
    new.host.submit(output(new.started[0]))
    await f.commit()
    assert f.processor.result(invocation_id(1)) == InvocationCompleted(invocation_id(1), b"Hello Ada", None)


async def test_who_waits_is_told_of_the_reply_and_the_result() -> None:
    f = leading()
    waiter = FakeWaiter()
    request = f.processor.next_request(waiter)
    f.processor.wait_for(invocation_id(1), waiter)
    f.processor.submit(invoke(1, request=request))
    await f.commit()
    assert waiter.replies == [Reply(request, Outcome.ACCEPTED)]
    assert f.processor.result(invocation_id(1)) is None
    f.invokers[-1].host.submit(output(f.invokers[-1].started[0], b"42"))
    await f.commit()
    assert waiter.results == [InvocationCompleted(invocation_id(1), b"42", None)]
    assert not waiter.errors


async def test_who_waits_is_told_once_when_leadership_goes() -> None:
    f = leading()
    waiter, gone = FakeWaiter(), FakeWaiter()
    f.processor.wait_for(invocation_id(1), gone)
    f.processor.wait_for(invocation_id(1), waiter)
    f.processor.forget(invocation_id(1), gone)
    failed: list[bool] = []
    f.processor.submit(
        invoke(1, request=f.processor.next_request(waiter)), durable=None, failed=lambda: failed.append(True)
    )
    await turns()
    f.log.depose("node-2")
    assert [str(error) for error in waiter.errors] == ["this node does not lead partition 0; its leader is node-2"]
    f.log.depose("node-2")
    assert len(waiter.errors) == 1
    assert failed == [True]
    assert not gone.errors
    with pytest.raises(NotLeader, match="node-2"):
        f.processor.submit(invoke(2))


async def test_a_waiter_that_fails_is_reported_and_the_others_are_told() -> None:
    f = leading()
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["exception"]))
    bad, good = FakeWaiter(fails=True), FakeWaiter()
    for waiter in (bad, good):
        f.processor.submit(invoke(1, request=f.processor.next_request(waiter)))
        f.processor.wait_for(invocation_id(1), waiter)
    f.processor.submit(Kill(invocation_id(1)))
    await f.commit()
    assert [reply.outcome for reply in good.replies] == [Outcome.PREVIOUSLY_ACCEPTED]
    assert len(good.results) == 1
    assert [type(error) for error in reported] == [RuntimeError, RuntimeError]


async def test_deployments_are_told_at_the_start_and_at_changes_on_followers_too() -> None:
    f = Fixture()
    assert f.deployments == [[]]
    f.log.append_foreign(1, encode_batch(1, [RegisterDeployment(DEPLOYMENT)]))
    assert f.deployments == [[], [DEPLOYMENT]]


async def test_receipts_come_after_the_command_is_applied() -> None:
    f = leading()
    seen: list[int] = []
    f.processor.submit(invoke(1), durable=lambda: seen.append(f.processor.applied_index), failed=None)
    await turns()
    assert not seen
    await f.commit()
    assert seen == [2]


# ---------------------------------------------------------------- stopping


async def test_an_entry_of_a_newer_release_stops_the_partition_with_a_reason() -> None:
    f = leading()
    waiter = FakeWaiter()
    f.processor.wait_for(invocation_id(9), waiter)
    f.log.propose(encode_batch(1, [invoke(1)]))
    f.log.propose(b"\x93\x01\x02\x91\x92\xcd\x03\xe7\x01")  # a command with tag 999
    f.log.propose(encode_batch(1, [invoke(2)]))
    f.log.commit()
    assert f.processor.applied_index == 2
    with pytest.raises(PartitionStopped, match="partition 0 is stopped on this node: log entry can't be read"):
        f.processor.submit(invoke(3))
    assert [type(error) for error in waiter.errors] == [PartitionStopped]
    f.log.propose(encode_batch(1, [invoke(4)]))
    f.log.commit()
    assert f.processor.applied_index == 2
    await f.processor.close()


async def test_what_was_applied_before_a_stop_is_not_written_half(tmp_path: Path) -> None:
    store = LmdbStore.open(tmp_path, partition=0)
    f = leading(store)
    f.log.propose(b"not a batch")
    f.log.commit()
    await f.processor.close()
    reopened = LmdbStore.open(tmp_path, partition=0)
    assert reopened.durable_index == 0
    await reopened.close()


async def test_closing_takes_a_checkpoint_and_tells_who_waits(tmp_path: Path) -> None:
    f = leading(LmdbStore.open(tmp_path, partition=0))
    waiter = FakeWaiter()
    f.processor.submit(invoke(1))
    await f.commit()
    f.processor.wait_for(invocation_id(1), waiter)
    await f.processor.close()
    assert [str(error) for error in waiter.errors] == ["partition 0 is stopped on this node: it closes"]
    assert f.invokers[-1].closed
    store = LmdbStore.open(tmp_path, partition=0)
    assert store.durable_index == 2
    again = Fixture(store, entries=f.log.entries)
    again.log.run()
    assert again.started() == [invocation_id(1)]
    await again.processor.close()


# ---------------------------------------------------------------- checkpoints


async def test_the_log_is_trimmed_up_to_the_durable_checkpoint_less_a_tail(tmp_path: Path) -> None:
    options = ProcessorOptions(checkpoints=CheckpointOptions(seconds=0.01, log_tail_entries=3))
    f = leading(LmdbStore.open(tmp_path, partition=0), options)
    for number in range(10):
        f.processor.submit(invoke(number))
        await f.commit()
    await until(lambda: f.processor.durable_index == 11)
    assert f.log.trimmed == 8
    await f.processor.close()


async def test_much_that_changed_is_written_at_once_and_nothing_when_nothing_did(tmp_path: Path) -> None:
    options = ProcessorOptions(checkpoints=CheckpointOptions(seconds=0.02, pending_bytes=1000))
    f = leading(LmdbStore.open(tmp_path, partition=0), options)
    await asyncio.sleep(0.1)
    assert f.processor.durable_index == 0
    began = asyncio.get_running_loop().time()
    f.processor.submit(invoke(1))
    await f.commit()
    await until(lambda: f.processor.durable_index == 2)
    assert asyncio.get_running_loop().time() - began < 1
    await f.processor.close()


async def test_new_work_is_refused_when_the_tables_disk_falls_behind(tmp_path: Path) -> None:
    store = LmdbStore.open(tmp_path, partition=0, options=StoreOptions(overlay_bytes_max=1000))
    f = leading(store)
    f.processor.submit(invoke(1))
    await f.commit()
    with pytest.raises(Overloaded, match=r"bytes behind, limit 1000"):
        f.processor.submit(invoke(2))
    f.invokers[-1].host.submit(output(f.invokers[-1].started[0]))
    await f.commit()
    await until(lambda: store.pending_bytes == 0)
    f.processor.submit(invoke(2))
    await f.processor.close()


async def test_a_disk_that_fails_is_fatal_and_nothing_is_acknowledged_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LmdbStore.open(tmp_path, partition=0)

    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(store._file, "write", fail)
    f = leading(store, ProcessorOptions(checkpoints=CheckpointOptions(seconds=0.01)))
    waiter = FakeWaiter()
    f.processor.submit(invoke(1))
    await f.commit()
    f.processor.wait_for(invocation_id(1), waiter)
    await until(lambda: bool(f.fatal))
    assert isinstance(f.fatal[0], StoreFailed)
    assert len(waiter.errors) == 1
    with pytest.raises(PartitionStopped, match="Input/output error"):
        f.processor.submit(invoke(2))
    await f.processor.close()


async def test_tables_that_are_ahead_of_the_log_are_refused(tmp_path: Path) -> None:
    store = LmdbStore.open(tmp_path, partition=0)
    await store.flush(7)
    with pytest.raises(StoreError, match="the tables hold entry 7, the log ends at 0"):
        Fixture(store)
    await store.close()


async def test_the_leader_applies_what_a_follower_decodes(tmp_path: Path) -> None:
    f = leading(LmdbStore.open(tmp_path, partition=0))
    for number in range(20):
        f.processor.submit(invoke(number, at_ms=50_000 if number % 3 else 0))
        await f.commit()
    follower = Fixture(entries=f.log.entries)
    follower.log.replay()
    assert digest(follower.store) == digest(f.store)
    await f.processor.close()

"""What applying commands does, seen through actions and rows."""

from __future__ import annotations

import random

from holdfast_partition_processor import tables as t
from holdfast_partition_processor.action import (
    Action,
    ForwardNotifications,
    InvocationCompleted,
    Outcome,
    Reply,
    StartAttempt,
)
from holdfast_partition_processor.command import (
    AttemptFailed,
    Batch,
    Cancel,
    Command,
    Effects,
    Failure,
    HandlerType,
    Ingest,
    Invoke,
    Kill,
    Retry,
    StoredFrame,
    Target,
    TimerFired,
)
from holdfast_partition_processor.invocation import Status
from holdfast_partition_processor.memory_storage import MemoryStorage, digest
from holdfast_partition_processor.state_machine import StateMachine
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import MessageType as M

DAY = 86_400_000


class World:
    def __init__(self) -> None:
        self.storage = MemoryStorage()
        self.machine = StateMachine(self.storage, 0, 1)
        self.index = 0
        self.now = 1_000

    def do(self, *commands: Command) -> list[Action]:
        self.index += 1
        return self.machine.apply(self.index, Batch(1, self.now, commands))

    def status(self, number: int) -> Status:
        row = self.storage.get(t.INVOCATIONS, b"", t.sortable_id(name(number)))
        assert row is not None
        return row.status


def name(number: int) -> bytes:
    return number.to_bytes(24, "big")


def invoke(number: int, key: str | None = None, request: int = 0) -> Invoke:
    kind = HandlerType.SERVICE if key is None else HandlerType.EXCLUSIVE
    body = pb.InputCommandMessage(value=pb.Value(content=b"in")).SerializeToString()
    return Invoke(name(number), Target("s", "h", key, kind), body, request=request, journal_retention_ms=DAY)


def output(value: bytes = b"out") -> StoredFrame:
    return StoredFrame(M.OUTPUT, pb.OutputCommandMessage(value=pb.Value(content=value)).SerializeToString())


END = StoredFrame(M.END, b"")


def suspension(*completions: int) -> StoredFrame:
    body = pb.SuspensionMessage(waiting_completions=completions, waiting_signals=[1]).SerializeToString()
    return StoredFrame(M.SUSPENSION, body)


def sleep(until: int, completion_id: int) -> StoredFrame:
    body = pb.SleepCommandMessage(wake_up_time=until, result_completion_id=completion_id).SerializeToString()
    return StoredFrame(M.SLEEP, body)


def started(actions: list[Action]) -> list[bytes]:
    return [action.invocation.id for action in actions if isinstance(action, StartAttempt)]


def test_a_call_runs_and_is_answered() -> None:
    world = World()
    assert started(world.do(invoke(1))) == [name(1)]
    actions = world.do(Effects(name(1), 1, (output(), END), "dp_1"))
    assert InvocationCompleted(name(1), b"out", None) in actions
    assert world.status(1) is Status.COMPLETED


def test_effects_of_an_earlier_attempt_are_ignored() -> None:
    world = World()
    world.do(invoke(1))
    world.do(AttemptFailed(name(1), 1, Failure(500, "boom"), Retry(2_000)))
    before = digest(world.storage)
    assert not any(isinstance(a, InvocationCompleted) for a in world.do(Effects(name(1), 1, (output(), END))))
    assert digest(world.storage) == before
    due = next(sub for sub, _ in world.storage.scan(t.TIMERS, b""))
    assert started(world.do(TimerFired(2_000, due[8:]))) == [name(1)]


def test_one_exclusive_handler_per_key_in_the_order_of_calls() -> None:
    world = World()
    assert started(world.do(invoke(1, "k"), invoke(2, "k"), invoke(3, "k"), invoke(4, "other"))) == [name(1), name(4)]
    assert started(world.do(Effects(name(1), 1, (output(), END)))) == [name(2)]
    assert started(world.do(Effects(name(2), 1, (output(), END)))) == [name(3)]
    world.do(Effects(name(3), 1, (output(), END)))
    assert world.storage.get(t.LOCKS, b"", t.object_group("s", "k")) is None


def test_cancelling_what_waits_in_an_inbox_ends_it_at_once() -> None:
    world = World()
    world.do(invoke(1, "k"), invoke(2, "k"))
    actions = world.do(Cancel(name(2), 7))
    assert Reply(7, Outcome.DONE) in actions
    assert started(world.do(Effects(name(1), 1, (output(), END)))) == []


def test_a_sleep_wakes_a_suspended_invocation() -> None:
    world = World()
    world.do(invoke(1))
    world.do(Effects(name(1), 1, (sleep(5_000, 1), suspension(1))))
    assert world.status(1) is Status.SUSPENDED
    due = next(sub for sub, _ in world.storage.scan(t.TIMERS, b""))
    assert started(world.do(TimerFired(5_000, due[8:]))) == [name(1)]


def test_a_suspension_on_what_is_there_already_runs_again_at_once() -> None:
    world = World()
    world.do(invoke(1))
    world.do(Effects(name(1), 1, (sleep(5_000, 1),)))
    due = next(sub for sub, _ in world.storage.scan(t.TIMERS, b""))
    forwarded = world.do(TimerFired(5_000, due[8:]))
    assert any(isinstance(action, ForwardNotifications) for action in forwarded)
    assert started(world.do(Effects(name(1), 1, (suspension(1),)))) == [name(1)]


def test_a_message_from_another_partition_is_applied_once() -> None:
    world = World()
    ingest = Ingest(3, 1, invoke(1))
    assert started(world.do(ingest)) == [name(1)]
    before = digest(world.storage)
    assert world.do(ingest) == []
    assert digest(world.storage) == before


def test_kill_frees_the_object() -> None:
    world = World()
    world.do(invoke(1, "k"), invoke(2, "k"))
    assert started(world.do(Kill(name(1)))) == [name(2)]


def test_a_malformed_frame_fails_the_attempt_and_nothing_else() -> None:
    world = World()
    world.do(invoke(1), invoke(2))
    world.do(Effects(name(1), 1, (StoredFrame(M.SLEEP, b"\xff\xff"),)), Effects(name(2), 1, (output(), END)))
    assert world.status(1) is Status.BACKING_OFF
    assert world.status(2) is Status.COMPLETED


def test_the_same_log_gives_the_same_tables_whatever_it_holds() -> None:
    for seed in range(30):
        rng = random.Random(seed)
        one, two = World(), World()
        for _ in range(60):
            number = rng.randrange(6)
            attempt = rng.randrange(1, 4)
            choices: list[Command] = [
                invoke(number, rng.choice([None, "a", "b"])),
                Effects(name(number), attempt, (output(), END)),
                Effects(name(number), attempt, (sleep(rng.randrange(9_000), 1), suspension(1))),
                AttemptFailed(name(number), attempt, Failure(500, "x"), Retry(rng.randrange(9_000))),
                Cancel(name(number)),
                Kill(name(number)),
            ]
            command = rng.choice(choices)
            assert one.do(command) == two.do(command), seed
        assert digest(one.storage) == digest(two.storage), seed

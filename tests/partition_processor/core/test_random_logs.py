"""Random worlds: several partitions, clients, operators, endpoints that do anything, messages delivered late and twice.

Each run prints the seed that replays it. What must hold at every step is in `World.check`, what must hold when
everybody came to rest in `World.check_at_rest`.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import pytest

from holdfast_partition_processor import action as a
from holdfast_partition_processor import command as c
from holdfast_partition_processor import tables as t
from holdfast_partition_processor import timer_key
from holdfast_partition_processor.ids import invocation_id_of, partition_of_id
from holdfast_partition_processor.invocation import Invocation, Status
from holdfast_partition_processor.memory_storage import MemoryStorage, digest
from holdfast_partition_processor.state_machine import StateMachine
from holdfast_partition_processor.timer_key import TimerKind
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import HEADER_BYTES, MessageType
from holdfast_proto.identifiers import encode_awakeable_id, encode_invocation_id
from tests.partition_processor.core.frames import frame_of, target_of

PARTITIONS = 3
KEYS = ("k1", "k2")
PATHS = ["greeter/greet", *(f"counter/{k}/add" for k in KEYS), "counter/k1/value"]
WORKFLOWS = ["publish/w1/run", "publish/w2/run", "publish/w1/approve"]
HOLDING = (Status.INVOKED, Status.BACKING_OFF, Status.SUSPENDED, Status.PAUSED)
Frame = list[str]


class Partition:
    """A leader, and a follower that is handed the same log through its encoding."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.index = 0
        self.log: list[tuple[int, list[c.Command]]] = []
        self.storage = MemoryStorage()
        self.follower_storage = MemoryStorage()
        self._leader = StateMachine(self.storage, number, PARTITIONS)
        self._follower = StateMachine(self.follower_storage, number, PARTITIONS)

    def apply(self, now_ms: int, commands: list[c.Command]) -> list[a.Action]:
        self.index += 1
        self.log.append((now_ms, commands))
        payload = c.encode_batch(now_ms, commands)
        actions = self._leader.apply(self.index, c.decode_batch(payload))
        assert self._follower.apply(self.index, c.decode_batch(payload)) == actions
        return actions


class World:
    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.now_ms = 1_000
        self.partitions = [Partition(number) for number in range(PARTITIONS)]
        self.attempts: dict[bytes, int] = {}
        self.old_effects: list[c.Effects] = []
        self.known: list[bytes] = []
        self.courier: list[tuple[int, c.Ingest]] = []
        self.shipped_to: dict[tuple[int, int], int] = {}
        self.number = 0

    # ------------------------------------------------------------ one step

    def step(self) -> None:
        doing: list[Callable[[], tuple[int, c.Command] | None]] = [
            self.invoke, self.invoke, self.act, self.act, self.act, self.act, self.act, self.fail, self.old,
            self.deliver, self.deliver, self.confirm, self.fire, self.fire, self.operate, self.signal,
        ]  # fmt: skip
        self.now_ms += self.rng.randrange(200)
        chosen = [self.rng.choice(doing)() for _ in range(self.rng.randrange(1, 4))]
        for number in range(PARTITIONS):
            commands = [
                command for found in chosen if found is not None and found[0] == number for command in found[1:]
            ]
            if commands:
                self.apply(number, commands)

    def apply(self, number: int, commands: list[c.Command]) -> None:
        actions = self.partitions[number].apply(self.now_ms, commands)
        for action in actions:
            match action:
                case a.StartAttempt(invocation=row):
                    assert self.attempts.get(row.id) != row.attempt or row.attempt == 1
                    self.attempts[row.id] = row.attempt
                    if row.id not in self.known:
                        self.known.append(row.id)
                case a.AbortAttempt(id=who):
                    self.attempts.pop(who, None)
                case a.InvocationCompleted(id=who):
                    self.attempts.pop(who, None)
                case a.Ship(target=target, sequence=sequence, message=message):
                    self.courier.append((target, c.Ingest(number, sequence, message)))
                case _:
                    pass
        self.check(number)

    def check(self, number: int) -> None:
        storage = self.partitions[number].storage
        held: Counter[tuple[str, str | None]] = Counter()
        running = {sub for sub, _ in storage.scan(t.RUNNING, b"")}
        for _, row in storage.scan(t.INVOCATIONS, b""):
            if row.target.type is c.HandlerType.EXCLUSIVE and row.status in HOLDING:
                held[row.target.service, row.target.key] += 1
                lock = storage.get(t.LOCKS, b"", t.object_group(row.target.service, row.target.key or ""))
                assert lock is not None
                assert lock.holder == row.id
            assert (row.status is Status.INVOKED) == (row.id in running)
            if not row.journal_purged:
                self.check_journal(storage, row)
        assert all(count == 1 for count in held.values()), held
        locks = dict(storage.scan(t.LOCKS, b""))
        assert sum(held.values()) == len(locks)
        for group, lock in locks.items():
            assert len(list(storage.scan(t.INBOX, group))) == lock.waiting

    def check_journal(self, storage: MemoryStorage, row: Invocation) -> None:
        journal = [frame.raw for _, frame in storage.scan(t.JOURNAL, row.id)]
        assert len(journal) == row.journal_length
        completed = [raw[HEADER_BYTES:] for raw in journal if MessageType.SIGNAL > raw[0] << 8 | raw[1] > 0x8000]
        numbers = [pb.Notification.FromString(body).completion_id for body in completed]
        assert len(numbers) == len(set(numbers)), "a command is completed once"
        timers = [sub[8:] for sub, _ in storage.scan(t.TIMERS, b"")]
        mine = [timer for timer in timers if timer_key.decode(timer)[:2] == (TimerKind.SLEEP, row.id)]
        assert len(mine) == row.sleeps

    # ------------------------------------------------------------ what may happen

    def invoke(self) -> tuple[int, c.Command]:
        rng = self.rng
        target = target_of(rng.choice(PATHS + WORKFLOWS))
        key = f"i{rng.randrange(3)}" if rng.random() < 0.3 and target.service != "publish" else None
        found = invocation_id_of(target, key, rng.randbytes(24))
        self.known.append(found)
        command = c.Invoke(
            found,
            target,
            b"",
            idempotency_key=key,
            execute_at_ms=self.now_ms + rng.randrange(500) if rng.random() < 0.2 else 0,
            completion_retention_ms=rng.choice([0, 300, 900]),
            journal_retention_ms=rng.choice([0, 300, 900]),
            request=rng.randrange(3),
        )
        return partition_of_id(found, PARTITIONS), command

    def act(self) -> tuple[int, c.Command] | None:
        if not self.attempts:
            return None
        who = self.rng.choice(sorted(self.attempts))
        row = self.row(who)
        assert row is not None
        words = [self.frame(row.target.type) for _ in range(self.rng.randrange(4))]
        if self.rng.random() < 0.5:
            words += [["output", "x"], ["end"]] if self.rng.random() < 0.6 else [self.suspension()]
        if not words:
            return None
        frames = tuple(frame_of(frame, self.passed) for frame in words)
        command = c.Effects(who, self.attempts[who], frames, "dp_1" if self.rng.random() < 0.5 else "")
        self.old_effects.append(command)
        if words[-1][0] in ("end", "suspend"):
            self.attempts.pop(who)  # the endpoint has closed the stream; a new attempt is a new start
        return partition_of_id(who, PARTITIONS), command

    def frame(self, kind: c.HandlerType) -> Frame:
        rng = self.rng
        self.number += 2
        n, m = str(self.number), str(self.number + 1)
        anywhere: list[Frame] = [
            ["run", n], ["propose", str(rng.randrange(1, self.number)), "v"],
            ["sleep", str(self.now_ms + rng.randrange(-100, 400)), n], ["call", f"{n}/{m}", rng.choice(PATHS), "x"],
            ["call", f"{n}/{m}", rng.choice(WORKFLOWS), "x"],
            ["send", n, rng.choice(PATHS), "x", f"at={self.now_ms + rng.randrange(-100, 400)}"],
            ["call", f"{n}/{m}", "greeter/greet", "x", f"key=i{rng.randrange(3)}", "completion=400"],
            ["signal", self.someone(), rng.choice(["1", "17", "news"])], ["complete", f"{self.someone()}/17", "v"],
            ["attach", self.someone(), n], ["get-output", self.someone(), n], ["attach", "publish/w1", n],
        ]  # fmt: skip
        keyed: list[Frame] = [["get", "a", n], ["keys", n], ["eager", "a", "1"]]
        writes: list[Frame] = [["set", rng.choice("ab"), n], ["clear", "a"], ["clear-all"]]
        promises: list[Frame] = [
            ["promise", "p", n],
            ["peek", "p", n],
            ["resolve", "p", "v", n],
            ["reject", "p", "no", n],
        ]
        odd: list[Frame] = [
            ["raw", "0401", "ff"],
            ["raw", "0499"],
            ["suspend"],
            ["call", f"{n}/{m}", PATHS[0], "x", "unresolved"],
        ]
        choices = anywhere * 4
        if kind is not c.HandlerType.SERVICE:
            choices += keyed * 4
        if kind in (c.HandlerType.EXCLUSIVE, c.HandlerType.WORKFLOW_RUN):
            choices += writes * 4
        if kind in (c.HandlerType.WORKFLOW_RUN, c.HandlerType.WORKFLOW_SHARED):
            choices += promises * 6
        return rng.choice(choices + odd + ([writes[0]] if rng.random() < 0.1 else []))

    def suspension(self) -> Frame:
        completions = [str(self.rng.randrange(1, self.number + 2)) for _ in range(3)]
        return ["suspend", *completions, *self.rng.choice([["s1"], ["s1", "s17"], ["nnews"]])]

    def fail(self) -> tuple[int, c.Command] | None:
        if not self.attempts:
            return None
        who = self.rng.choice(sorted(self.attempts))
        decisions: list[c.Retry | c.Pause | c.GiveUp] = [c.Retry(self.now_ms + 100), c.Retry(0), c.Pause(), c.GiveUp()]
        then = self.rng.choice(decisions)
        failed = c.AttemptFailed(who, self.attempts.pop(who), c.Failure(500, "broken"), then, "dp_1")
        return partition_of_id(who, PARTITIONS), failed

    def old(self) -> tuple[int, c.Command] | None:
        """What an earlier attempt sent arrives once more, and changes nothing."""
        if not self.old_effects:
            return None
        command = self.rng.choice(self.old_effects[-50:])
        if self.attempts.get(command.id) == command.attempt:
            return None  # that attempt is still under way: it sends nothing twice
        row = self.row(command.id)
        if row is not None and row.status is Status.INVOKED and row.attempt == command.attempt:
            return None
        partition = self.partitions[partition_of_id(command.id, PARTITIONS)]
        before = digest(partition.storage)
        actions = partition.apply(self.now_ms, [command])
        assert [type(action) for action in actions] == [a.EffectsStored]
        assert digest(partition.storage) == before
        return None

    def deliver(self) -> tuple[int, c.Command] | None:
        """The oldest message per source and target, perhaps not for the last time."""
        if not self.courier:
            return None
        target, ingest = self.rng.choice(self.courier)
        first = next(i for i in self.courier if (i[0], i[1].source) == (target, ingest.source))
        if self.rng.random() < 0.7:
            self.courier.remove(first)
            self.shipped_to[first[1].source, first[0]] = first[1].sequence
        return first

    def confirm(self) -> tuple[int, c.Command] | None:
        if not self.shipped_to:
            return None
        source, target = self.rng.choice(sorted(self.shipped_to))
        return source, c.OutboxShipped(target, self.shipped_to[source, target])

    def fire(self) -> tuple[int, c.Command] | None:
        number = self.rng.randrange(PARTITIONS)
        for sub, _ in self.partitions[number].storage.scan(t.TIMERS, b"", limit=1):
            due_ms = int.from_bytes(sub[:8], "big")
            if due_ms <= self.now_ms:
                return number, c.TimerFired(due_ms, sub[8:])
        return None

    def operate(self) -> tuple[int, c.Command] | None:
        if not self.known or self.rng.random() < 0.5:
            return None
        who = self.rng.choice(self.known)
        kind = self.rng.choice([c.Cancel, c.Kill, c.Purge])
        return partition_of_id(who, PARTITIONS), kind(who, self.rng.randrange(2))

    def signal(self) -> tuple[int, c.Command] | None:
        if not self.known:
            return None
        who = self.rng.choice(self.known)
        body = self.rng.choice([b"\x10\x11\x22\x00", b"\x1a\x04news\x22\x00", b"\x10\x01\x22\x00", b"\xff", b""])
        return partition_of_id(who, PARTITIONS), c.NotifySignal(who, body, 1)

    def someone(self) -> str:
        return self.rng.choice(self.known).hex() if self.known else "nobody"

    def passed(self, name: str) -> str:
        who, _, signal = name.partition("/")
        if who == "nobody":
            return name
        raw = bytes.fromhex(who)
        return encode_awakeable_id(raw, int(signal)) if signal else encode_invocation_id(raw)

    def row(self, who: bytes) -> Invocation | None:
        return self.partitions[partition_of_id(who, PARTITIONS)].storage.get(t.INVOCATIONS, b"", t.sortable_id(who))

    # ------------------------------------------------------------ coming to rest

    def rest(self) -> None:
        """Everything is delivered, every attempt ends, every timer fires, what is stuck is killed."""
        for (source, target), sequence in self.shipped_to.items():
            self.apply(source, [c.OutboxShipped(target, sequence)])
        for _ in range(2_000):
            if not (self.settle_one() or self.fire_one() or self.kill_one()):
                return
        raise AssertionError("the world does not come to rest")

    def settle_one(self) -> bool:
        if self.courier:
            target, ingest = self.courier.pop(0)
            self.apply(target, [ingest])
            self.apply(ingest.source, [c.OutboxShipped(target, ingest.sequence)])
            return True
        for number, partition in enumerate(self.partitions):
            for who, _ in partition.storage.scan(t.RUNNING, b"", limit=1):
                row = self.row(who)
                assert row is not None
                frames = (frame_of(["output", "x"], self.passed), frame_of(["end"], self.passed))
                self.apply(number, [c.Effects(who, row.attempt, frames)])
                return True
        return False

    def fire_one(self) -> bool:
        for number, partition in enumerate(self.partitions):
            for sub, _ in partition.storage.scan(t.TIMERS, b"", limit=1):
                due_ms = int.from_bytes(sub[:8], "big")
                self.now_ms = max(self.now_ms, due_ms)
                self.apply(number, [c.TimerFired(due_ms, sub[8:])])
                return True
        return False

    def kill_one(self) -> bool:
        for number, partition in enumerate(self.partitions):
            for _, row in partition.storage.scan(t.INVOCATIONS, b"", limit=1):
                self.apply(number, [c.Kill(row.id)])
                return True
        return False

    def check_at_rest(self) -> None:
        """Nothing is left behind but what is meant to stay."""
        stays = {t.STATE.name, t.PROMISES.name, t.DEDUP.name, t.META.name}
        for partition in self.partitions:
            for table in t.ALL_TABLES:
                if table.name not in stays:
                    assert not list(partition.storage.scan_groups(table, b"")), table.name
            assert digest(partition.storage) == digest(partition.follower_storage)


@pytest.mark.parametrize("seed", range(60))
def test_random_worlds_keep_their_promises(seed: int) -> None:
    print(f"seed {seed}")
    world = World(seed)
    for _ in range(150):
        world.step()
    world.rest()
    world.check_at_rest()


@pytest.mark.parametrize("seed", range(100, 120))
def test_messages_that_come_again_change_nothing(seed: int) -> None:
    """Whatever another partition sent before is delivered again, in any order, at any later time."""
    print(f"seed {seed}")
    world, rng = World(seed), random.Random(seed)
    for _ in range(120):
        world.step()
    world.rest()
    for partition in world.partitions:
        storage = MemoryStorage()
        machine = StateMachine(storage, partition.number, PARTITIONS)
        delivered: list[c.Command] = []
        for index, (now_ms, commands) in enumerate(partition.log, 1):
            again = rng.sample(delivered, min(len(delivered), 3))
            batch = c.Batch(c.FORMAT_VERSION, now_ms, (*again, *commands, *again))
            machine.apply(index, c.decode_batch(c.encode_batch(batch.now_ms, list(batch.commands))))
            delivered += [command for command in commands if isinstance(command, c.Ingest)]
        assert digest(storage) == digest(partition.storage)

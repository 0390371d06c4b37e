"""Runs a transcript: lines of commands in, actions and changed rows out.

::

    # comment
    now 1000                             the leader's clock, also `now +500`
    invoke a greeter/greet "Ada"         one line is one entry of the log
    and effects a#1 output "Hi" | end    ... with `and` one more command in the same entry
        completed a: 'Hi'                what came of it, indented
        + journal a 1: ...

Invocations have names; those that a call makes are named after their caller, ``a.1``. ``b@1`` is in partition 1.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Callable, Iterable

from holdfast_partition_processor import command as c
from holdfast_partition_processor import tables as t
from holdfast_partition_processor import timer_key
from holdfast_partition_processor.ids import invocation_id_of
from holdfast_partition_processor.memory_storage import MemoryStorage
from holdfast_partition_processor.state_machine import StateMachine
from holdfast_partition_processor.timer_key import TimerKind
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import MessageType
from holdfast_proto.identifiers import encode_awakeable_id, encode_invocation_id
from tests.partition_processor.core.frames import frame_of, options_of, target_of
from tests.partition_processor.core.show import Rows, Shower, read_all

INDENT = "    "


def rewrite(script: str) -> str:
    """The script with what comes of it now."""
    world = World()
    lines: list[str] = []
    entry: list[str] = []
    for line in [*(line for line in script.splitlines() if not line.startswith(INDENT)), ""]:
        if entry and not line.startswith("and "):
            lines += [INDENT + text for text in world.run(entry)]
            entry = []
        lines.append(line)
        if line and not line.startswith("#"):
            entry.append(line.removeprefix("and "))
    return "\n".join(lines[:-1]) + "\n"


class World:
    def __init__(self) -> None:
        self._now_ms = 1_000
        self._index = 0
        self._ids: dict[str, bytes] = {}
        self._names: dict[bytes, str] = {}
        self._shower = Shower(lambda raw: self._names.get(raw, raw.hex()))
        self._place(0, 1)

    def _place(self, partition: int, partitions: int) -> None:
        self._partitions = partitions
        self._storage = MemoryStorage()
        self._machine = StateMachine(self._storage, partition, partitions)

    def run(self, lines: list[str]) -> Iterable[str]:
        words = shlex.split(lines[0])
        if words[0] == "now":
            self._now_ms = self._now_ms + int(words[1]) if words[1].startswith("+") else int(words[1])
            return []
        if words[0] == "partition":
            self._place(int(words[1]), int(words[3]))
            return []
        commands = [command for line in lines for command in self._commands(shlex.split(line))]
        return self._apply(commands)

    def _apply(self, commands: list[c.Command]) -> Iterable[str]:
        before = read_all(self._storage)
        self._index += 1
        batch = c.decode_batch(c.encode_batch(self._now_ms, commands))
        actions = self._machine.apply(self._index, batch)
        after = read_all(self._storage)
        self._name_children(after)
        shown = [self._shower.action(action) for action in actions] + list(self._shower.changes(before, after))
        return shown or ["(nothing)"]

    def _name_children(self, rows: Rows) -> None:
        for (table, group, sub), row in rows.items():
            if table == t.CHILDREN.name and row not in self._names:
                self._name(f"{self._names[group]}.{int.from_bytes(sub, 'big')}", row)

    def _name(self, name: str, invocation_id: bytes) -> None:
        self._ids[name] = invocation_id
        self._names.setdefault(invocation_id, name)

    def _passed_id(self, name: str) -> str:
        """As handlers pass it: ``a`` an invocation id, ``a/17`` an awakeable id; anything else is left as it is."""
        who, _, signal = name.partition("/")
        if who not in self._ids:
            return name
        return encode_awakeable_id(self._ids[who], int(signal)) if signal else encode_invocation_id(self._ids[who])

    def _commands(self, words: list[str]) -> list[c.Command]:
        verb, *rest = words
        if verb == "fire":
            return [c.TimerFired(due, timer) for due, timer in self._due_timers()]
        return [_VERBS[verb](self, rest)]

    def _due_timers(self) -> list[tuple[int, bytes]]:
        keys = [sub for sub, _ in self._storage.scan(t.TIMERS, b"")]
        timers = [(int.from_bytes(key[:8], "big"), key[8:]) for key in keys]
        return [(due, timer) for due, timer in timers if due <= self._now_ms]

    def invoke(self, words: list[str]) -> c.Invoke:
        (name, path, body), options = options_of(words)
        target = target_of(path)
        partition = int(name.partition("@")[2] or 0)
        routed = (partition << 64) // self._partitions + 1
        fresh = routed.to_bytes(8, "big") + hashlib.sha256(name.encode()).digest()[:16]
        found = invocation_id_of(target, options.get("key"), fresh)
        self._name(name, found)
        return c.Invoke(
            found,
            target,
            pb.InputCommandMessage(value=pb.Value(content=body.encode())).SerializeToString(),
            by_id=options.get("token", "").encode(),
            sink=self._sink(options["sink"], MessageType.CALL_COMPLETION) if "sink" in options else None,
            idempotency_key=options.get("key"),
            execute_at_ms=int(options.get("at", 0)),
            completion_retention_ms=int(options.get("completion", 0)),
            journal_retention_ms=int(options.get("journal", 0)),
            request=int(options.get("request", 0)),
        )

    def _sink(self, text: str, code: MessageType) -> c.ResponseSink:
        who, number = text.split(":")
        return c.ResponseSink(self._ids[who], int(number), code)

    def effects(self, words: list[str]) -> c.Effects:
        who, *rest = words
        name, attempt = who.split("#")
        deployment = rest.pop(0).removeprefix("dp=") if rest[0].startswith("dp=") else ""
        frames: list[list[str]] = [[]]
        for word in rest:
            if word == "|":
                frames.append([])
            else:
                frames[-1].append(word)
        stored = tuple(frame_of(frame, self._passed_id) for frame in frames)
        return c.Effects(self._ids[name], int(attempt), stored, deployment)

    def failed(self, words: list[str]) -> c.AttemptFailed:
        (who, code, message, *then), options = options_of(words)
        name, attempt = who.split("#")
        decided: c.Retry | c.Pause | c.GiveUp = c.Pause() if then == ["pause"] else c.GiveUp()
        if "retry" in options:
            decided = c.Retry(int(options["retry"]))
        failure = c.Failure(int(code), message)
        return c.AttemptFailed(self._ids[name], int(attempt), failure, decided, options.get("dp", ""))

    def timer(self, words: list[str]) -> c.TimerFired:
        due, kind, name, *extra = words
        timer = timer_key.encode(TimerKind[kind], self._ids[name], int(extra[0]) if extra else 0)
        return c.TimerFired(int(due), timer)

    def signal(self, words: list[str]) -> c.NotifySignal:
        (name, which, value), options = options_of(words)
        notification = pb.Notification(value=pb.Value(content=value.encode()))
        if which.isdigit():
            notification.signal_id = int(which)
        else:
            notification.signal_name = which
        return c.NotifySignal(self._ids[name], notification.SerializeToString(), int(options.get("request", 0)))

    def edit(self, words: list[str]) -> c.EditState:
        (service, key, *rest), options = options_of(words)
        request = int(options.pop("request", 0))
        setting = tuple((name.encode(), value.encode()) for name, value in options.items())
        clearing = tuple(name.encode() for name in rest if name != "replace")
        return c.EditState(service, key, setting, clearing, "replace" in rest, request)

    def ingest(self, words: list[str]) -> c.Ingest:
        source, sequence, verb, *rest = words
        message = _VERBS[verb](self, rest)
        assert isinstance(message, c.Invoke | c.NotifySignal | c.Cancel | c.Kill | c.InvocationResponse | c.Attach)
        return c.Ingest(int(source), int(sequence), message)

    def response(self, words: list[str]) -> c.InvocationResponse:
        who, value = words
        sink = self._sink(who, MessageType.CALL_COMPLETION)
        body = pb.Notification(completion_id=sink.completion_id, value=pb.Value(content=value.encode()))
        return c.InvocationResponse(sink, body.SerializeToString())

    def attach(self, words: list[str]) -> c.Attach:
        (name, *rest), options = options_of(words)
        sink = self._sink(options["sink"], MessageType.ATTACH_INVOCATION_COMPLETION)
        return c.Attach(self._ids[name], sink, "wait" in rest)

    def register(self, words: list[str]) -> c.RegisterDeployment:
        (deployment, address, *names), options = options_of(words)
        services = tuple(c.Service(name, c.ServiceType.SERVICE, ()) for name in names)
        row = c.Deployment(deployment, address, self._now_ms, "sdk", 6, 6, services)
        return c.RegisterDeployment(row, int(options.get("request", 0)))

    def identified(self, words: list[str]) -> tuple[bytes, int]:
        """The invocation and the request number of an operator's command."""
        (name,), options = options_of(words)
        return self._ids[name], int(options.get("request", 0))


def _remove(world: World, words: list[str]) -> c.RemoveDeployment:
    (name,), options = options_of(words)
    return c.RemoveDeployment(name, int(options.get("request", 0)))


_VERBS: dict[str, Callable[[World, list[str]], c.Command]] = {
    "invoke": World.invoke,
    "effects": World.effects,
    "failed": World.failed,
    "timer": World.timer,
    "signal": World.signal,
    "cancel": lambda world, words: c.Cancel(*world.identified(words)),
    "kill": lambda world, words: c.Kill(*world.identified(words)),
    "purge": lambda world, words: c.Purge(*world.identified(words)),
    "edit": World.edit,
    "ingest": World.ingest,
    "response": World.response,
    "attach": World.attach,
    "register": World.register,
    "remove": _remove,
    "shipped": lambda world, words: c.OutboxShipped(int(words[0]), int(words[1])),
}

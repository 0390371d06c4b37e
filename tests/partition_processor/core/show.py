"""Actions and changed rows as lines that people can review."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any

import msgspec

from holdfast_partition_processor import action as a
from holdfast_partition_processor import tables as t
from holdfast_partition_processor import timer_key
from holdfast_partition_processor.command import Failure, InvocationResponse, ResponseSink, Target
from holdfast_partition_processor.invocation import Invocation, LastFailure, Waiting
from holdfast_partition_processor.tables import Storage
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import HEADER_BYTES, decode_frames, encode_frame
from holdfast_proto.identifiers import decode_invocation_id
from tests.partition_processor.core.frames import show_frame

Name = Callable[[bytes], str]
"""From an invocation id to its name in the script."""

Rows = dict[tuple[str, bytes, bytes], Any]
_DULL = {"id", "target", "created_ms", "modified_ms", "by", "incarnation", "last_progress_ms", "execute_at_ms"}
"""Fields of an invocation that say little: they follow from what the script says."""


def read_all(storage: Storage) -> Rows:
    return {
        (table.name, group, sub): row
        for table in t.ALL_TABLES
        for group in storage.scan_groups(table, b"")
        for sub, row in storage.scan(table, group)
    }


class Shower:
    def __init__(self, name: Name) -> None:
        self._name = name

    def changes(self, before: Rows, after: Rows) -> Iterable[str]:
        order = [table.name for table in t.ALL_TABLES]
        touched = [key for key in before.keys() | after.keys() if before.get(key) != after.get(key)]
        for key in sorted(touched, key=lambda key: (order.index(key[0]), key[1:])):
            where = f"{key[0]} {self._key(*key)}".rstrip()
            if key not in after:
                yield f"- {where}"
            elif key not in before:
                yield f"+ {where}: {self._row(after[key])}".removesuffix(": ")
            else:
                yield f"~ {where}: {self._row(after[key], before[key])}"

    def action(self, action: a.Action) -> str:
        match action:
            case a.StartAttempt(invocation=row, journal=journal):
                at_hand = ", journal at hand" if journal is not None else ""
                pinned = f" at {row.deployment}" if row.deployment else ""
                return f"start {self._name(row.id)}#{row.attempt}{pinned}, {row.journal_length} entries{at_hand}"
            case a.AbortAttempt(id=who):
                return f"abort {self._name(who)}"
            case a.ForwardNotifications(id=who, attempt=attempt, frames=frames, first_index=first):
                shown = [frames[s - HEADER_BYTES : e] for _, _, s, e in decode_frames(frames)]
                texts = "; ".join(self._text(show_frame(raw)) for raw in shown)
                return f"forward {self._name(who)}#{attempt} from {first}: {texts}"
            case a.EffectsStored(id=who, attempt=attempt, size=size):
                return f"stored {self._name(who)}#{attempt}: {size} bytes"
            case a.InvocationCompleted(id=who, value=value, failure=failure):
                return f"completed {self._name(who)}: {self._value(value if failure is None else failure)}"
            case a.Reply(request=request, outcome=outcome, detail=detail):
                return f"reply {request}: {outcome.value}{f' ({detail})' if detail else ''}"
            case a.SetTimer(due_ms=due, timer=timer):
                return f"timer {self._timer(timer)} at {due}"
            case a.Ship(target=target, sequence=sequence, message=message):
                return f"ship {sequence} to partition {target}: {self._value(message)}"
            case a.DeploymentsChanged():
                return "deployments changed"

    def _timer(self, timer: bytes) -> str:
        kind, who, extra = timer_key.decode(timer)
        return f"{kind.name} {self._name(who)}{f' {extra}' if extra else ''}"

    def _key(self, table: str, group: bytes, sub: bytes) -> str:
        match table:
            case "invocations" | "output":
                return self._name(t.from_sortable_id(sub))
            case "journal" | "children":
                return f"{self._name(group)} {int.from_bytes(sub, 'big')}"
            case "completed_commands":
                return f"{self._name(group)} {int.from_bytes(sub, 'big') if len(sub) == 4 else _signal(sub)}"
            case "running":
                return self._name(sub)
            case "locks":
                return _object(sub)
            case "inbox":
                return f"{_object(group)} {int.from_bytes(sub, 'big')}"
            case "state" | "promises":
                return f"{_object(group)} {sub.decode()}"
            case "timers":
                return f"{self._timer(sub[8:])} at {int.from_bytes(sub[:8], 'big')}"
            case "outbox":
                return f"{int.from_bytes(group, 'big')} {int.from_bytes(sub, 'big')}"
            case "dedup":
                return str(int.from_bytes(sub, "big"))
            case _:
                return sub.decode()

    def _row(self, row: Any, before: Any = None) -> str:
        if isinstance(row, Invocation):
            shown = [
                f"{field}={self._value(getattr(row, field))}"
                for field in row.__struct_fields__
                if field not in _DULL and (getattr(row, field) if before is None else _differ(row, before, field))
            ]
            path = f"{self._value(row.target)} " if before is None else ""
            return path + " ".join(shown)
        return self._value(row)

    def _value(self, value: Any) -> str:
        match value:
            case None:
                return "void"
            case t.Frame(raw=raw):
                return self._text(show_frame(raw))
            case Target(service=service, handler=handler, key=key):
                return f"{service}/{handler}" if key is None else f"{service}/{key}/{handler}"
            case Failure(code=code, message=message):
                return f"failure {code} {message!r}"
            case LastFailure(failure=failure, at_ms=at):
                return f"({self._value(failure)} at {at})"
            case ResponseSink(caller=caller, completion_id=number):
                return f"{self._name(caller)}:{number}"
            case Waiting(completions=completions, signals=signals, named_signals=named):
                words = [str(n) for n in completions] + [f"s{n}" for n in signals] + [f"n{n}" for n in named]
                return f"({' '.join(words)})"
            case InvocationResponse(sink=sink, notification=body):
                return (
                    f"response to {self._value(sink)}: {self._text(show_frame(encode_frame(sink.notification, body)))}"
                )
            case msgspec.Struct():
                fields = zip(value.__struct_fields__, _defaults(type(value)), strict=True)
                shown = [(name, getattr(value, name)) for name, default in fields if getattr(value, name) != default]
                return f"{type(value).__name__}({', '.join(f'{name}={self._field(name, v)}' for name, v in shown)})"
            case Enum():
                return value.name
            case tuple():
                return f"[{', '.join(self._value(item) for item in value)}]"
            case bytes() if len(value) == 24:
                return self._name(value)
            case bytes():
                return _text_of(value)
            case _:
                return str(value)

    def _field(self, name: str, value: Any) -> str:
        if name == "input":
            return self._text(show_frame(encode_frame(0x0400, value)))
        if name == "notification" and isinstance(value, bytes):
            return "{" + str(pb.Notification.FromString(value)).replace("\n", " ").strip() + "}"
        return self._value(value)

    def _text(self, text: str) -> str:
        return re.sub(r"inv_1\w{33}", lambda found: self._name(decode_invocation_id(found.group())), text)


def _defaults(struct: type[msgspec.Struct]) -> tuple[Any, ...]:
    defaults = struct.__struct_defaults__
    return (msgspec.NODEFAULT,) * (len(struct.__struct_fields__) - len(defaults)) + defaults


def _differ(row: Invocation, before: Invocation, field: str) -> bool:
    return bool(getattr(row, field) != getattr(before, field))


def _object(group: bytes) -> str:
    size = int.from_bytes(group[:4], "big")
    return f"{group[4 : 4 + size].decode()}/{group[4 + size :].decode()}"


def _signal(sub: bytes) -> str:
    return sub.decode() if sub.startswith(b"named ") else f"s{int.from_bytes(sub[1:], 'big')}"


def _text_of(value: bytes) -> str:
    return repr(value.decode(errors="backslashreplace"))

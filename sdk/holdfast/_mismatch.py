"""Whether a command is the recorded one; and if not, words that help to find out why."""

from __future__ import annotations

from google.protobuf.message import DecodeError, Message

from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import MessageType as M

MESSAGES: dict[int, type[Message]] = {
    M.INPUT: pb.InputCommandMessage,
    M.OUTPUT: pb.OutputCommandMessage,
    M.GET_LAZY_STATE: pb.GetLazyStateCommandMessage,
    M.SET_STATE: pb.SetStateCommandMessage,
    M.CLEAR_STATE: pb.ClearStateCommandMessage,
    M.CLEAR_ALL_STATE: pb.ClearAllStateCommandMessage,
    M.GET_LAZY_STATE_KEYS: pb.GetLazyStateKeysCommandMessage,
    M.GET_EAGER_STATE: pb.GetEagerStateCommandMessage,
    M.GET_EAGER_STATE_KEYS: pb.GetEagerStateKeysCommandMessage,
    M.GET_PROMISE: pb.GetPromiseCommandMessage,
    M.PEEK_PROMISE: pb.PeekPromiseCommandMessage,
    M.COMPLETE_PROMISE: pb.CompletePromiseCommandMessage,
    M.SLEEP: pb.SleepCommandMessage,
    M.CALL: pb.CallCommandMessage,
    M.ONE_WAY_CALL: pb.OneWayCallCommandMessage,
    M.SEND_SIGNAL: pb.SendSignalCommandMessage,
    M.RUN: pb.RunCommandMessage,
    M.ATTACH_INVOCATION: pb.AttachInvocationCommandMessage,
    M.GET_INVOCATION_OUTPUT: pb.GetInvocationOutputCommandMessage,
    M.COMPLETE_AWAKEABLE: pb.CompleteAwakeableCommandMessage,
}
_NAMES = {
    M.OUTPUT: "the result",
    M.GET_LAZY_STATE: "read state",
    M.SET_STATE: "set state",
    M.CLEAR_STATE: "clear state",
    M.CLEAR_ALL_STATE: "clear all state",
    M.GET_LAZY_STATE_KEYS: "list state",
    M.GET_EAGER_STATE: "read state",
    M.GET_EAGER_STATE_KEYS: "list state",
    M.GET_PROMISE: "await promise",
    M.PEEK_PROMISE: "peek promise",
    M.COMPLETE_PROMISE: "complete promise",
    M.SLEEP: "sleep",
    M.CALL: "call",
    M.ONE_WAY_CALL: "send",
    M.SEND_SIGNAL: "signal",
    M.RUN: "run",
    M.ATTACH_INVOCATION: "attach",
    M.GET_INVOCATION_OUTPUT: "get output",
    M.COMPLETE_AWAKEABLE: "complete awakeable",
}
_FREE = {M.SLEEP: ("wake_up_time",), M.ONE_WAY_CALL: ("invoke_time",)}
"""Fields that hold a time, which is another one now."""
_SHOWN_CHARACTERS_MAX = 200


def same(recorded_code: int, recorded: bytes, code: int, message: Message) -> bool:
    """Whether ``message`` is what was recorded, up to the fields that may differ."""
    if recorded_code != code:
        return False
    try:
        before = MESSAGES[code].FromString(recorded)
    except DecodeError:
        return False
    free = _FREE.get(M(code), ())
    if code == M.ONE_WAY_CALL and not _both_delayed(before, message):
        return False
    now = MESSAGES[code]()
    now.CopyFrom(message)
    for field in free:
        before.ClearField(field)
        now.ClearField(field)
    return before == now


def _both_delayed(before: Message, now: Message) -> bool:
    assert isinstance(before, pb.OneWayCallCommandMessage)
    assert isinstance(now, pb.OneWayCallCommandMessage)
    return bool(before.invoke_time) == bool(now.invoke_time)


def describe(code: int, body: bytes) -> str:
    """A command as people would write it, such as ``run "charge"`` or ``call payments/refund``."""
    name = _NAMES.get(M(code), M(code).name.lower()) if code in M.__members__.values() else f"type 0x{code:04x}"
    if not body or code not in MESSAGES:
        return name
    try:
        message = MESSAGES[code].FromString(body)
    except DecodeError:
        return f"{name} (which does not decode)"
    match message:
        case pb.CallCommandMessage() | pb.OneWayCallCommandMessage():
            key = f"/{message.key}" if message.key else ""
            return f"{name} {message.service_name}{key}/{message.handler_name}"
        case pb.SendSignalCommandMessage():
            return f"{name} {message.target_invocation_id}"
        case _:
            subject = getattr(message, "key", "") or getattr(message, "name", "")
            text = subject.decode(errors="replace") if isinstance(subject, bytes) else subject
            return f'{name} "{text}"' if text else name


def explain_mismatch(
    invocation_id: str, position: int, recorded_code: int, recorded: bytes, code: int, body: bytes, where: str
) -> str:
    """What differs, where, and what to do about it. ``position`` counts commands after the input, from 0."""
    lines = [
        f"The code does something else now than what the journal of {invocation_id} has recorded, at command "
        f"{position + 1}.",
        f"  recorded: {describe(recorded_code, recorded)}",
        f"  now:      {describe(code, body)}  ({where})",
        *(f"  {line}" for line in _differences(recorded_code, recorded, code, body)),
        *_ADVICE,
    ]
    return "\n".join(lines)


def explain_missing(invocation_id: str, what: str) -> str:
    """The journal holds ``what``, which the code did not ask for."""
    lines = [f"The journal of {invocation_id} has recorded {what} that the code does not issue any more.", *_ADVICE]
    return "\n".join(lines)


_ADVICE = (
    "Nothing was changed. Either the code was changed under an invocation that had begun (serve the new code as a new",
    "deployment, so that this one stays with the old), or the handler does not do the same each time: look for the",
    "clock, random numbers, the order of a set, or a network call outside of ctx.run.",
)


def _differences(recorded_code: int, recorded: bytes, code: int, body: bytes) -> list[str]:
    if recorded_code != code or code not in MESSAGES:
        return []
    try:
        before, now = MESSAGES[code].FromString(recorded), MESSAGES[code].FromString(body)
    except DecodeError:
        return []
    free = _FREE.get(M(code), ())
    names = [field.name for field in MESSAGES[code].DESCRIPTOR.fields if field.name not in free]
    return [
        f"{name}: recorded {_value(getattr(before, name))}, now {_value(getattr(now, name))}"
        for name in names
        if getattr(before, name) != getattr(now, name)
    ]


def _value(value: object) -> str:
    if isinstance(value, pb.Value):
        value = value.content
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value).strip()
    return text if len(text) <= _SHOWN_CHARACTERS_MAX else f"{text[:_SHOWN_CHARACTERS_MAX]}... ({len(text)} characters)"

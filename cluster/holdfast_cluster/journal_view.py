"""A journal as an operator reads it: each frame with its type, its name and what it says, in words.

One function per kind of message, found by the frame's code. Nothing here fails because of what is stored: a frame that
can't be read is shown as such, and a code of a newer release by its number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError, Message

from holdfast_cluster.words import failure_words, listed, shortened, target_words, time_words, value_words
from holdfast_proto import admin_pb2
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import (
    HEADER,
    HEADER_BYTES,
    SIGNAL_CANCEL,
    SIGNAL_FIRST_AWAKEABLE,
    MessageType,
    is_command,
    is_notification,
)
from holdfast_proto.identifiers import encode_awakeable_id

M = MessageType

_KNOWN_CODES = frozenset(int(code) for code in MessageType)


@dataclass(frozen=True, slots=True)
class Described:
    """``completion_id`` is that of a command's result, or the one that a notification completes; 0: none."""

    name: str
    detail: str
    completion_id: int = 0


def type_name(code: int) -> str:
    """ "Command: Run", "Notification: Sleep"."""
    kind = "Command" if is_command(code) else "Notification" if is_notification(code) else "Message"
    if code not in _KNOWN_CODES:
        return f"{kind}: type 0x{code:04x}"
    words = MessageType(code).name.removesuffix("_COMPLETION").split("_")
    return f"{kind}: {''.join(word.capitalize() for word in words)}"


def entry(index: int, raw: bytes, appended_ms: int, is_completed: Callable[[int], bool]) -> admin_pb2.JournalEntry:
    """``raw`` is a frame with its header; ``is_completed`` says whether a completion id has its notification."""
    code = HEADER.unpack_from(raw)[0]
    body = raw[HEADER_BYTES:]
    shown = describe(code, body)
    waits = is_command(code) and shown.completion_id != 0
    return admin_pb2.JournalEntry(
        index=index,
        type=code,
        type_name=type_name(code),
        name=shown.name,
        completion_id=shown.completion_id,
        completed=is_completed(shown.completion_id) if waits else True,
        detail=shortened(shown.detail),
        raw=body,
        appended_at_ms=appended_ms,
    )


def describe(code: int, body: bytes) -> Described:
    try:
        if is_notification(code):
            return _notification(code, pb.Notification.FromString(body))
        known = _COMMANDS.get(code)
        if known is None:
            return Described("", f"({len(body):,} bytes)")
        message_type, words = known
        message: Any = message_type.FromString(body)
    except DecodeError as error:
        return Described("", f"unreadable: {error}")
    completion_id = getattr(message, "result_completion_id", 0)
    if code == M.ONE_WAY_CALL:
        completion_id = message.invocation_id_notification_idx
    name = message.entry_name if code == M.SEND_SIGNAL else message.name
    return Described(name, words(message), completion_id)


def signal_words(invocation_id: bytes, index: int) -> str:
    """A signal that an invocation waits for."""
    if index >= SIGNAL_FIRST_AWAKEABLE:
        return f"awakeable {encode_awakeable_id(invocation_id, index)}"
    return "cancellation" if index == SIGNAL_CANCEL else f"signal {index}"


# ---------------------------------------------------------------- results and notifications


def _notification(code: int, message: pb.Notification) -> Described:
    outcome = _result(message)
    match message.WhichOneof("id"):
        case "signal_id" if message.signal_id == SIGNAL_CANCEL:
            return Described("", "cancelled by an operator or a caller")
        case "signal_id" if message.signal_id >= SIGNAL_FIRST_AWAKEABLE:
            return Described("", f"awakeable {message.signal_id} completed: {outcome}")
        case "signal_id":
            return Described("", f"signal {message.signal_id}: {outcome}")
        case "signal_name":
            return Described(message.signal_name, outcome)
        case _:
            return Described("", outcome, message.completion_id)


def _result(message: Any) -> str:
    """Of any message whose results are a oneof with the usual names."""
    match message.WhichOneof("result"):
        case "value":
            return value_words(message.value.content)
        case "failure":
            return failure_words(message.failure)
        case "invocation_id":
            invocation_id: str = message.invocation_id
            return invocation_id
        case "state_keys":
            return _keys(message.state_keys.keys)
        case "void":
            return "done"
        case _:
            return "no result"


def _keys(keys: Any) -> str:
    return listed([_key(key) for key in keys]) or "no keys"


def _key(key: bytes) -> str:
    return key.decode(errors="backslashreplace")


# ---------------------------------------------------------------- commands


def _input(message: pb.InputCommandMessage) -> str:
    return value_words(message.value.content)


def _eager_state(message: pb.GetEagerStateCommandMessage) -> str:
    found = value_words(message.value.content) if message.WhichOneof("result") == "value" else "not set"
    return f"{_key(message.key)} is {found}"


def _complete_promise(message: pb.CompletePromiseCommandMessage) -> str:
    if message.WhichOneof("completion") == "completion_failure":
        return f"{message.key}: {failure_words(message.completion_failure)}"
    return f"{message.key}: {value_words(message.completion_value.content)}"


def _call(message: pb.CallCommandMessage) -> str:
    return f"{target_words(message.service_name, message.handler_name, message.key)} {value_words(message.parameter)}"


def _one_way_call(message: pb.OneWayCallCommandMessage) -> str:
    when = f" at {time_words(message.invoke_time)}" if message.invoke_time else ""
    target = target_words(message.service_name, message.handler_name, message.key)
    return f"{target}{when} {value_words(message.parameter)}"


def _send_signal(message: pb.SendSignalCommandMessage) -> str:
    if message.WhichOneof("signal_id") == "name":
        return f"{message.name} to {message.target_invocation_id}: {_result(message)}"
    if message.idx == SIGNAL_CANCEL:
        return f"cancel {message.target_invocation_id}"
    return f"signal {message.idx} to {message.target_invocation_id}: {_result(message)}"


def _other_invocation(message: pb.AttachInvocationCommandMessage | pb.GetInvocationOutputCommandMessage) -> str:
    match message.WhichOneof("target"):
        case "workflow_target":
            return f"{message.workflow_target.workflow_name}/{message.workflow_target.workflow_key}"
        case "idempotent_request_target":
            request = message.idempotent_request_target
            target = target_words(request.service_name, request.handler_name, request.service_key)
            return f"{target} with idempotency key {request.idempotency_key}"
        case _:
            return message.invocation_id


_Words = Callable[[Any], str]

_COMMANDS: Mapping[int, tuple[type[Message], _Words]] = {
    M.INPUT: (pb.InputCommandMessage, _input),
    M.OUTPUT: (pb.OutputCommandMessage, _result),
    M.GET_LAZY_STATE: (pb.GetLazyStateCommandMessage, lambda m: _key(m.key)),
    M.SET_STATE: (pb.SetStateCommandMessage, lambda m: f"{_key(m.key)} = {value_words(m.value.content)}"),
    M.CLEAR_STATE: (pb.ClearStateCommandMessage, lambda m: _key(m.key)),
    M.CLEAR_ALL_STATE: (pb.ClearAllStateCommandMessage, lambda m: "all state of the key"),
    M.GET_LAZY_STATE_KEYS: (pb.GetLazyStateKeysCommandMessage, lambda m: ""),
    M.GET_EAGER_STATE: (pb.GetEagerStateCommandMessage, _eager_state),
    M.GET_EAGER_STATE_KEYS: (pb.GetEagerStateKeysCommandMessage, lambda m: _keys(m.value.keys)),
    M.GET_PROMISE: (pb.GetPromiseCommandMessage, lambda m: m.key),
    M.PEEK_PROMISE: (pb.PeekPromiseCommandMessage, lambda m: m.key),
    M.COMPLETE_PROMISE: (pb.CompletePromiseCommandMessage, _complete_promise),
    M.SLEEP: (pb.SleepCommandMessage, lambda m: f"until {time_words(m.wake_up_time)}"),
    M.CALL: (pb.CallCommandMessage, _call),
    M.ONE_WAY_CALL: (pb.OneWayCallCommandMessage, _one_way_call),
    M.SEND_SIGNAL: (pb.SendSignalCommandMessage, _send_signal),
    M.RUN: (pb.RunCommandMessage, lambda m: ""),
    M.ATTACH_INVOCATION: (pb.AttachInvocationCommandMessage, _other_invocation),
    M.GET_INVOCATION_OUTPUT: (pb.GetInvocationOutputCommandMessage, _other_invocation),
    M.COMPLETE_AWAKEABLE: (pb.CompleteAwakeableCommandMessage, lambda m: f"{m.awakeable_id}: {_result(m)}"),
}

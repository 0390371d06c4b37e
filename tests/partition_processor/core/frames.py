"""Frames of endpoints in words, as the transcripts write them, and back.

``set value 5`` is a SetState, ``call 1/2 counter/k/add 7`` a Call with its two completion ids, and so on: see `FRAMES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from google.protobuf import text_format
from google.protobuf.message import Message

from holdfast_partition_processor.command import HandlerType, ResolvedCall, StoredFrame, Target
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import HEADER, HEADER_BYTES, is_notification
from holdfast_proto.framing import MessageType as M

Names = Callable[[str], str]
"""From a name in the script to the id that a handler would pass."""

HANDLERS: Mapping[tuple[str, str], HandlerType] = {
    ("greeter", "greet"): HandlerType.SERVICE,
    ("counter", "add"): HandlerType.EXCLUSIVE,
    ("counter", "value"): HandlerType.SHARED,
    ("publish", "run"): HandlerType.WORKFLOW_RUN,
    ("publish", "approve"): HandlerType.WORKFLOW_SHARED,
}

MESSAGES: Mapping[int, type[Message]] = {
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


def target_of(path: str) -> Target:
    """``greeter/greet``, ``counter/KEY/add``."""
    service, *key, handler = path.split("/")
    kind = HANDLERS[service, handler]
    assert (kind is HandlerType.SERVICE) == (not key), path
    return Target(service, handler, key[0] if key else None, kind)


def options_of(words: list[str]) -> tuple[list[str], dict[str, str]]:
    """Plain words, and those of the form name=value."""
    plain = [word for word in words if "=" not in word]
    return plain, dict(word.split("=", 1) for word in words if "=" in word)


def frame_of(words: list[str], names: Names) -> StoredFrame:
    verb, *rest = words
    arguments, options = options_of(rest)
    if verb == "raw":
        return StoredFrame(int(arguments[0], 16), bytes.fromhex("".join(arguments[1:])))
    code, build = FRAMES[verb]
    message = build(arguments, options, names)
    resolved = None
    if isinstance(message, pb.CallCommandMessage | pb.OneWayCallCommandMessage) and "unresolved" not in arguments:
        retention = int(options.get("completion", 0)), int(options.get("journal", 0))
        resolved = ResolvedCall(target_of(arguments[1]), *retention)
    return StoredFrame(code, message.SerializeToString(), resolved)


Arguments = list[str]
Options = dict[str, str]


def _value(text: str) -> pb.Value:
    return pb.Value(content=text.encode())


def _output(a: Arguments, o: Options, names: Names) -> Message:
    return pb.OutputCommandMessage(value=_value(a[0]))


def _fail(a: Arguments, o: Options, names: Names) -> Message:
    return pb.OutputCommandMessage(failure=pb.Failure(code=int(a[0]), message=a[1]))


def _call(a: Arguments, o: Options, names: Names) -> Message:
    ids, path, parameter = a[:3]
    target = target_of(path)
    message = pb.CallCommandMessage(
        service_name=target.service,
        handler_name=target.handler,
        key=target.key or "",
        parameter=parameter.encode(),
        invocation_id_notification_idx=int(ids.split("/")[0]),
        result_completion_id=int(ids.split("/")[1]),
    )
    if "key" in o:
        message.idempotency_key = o["key"]
    return message


def _send(a: Arguments, o: Options, names: Names) -> Message:
    number, path, parameter = a[:3]
    target = target_of(path)
    message = pb.OneWayCallCommandMessage(
        service_name=target.service,
        handler_name=target.handler,
        key=target.key or "",
        parameter=parameter.encode(),
        invoke_time=int(o.get("at", 0)),
        invocation_id_notification_idx=int(number),
    )
    if "key" in o:
        message.idempotency_key = o["key"]
    return message


def _signal(a: Arguments, o: Options, names: Names) -> Message:
    message = pb.SendSignalCommandMessage(target_invocation_id=names(a[0]))
    if a[1].isdigit():
        message.idx = int(a[1])
    else:
        message.name = a[1]
    if len(a) > 2:
        message.value.content = a[2].encode()
    else:
        message.void.SetInParent()
    return message


def _resolve(a: Arguments, o: Options, names: Names) -> Message:
    return pb.CompletePromiseCommandMessage(key=a[0], completion_value=_value(a[1]), result_completion_id=int(a[2]))


def _reject(a: Arguments, o: Options, names: Names) -> Message:
    failure = pb.Failure(code=500, message=a[1])
    return pb.CompletePromiseCommandMessage(key=a[0], completion_failure=failure, result_completion_id=int(a[2]))


def _suspend(a: Arguments, o: Options, names: Names) -> Message:
    """Numbers are completions, ``s17`` is a signal, ``nNAME`` a named one."""
    return pb.SuspensionMessage(
        waiting_completions=[int(word) for word in a if word.isdigit()],
        waiting_signals=[int(word[1:]) for word in a if word[0] == "s"],
        waiting_named_signals=[word[1:] for word in a if word[0] == "n"],
    )


def _attach(a: Arguments, o: Options, names: Names) -> Message:
    message = pb.AttachInvocationCommandMessage(result_completion_id=int(a[1]))
    _attach_target(message, a[0], o, names)
    return message


def _get_output(a: Arguments, o: Options, names: Names) -> Message:
    message = pb.GetInvocationOutputCommandMessage(result_completion_id=int(a[1]))
    _attach_target(message, a[0], o, names)
    return message


def _attach_target(
    message: pb.AttachInvocationCommandMessage | pb.GetInvocationOutputCommandMessage,
    who: str,
    o: Options,
    names: Names,
) -> None:
    """An invocation's name, ``workflow/KEY``, or a path with ``key=`` for its idempotency key."""
    if "key" in o:
        target = target_of(who)
        request = message.idempotent_request_target
        request.service_name, request.handler_name, request.idempotency_key = target.service, target.handler, o["key"]
        if target.key is not None:
            request.service_key = target.key
    elif "/" in who:
        message.workflow_target.workflow_name, message.workflow_target.workflow_key = who.split("/")
    else:
        message.invocation_id = names(who)


Build = Callable[[Arguments, Options, Names], Message]
FRAMES: Mapping[str, tuple[int, Build]] = {
    "output": (M.OUTPUT, _output),
    "fail": (M.OUTPUT, _fail),
    "get": (
        M.GET_LAZY_STATE,
        lambda a, o, n: pb.GetLazyStateCommandMessage(key=a[0].encode(), result_completion_id=int(a[1])),
    ),
    "keys": (M.GET_LAZY_STATE_KEYS, lambda a, o, n: pb.GetLazyStateKeysCommandMessage(result_completion_id=int(a[0]))),
    "set": (M.SET_STATE, lambda a, o, n: pb.SetStateCommandMessage(key=a[0].encode(), value=_value(a[1]))),
    "clear": (M.CLEAR_STATE, lambda a, o, n: pb.ClearStateCommandMessage(key=a[0].encode())),
    "clear-all": (M.CLEAR_ALL_STATE, lambda a, o, n: pb.ClearAllStateCommandMessage()),
    "eager": (M.GET_EAGER_STATE, lambda a, o, n: pb.GetEagerStateCommandMessage(key=a[0].encode(), value=_value(a[1]))),
    "eager-keys": (
        M.GET_EAGER_STATE_KEYS,
        lambda a, o, n: pb.GetEagerStateKeysCommandMessage(value=pb.StateKeys(keys=[word.encode() for word in a])),
    ),
    "promise": (M.GET_PROMISE, lambda a, o, n: pb.GetPromiseCommandMessage(key=a[0], result_completion_id=int(a[1]))),
    "peek": (M.PEEK_PROMISE, lambda a, o, n: pb.PeekPromiseCommandMessage(key=a[0], result_completion_id=int(a[1]))),
    "resolve": (M.COMPLETE_PROMISE, _resolve),
    "reject": (M.COMPLETE_PROMISE, _reject),
    "sleep": (M.SLEEP, lambda a, o, n: pb.SleepCommandMessage(wake_up_time=int(a[0]), result_completion_id=int(a[1]))),
    "call": (M.CALL, _call),
    "send": (M.ONE_WAY_CALL, _send),
    "signal": (M.SEND_SIGNAL, _signal),
    "run": (M.RUN, lambda a, o, n: pb.RunCommandMessage(result_completion_id=int(a[0]), name=a[1] if a[1:] else "")),
    "propose": (
        M.PROPOSE_RUN_COMPLETION,
        lambda a, o, n: pb.ProposeRunCompletionMessage(result_completion_id=int(a[0]), value=a[1].encode()),
    ),
    "propose-failure": (
        M.PROPOSE_RUN_COMPLETION,
        lambda a, o, n: pb.ProposeRunCompletionMessage(
            result_completion_id=int(a[0]), failure=pb.Failure(code=int(a[1]), message=a[2])
        ),
    ),
    "attach": (M.ATTACH_INVOCATION, _attach),
    "get-output": (M.GET_INVOCATION_OUTPUT, _get_output),
    "complete": (
        M.COMPLETE_AWAKEABLE,
        lambda a, o, n: pb.CompleteAwakeableCommandMessage(awakeable_id=n(a[0]), value=_value(a[1])),
    ),
    "suspend": (M.SUSPENSION, _suspend),
    "end": (M.END, lambda a, o, n: pb.EndMessage()),
}


def show_frame(raw: bytes) -> str:
    code, _, _ = HEADER.unpack_from(raw)
    kind = pb.Notification if is_notification(code) else MESSAGES[code]
    message = kind.FromString(raw[HEADER_BYTES:])
    text = text_format.MessageToString(message, as_one_line=True)
    return f"{M(code).name} {text}".rstrip()

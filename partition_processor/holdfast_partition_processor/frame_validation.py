"""Checks a frame from an endpoint before it is proposed: what stands in the log can be applied."""

from __future__ import annotations

from google.protobuf.message import DecodeError, Message

from holdfast_partition_processor.command import HandlerType
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import MessageType as M
from holdfast_proto.identifiers import MalformedIdentifier, decode_awakeable_id, decode_invocation_id

STATE_KEY_BYTES_MAX = 128
PROMISE_NAME_BYTES_MAX = 128

MESSAGES: dict[int, type[Message]] = {
    M.SUSPENSION: pb.SuspensionMessage,
    M.END: pb.EndMessage,
    M.PROPOSE_RUN_COMPLETION: pb.ProposeRunCompletionMessage,
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
_STATE_READS = frozenset({M.GET_LAZY_STATE, M.GET_LAZY_STATE_KEYS, M.GET_EAGER_STATE, M.GET_EAGER_STATE_KEYS})
_STATE_WRITES = frozenset({M.SET_STATE, M.CLEAR_STATE, M.CLEAR_ALL_STATE})
_PROMISES = frozenset({M.GET_PROMISE, M.PEEK_PROMISE, M.COMPLETE_PROMISE})
_WORKFLOW = (HandlerType.WORKFLOW_RUN, HandlerType.WORKFLOW_SHARED)


class InvalidFrame(ValueError):
    """What the endpoint sent makes no sense here; the attempt fails with these words."""


def validate(code: int, body: bytes, handler: HandlerType) -> Message:
    """The decoded message. Raises InvalidFrame."""
    kind = MESSAGES.get(code)
    if kind is None:
        raise InvalidFrame(f"message type 0x{code:04x} is not one that an endpoint may send")
    try:
        message = kind.FromString(body)
    except DecodeError as error:
        raise InvalidFrame(f"message of type {M(code).name} does not decode: {error}") from error
    _allowed(code, handler)
    _well_formed(code, message)
    return message


def _allowed(code: int, handler: HandlerType) -> None:
    if code in _STATE_WRITES and handler not in (HandlerType.EXCLUSIVE, HandlerType.WORKFLOW_RUN):
        raise InvalidFrame(f"{M(code).name}: a {handler.name} handler may not write state")
    if code in _STATE_READS and handler is HandlerType.SERVICE:
        raise InvalidFrame(f"{M(code).name}: a service without key has no state")
    if code in _PROMISES and handler not in _WORKFLOW:
        raise InvalidFrame(f"{M(code).name}: only workflows have promises")


def _well_formed(code: int, message: Message) -> None:
    try:
        match message:
            case pb.SuspensionMessage():
                if not (message.waiting_completions or message.waiting_signals or message.waiting_named_signals):
                    raise InvalidFrame("a suspension must say what it waits for")
            case pb.SetStateCommandMessage() | pb.ClearStateCommandMessage() | pb.GetLazyStateCommandMessage():
                if len(message.key) > STATE_KEY_BYTES_MAX:
                    raise InvalidFrame(f"state key of {len(message.key)} bytes, the limit is {STATE_KEY_BYTES_MAX}")
            case pb.GetPromiseCommandMessage() | pb.PeekPromiseCommandMessage() | pb.CompletePromiseCommandMessage():
                size = len(message.key.encode())
                if size > PROMISE_NAME_BYTES_MAX:
                    raise InvalidFrame(f"promise name of {size} bytes, the limit is {PROMISE_NAME_BYTES_MAX}")
            case pb.CompleteAwakeableCommandMessage():
                decode_awakeable_id(message.awakeable_id)
            case pb.SendSignalCommandMessage():
                decode_invocation_id(message.target_invocation_id)
            case pb.AttachInvocationCommandMessage() | pb.GetInvocationOutputCommandMessage():
                if message.WhichOneof("target") in (None, "invocation_id"):
                    decode_invocation_id(message.invocation_id)
            case pb.OutputCommandMessage():
                if message.WhichOneof("result") is None:
                    raise InvalidFrame("an output needs a value or a failure")
            case _:
                pass
    except MalformedIdentifier as error:
        raise InvalidFrame(f"{M(code).name}: {error}") from error

"""What an endpoint may send: everything that a handler of its kind can do, and nothing else."""

from __future__ import annotations

import pytest
from google.protobuf.message import Message

from holdfast_partition_processor.command import HandlerType
from holdfast_partition_processor.frame_validation import InvalidFrame, validate
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import MessageType as M
from holdfast_proto.identifiers import encode_awakeable_id, encode_invocation_id
from tests.partition_processor.core.frames import FRAMES, frame_of

SOMEBODY = encode_invocation_id(bytes(24))
AWAKEABLE = encode_awakeable_id(bytes(24), 17)

GOOD = {
    "output": ["output", "x"],
    "failure": ["fail", "500", "no"],
    "get": ["get", "a", "1"],
    "keys": ["keys", "1"],
    "set": ["set", "a", "1"],
    "clear": ["clear", "a"],
    "clear-all": ["clear-all"],
    "eager": ["eager", "a", "1"],
    "eager-keys": ["eager-keys", "a"],
    "promise": ["promise", "p", "1"],
    "peek": ["peek", "p", "1"],
    "resolve": ["resolve", "p", "v", "1"],
    "reject": ["reject", "p", "no", "1"],
    "sleep": ["sleep", "5", "1"],
    "call": ["call", "1/2", "greeter/greet", "x"],
    "send": ["send", "1", "greeter/greet", "x"],
    "signal": ["signal", SOMEBODY, "17", "v"],
    "run": ["run", "1"],
    "propose": ["propose", "1", "v"],
    "propose-failure": ["propose-failure", "1", "500", "no"],
    "attach": ["attach", SOMEBODY, "1"],
    "get-output": ["get-output", SOMEBODY, "1"],
    "complete": ["complete", AWAKEABLE, "v"],
    "suspend": ["suspend", "1"],
    "end": ["end"],
}
READS = {"get", "keys", "eager", "eager-keys"}
WRITES = {"set", "clear", "clear-all"}
PROMISES = {"promise", "peek", "resolve", "reject"}
FORBIDDEN = {
    HandlerType.SERVICE: READS | WRITES | PROMISES,
    HandlerType.EXCLUSIVE: PROMISES,
    HandlerType.SHARED: WRITES | PROMISES,
    HandlerType.WORKFLOW_RUN: set[str](),
    HandlerType.WORKFLOW_SHARED: WRITES,
}


def test_every_frame_is_tried() -> None:
    assert set(FRAMES) - {"fail"} == set(GOOD) - {"failure"}


@pytest.mark.parametrize("kind", HandlerType, ids=lambda kind: kind.name)
@pytest.mark.parametrize("name", GOOD)
def test_each_kind_of_handler_may_do_what_the_model_gives_it(name: str, kind: HandlerType) -> None:
    frame = frame_of(GOOD[name], lambda text: text)
    if name in FORBIDDEN[kind]:
        with pytest.raises(InvalidFrame, match=M(frame.type).name):
            validate(frame.type, frame.body, kind)
    else:
        assert validate(frame.type, frame.body, kind).SerializeToString() == frame.body


def call(**fields: object) -> Message:
    return pb.CallCommandMessage(**{"service_name": "s", "handler_name": "h", **fields})  # type: ignore[arg-type]


BAD: dict[str, tuple[int, Message | bytes, str]] = {
    "undecodable": (M.OUTPUT, b"\xff\xff\xff", "Output: the body of 3 bytes can't be decoded"),
    "text that is no text": (M.PEEK_PROMISE, b"\x0a\x01\xff", "PeekPromise: the body of 3 bytes can't be decoded"),
    "unknown type": (0x0499, b"", "0x0499 is not one that an endpoint may send"),
    "input": (M.INPUT, b"", "0x0400 is not one that an endpoint may send"),
    "notification": (M.SLEEP_COMPLETION, b"", "0x800c is not one that an endpoint may send"),
    "error is not stored": (M.ERROR, b"", "0x0002 is not one that an endpoint may send"),
    "suspension for nothing": (M.SUSPENSION, b"", "Suspension: it names nothing"),
    "suspension of V7": (M.SUSPENSION, pb.SuspensionMessage(awaiting_on=pb.Future()), "Suspension: it names nothing"),
    "output of nothing": (M.OUTPUT, b"", "Output: neither value nor failure is set"),
    "outcome of nothing": (M.PROPOSE_RUN_COMPLETION, b"", "ProposeRunCompletion: neither value nor failure is set"),
    "promise of nothing": (M.COMPLETE_PROMISE, b"", "CompletePromise: neither value nor failure is set"),
    "awakeable of nothing": (
        M.COMPLETE_AWAKEABLE,
        pb.CompleteAwakeableCommandMessage(awakeable_id=AWAKEABLE),
        "CompleteAwakeable: neither value nor failure is set",
    ),
    "awakeable id": (
        M.COMPLETE_AWAKEABLE,
        pb.CompleteAwakeableCommandMessage(awakeable_id="sign_1x", value=pb.Value()),
        "CompleteAwakeable: not an awakeable id",
    ),
    "awakeable with a reserved number": (
        M.COMPLETE_AWAKEABLE,
        pb.CompleteAwakeableCommandMessage(awakeable_id=encode_awakeable_id(bytes(24), 1), value=pb.Value()),
        "signal 1 is reserved",
    ),
    "signal to nobody": (
        M.SEND_SIGNAL,
        pb.SendSignalCommandMessage(target_invocation_id="inv_1x", idx=1),
        "SendSignal: not an invocation id",
    ),
    "signal without a name": (
        M.SEND_SIGNAL,
        pb.SendSignalCommandMessage(target_invocation_id=SOMEBODY),
        "SendSignal: neither number nor name",
    ),
    "call of nobody": (M.CALL, call(service_name=""), "Call: service and handler must be named"),
    "call with an empty idempotency key": (M.CALL, call(idempotency_key=""), "Call: the idempotency key is empty"),
    "attach to nothing": (M.ATTACH_INVOCATION, b"", "AttachInvocation: no target is set"),
    "attach to nobody": (
        M.ATTACH_INVOCATION,
        pb.AttachInvocationCommandMessage(invocation_id="x"),
        "AttachInvocation: not an invocation id",
    ),
    "output of an empty idempotency key": (
        M.GET_INVOCATION_OUTPUT,
        pb.GetInvocationOutputCommandMessage(idempotent_request_target=pb.IdempotentRequestTarget()),
        "GetInvocationOutput: the idempotency key is empty",
    ),
    "long state key": (
        M.SET_STATE,
        pb.SetStateCommandMessage(key=b"k" * 1025),
        "SetState: the state key has 1025 bytes, the limit is 1024",
    ),
    "long promise name": (
        M.GET_PROMISE,
        pb.GetPromiseCommandMessage(key="ü" * 513),
        "GetPromise: the promise's name has 1026 bytes, the limit is 1024",
    ),
    "long signal name": (
        M.SEND_SIGNAL,
        pb.SendSignalCommandMessage(target_invocation_id=SOMEBODY, name="n" * 1025),
        "SendSignal: the signal's name has 1025 bytes, the limit is 1024",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_makes_no_sense_is_refused_with_words_that_name_it(name: str) -> None:
    code, body, words = BAD[name]
    raw = body if isinstance(body, bytes) else body.SerializeToString()
    with pytest.raises(InvalidFrame) as caught:
        validate(code, raw, HandlerType.WORKFLOW_RUN)
    assert words in str(caught.value)

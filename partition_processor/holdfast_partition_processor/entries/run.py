"""Run: a durable step begins. The step's outcome comes as a proposal; the first one that is stored is the one."""

from __future__ import annotations

from holdfast_partition_processor.command import StoredFrame
from holdfast_partition_processor.frame_body import InvalidFrame, decode
from holdfast_partition_processor.live import Live
from holdfast_partition_processor.turn import Turn
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import MessageType


def parse(body: bytes) -> pb.RunCommandMessage:
    """Raises InvalidFrame."""
    return decode(pb.RunCommandMessage, "Run", body)


def apply(turn: Turn, live: Live, frame: StoredFrame) -> None:
    parse(frame.body)
    live.append_command(turn, MessageType.RUN, frame.body)


def parse_proposal(body: bytes) -> pb.ProposeRunCompletionMessage:
    """Raises InvalidFrame."""
    message = decode(pb.ProposeRunCompletionMessage, "ProposeRunCompletion", body)
    if message.WhichOneof("result") is None:
        raise InvalidFrame("ProposeRunCompletion: neither value nor failure is set")
    return message


def apply_proposal(turn: Turn, live: Live, frame: StoredFrame) -> None:
    """The proposal itself is not stored, it becomes the step's completion."""
    proposal = parse_proposal(frame.body)
    number = proposal.result_completion_id
    if proposal.WhichOneof("result") == "failure":
        outcome = pb.Notification(completion_id=number, failure=proposal.failure)
    else:
        outcome = pb.Notification(completion_id=number, value=pb.Value(content=proposal.value))
    live.complete(turn, MessageType.RUN_COMPLETION, number, outcome.SerializeToString())

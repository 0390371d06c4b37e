"""The outcome of a durable step."""

from __future__ import annotations

from holdfast_partition_processor.command import StoredFrame
from holdfast_partition_processor.turn import Live, Turn
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import MessageType


def propose_completion(turn: Turn, live: Live, frame: StoredFrame) -> None:
    proposal = pb.ProposeRunCompletionMessage.FromString(frame.body)
    outcome = pb.Notification(completion_id=proposal.result_completion_id)
    if proposal.WhichOneof("result") == "failure":
        outcome.failure.CopyFrom(proposal.failure)
    else:
        outcome.value.content = proposal.value
    live.complete(turn, MessageType.RUN_COMPLETION, outcome)

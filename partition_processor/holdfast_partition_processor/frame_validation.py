"""Checks a frame from an endpoint before it is proposed, so that what stands in the log can be applied.

Apply checks the same again, with the same functions: a leader of another release may have let more through.
"""

from __future__ import annotations

from google.protobuf.message import Message

from holdfast_partition_processor import suspension
from holdfast_partition_processor.command import HandlerType
from holdfast_partition_processor.entries import ENTRIES, run
from holdfast_partition_processor.frame_body import InvalidFrame, decode
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import MessageType

__all__ = ["InvalidFrame", "validate"]


def validate(code: int, body: bytes, handler: HandlerType) -> Message:
    """The decoded message of a frame that may stand in Effects: a command, a proposal, a suspension or the end.
    Raises InvalidFrame, whose words name the command and what is wrong with it."""
    entry = ENTRIES.get(code)
    if entry is not None:
        if handler not in entry.handlers:
            raise InvalidFrame(f"{MessageType(code).name}: {entry.refusal}")
        return entry.parse(body)
    match code:
        case MessageType.PROPOSE_RUN_COMPLETION:
            return run.parse_proposal(body)
        case MessageType.SUSPENSION:
            return suspension.parse(body)
        case MessageType.END:
            return decode(pb.EndMessage, "End", body)
        case _:
            raise InvalidFrame(f"message type 0x{code:04x} is not one that an endpoint may send")

"""What is said about an attempt that failed."""

from __future__ import annotations

import traceback

from holdfast._steps import Step
from holdfast.errors import JournalMismatch
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import MessageType

FAILED = 500
JOURNAL_MISMATCH = 570
STACKTRACE_CHARACTERS_MAX = 16_384
MESSAGE_CHARACTERS_MAX = 8_192


def error_message(error: BaseException, step: Step | None, retry_ms: int | None) -> pb.ErrorMessage:
    """``step`` is what failed, when it was not the handler itself; ``retry_ms`` replaces the node's back-off."""
    if isinstance(error, JournalMismatch):
        return pb.ErrorMessage(
            code=JOURNAL_MISMATCH,
            message=str(error),
            related_command_index=error.command_index,
            related_command_name=error.command_name,
            related_command_type=error.command_type,
        )
    message = pb.ErrorMessage(
        code=FAILED,
        message=f"{type(error).__name__}: {error}"[:MESSAGE_CHARACTERS_MAX],
        stacktrace="".join(traceback.format_exception(error))[-STACKTRACE_CHARACTERS_MAX:],
        next_retry_delay=retry_ms,
    )
    if step is not None:
        message.related_command_index = step.command_index
        message.related_command_name = step.name
        message.related_command_type = MessageType.RUN
    return message

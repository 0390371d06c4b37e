"""How an attempt failed, and the command that says so: words, and what comes next by the endpoint's wish or policy."""

from __future__ import annotations

from dataclasses import dataclass

from holdfast_partition_processor import retry_policy
from holdfast_partition_processor.catalog import Settings
from holdfast_partition_processor.command import AttemptFailed, Failure, GiveUp, Pause
from holdfast_partition_processor.invocation import Invocation
from holdfast_proto import endpoint_pb2 as ep
from holdfast_proto import protocol_pb2 as pb

MESSAGE_CHARACTERS_MAX = 4_000
"""Of a failure's text: it is part of the invocation's row, which is written with each step."""
STACKTRACE_CHARACTERS_MAX = 2_000
"""The end of it, which names the place."""
GENERIC = 500


@dataclass(frozen=True, slots=True)
class Failed:
    """``then`` and ``delay_ms`` are wishes of the endpoint; ``related`` is the command it happened at: index, name,
    message type."""

    failure: Failure
    then: Pause | GiveUp | None = None
    delay_ms: int | None = None
    related: tuple[int, str, int] = (-1, "", -1)


class FrameRefused(Exception):
    """What the endpoint sent can't be stored; the attempt fails with this."""

    def __init__(self, code: int, message: str, related: tuple[int, str, int] = (-1, "", -1)) -> None:
        super().__init__(message)
        self.failed = Failed(Failure(code, message), related=related)


def of_error(error: pb.ErrorMessage) -> Failed:
    """An Error frame. A failure that becomes the invocation's result carries no stack trace to its callers."""
    then: Pause | GiveUp | None = None
    if error.behavior == pb.PAUSE:
        then = Pause()
    elif error.behavior == pb.FAIL:
        then = GiveUp()
    message = error.message or "the handler failed without a message"
    stacktrace = error.stacktrace[-STACKTRACE_CHARACTERS_MAX:]
    metadata = (("stacktrace", stacktrace),) if stacktrace and not isinstance(then, GiveUp) else ()
    index = error.related_command_index if error.HasField("related_command_index") else -1
    kind = error.related_command_type if error.HasField("related_command_type") else -1
    delay_ms = error.next_retry_delay if error.HasField("next_retry_delay") else None
    return Failed(
        Failure(error.code or GENERIC, message, metadata), then, delay_ms, (index, error.related_command_name, kind)
    )


def of_reset(reset: ep.Reset) -> Failed:
    return Failed(Failure(reset.code or GENERIC, f"the endpoint gave the attempt up: {reset.message}"))


def command(
    failed: Failed,
    invocation: Invocation,
    *,
    deployment: str,
    progressed: bool,
    settings: Settings,
    now_ms: int,
    jitter: float,
) -> AttemptFailed:
    """``progressed``: the attempt stored a command, so its failure is the first one again."""
    failed_before = 0 if progressed else invocation.retry_count
    decided = failed.then or retry_policy.decide(settings, failed_before, now_ms, jitter, failed.delay_ms)
    metadata = failed.failure.metadata
    if isinstance(decided, GiveUp):
        metadata = tuple((name, text) for name, text in metadata if name != "stacktrace")
    return AttemptFailed(
        invocation.id,
        invocation.attempt,
        Failure(failed.failure.code, failed.failure.message[:MESSAGE_CHARACTERS_MAX], metadata),
        decided,
        deployment,
        *failed.related,
        invocation.incarnation,
    )

"""What an ingress refuses, over HTTP and over gRPC alike. The failure of an invocation is none of it: that is a result.

=====  ==========================================================================================
code   meaning
=====  ==========================================================================================
400    the request can't be understood, or breaks a rule of the handler that it is for
404    no such service, handler or invocation
405    not with this method
409    the workflow was already invoked
413    the body is over the limit
422    the idempotency key was used before, with another body
429    this node has as many requests as it takes; nothing was started
470    the invocation has no result yet
503    not now: no leader, stopping, disk full, or no result within the time that a request may wait
=====  ==========================================================================================
"""

from __future__ import annotations

from holdfast_cluster.http_message import STATUS_NOT_READY
from holdfast_log.types import LogError, LogFull, Overloaded, PayloadTooLarge
from holdfast_partition_processor.catalog import CatalogError, UnknownHandler, UnknownService
from holdfast_proto.identifiers import encode_invocation_id

RETRY_SECONDS = 1


class IngressError(Exception):
    """``invocation_id`` is set when an invocation exists all the same, so that one can attach to it."""

    def __init__(
        self, code: int, message: str, *, retry_after_seconds: int | None = None, invocation_id: bytes | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retry_after_seconds = retry_after_seconds
        self.invocation_id = invocation_id


class TimedOut(IngressError):
    """Nobody waits any longer than this; the invocation goes on."""


def bad_request(message: str) -> IngressError:
    return IngressError(400, message)


def from_catalog(error: CatalogError) -> IngressError:
    return IngressError(404 if isinstance(error, UnknownService | UnknownHandler) else 400, error.message)


def from_log(error: LogError) -> IngressError:
    """The log refused a command: nothing was started."""
    if isinstance(error, PayloadTooLarge):
        return IngressError(413, str(error))
    code = 429 if isinstance(error, Overloaded) else 503
    return IngressError(code, f"{error}; nothing was started", retry_after_seconds=RETRY_SECONDS)


def lost(error: LogError, invocation_id: bytes | None) -> IngressError:
    """A command was taken, but what became of it is not known here."""
    if isinstance(error, LogFull):
        return from_log(error)
    message = f"{error}; the request may have been taken all the same"
    if invocation_id is not None:
        message += f", as invocation {encode_invocation_id(invocation_id)}"
    return IngressError(503, message, retry_after_seconds=RETRY_SECONDS, invocation_id=invocation_id)


def timed_out(seconds: float, invocation_id: bytes) -> TimedOut:
    name = encode_invocation_id(invocation_id)
    return TimedOut(
        503,
        f"no result within {seconds:g} s (ingress.request_timeout); invocation {name} goes on: attach to it",
        retry_after_seconds=RETRY_SECONDS,
        invocation_id=invocation_id,
    )


def not_found(invocation_id: bytes) -> IngressError:
    return IngressError(
        404, f"invocation {encode_invocation_id(invocation_id)} not found: never started here, or purged since"
    )


def not_ready(invocation_id: bytes) -> IngressError:
    return IngressError(
        STATUS_NOT_READY,
        f"invocation {encode_invocation_id(invocation_id)} has no result yet",
        invocation_id=invocation_id,
    )

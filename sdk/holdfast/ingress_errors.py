"""What a client of the ingress can meet. The failure of an invocation is none of it: that is a `TerminalError`.

====================  =====================================================================================
IngressError          the node refused the request; nothing was started. ``code`` is an HTTP status: 400 not
                      understood, 404 no such service, handler or invocation, 413 too large, 422 idempotency
                      key used with another body, 470 no result yet
Unavailable           503: no node answers, or it can't do it now, and trying again did not help in time
CallTimeout           504: no result within the timeout; the invocation, if it was started, goes on
====================  =====================================================================================
"""

from __future__ import annotations


class IngressError(Exception):
    """``invocation_id`` is set when an invocation exists that one can attach to."""

    def __init__(self, message: str, code: int, invocation_id: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.invocation_id = invocation_id

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.message, self.code, self.invocation_id)


class Unavailable(IngressError):
    """Unless the message says that nothing was started, what was asked may still happen. With an idempotency key it is
    safe to ask again."""

    def __init__(self, message: str, code: int = 503, invocation_id: str | None = None) -> None:
        super().__init__(message, code, invocation_id)


class CallTimeout(IngressError, TimeoutError):
    """`TimeoutError` as well, so that whoever handles those handles this."""

    def __init__(self, message: str, code: int = 504, invocation_id: str | None = None) -> None:
        super().__init__(message, code, invocation_id)

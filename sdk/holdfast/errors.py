"""Errors that user code raises and sees."""

from __future__ import annotations


class TerminalError(Exception):
    """Ends the invocation (or the durable step) with a failure: it is stored, not retried, and raised at the caller.

    ``code`` is an HTTP status; ``metadata`` are short texts that travel with it. Every other exception is retried.
    """

    def __init__(self, message: str = "", /, *, code: int = 500, **metadata: str) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.metadata = metadata


class Cancelled(TerminalError):
    """Somebody cancelled this invocation: raised at its pending awaits. Compensate, then let it pass."""

    def __init__(self, message: str = "cancelled", /) -> None:
        super().__init__(message, code=409)


class NotDurable(RuntimeError):
    """A handler did IO or waited for something outside ``ctx.run``: after a crash that can't be replayed."""


class JournalMismatch(Exception):
    """The code does something else now than what is recorded; the attempt fails and is retried."""

"""What can go wrong, and what happens then.

* `TerminalError` (and its kind `Cancelled`) ends the invocation: it is recorded and travels to the caller.
* Any other exception of a handler or step is taken for a passing trouble: it is never recorded, the invocation is
  tried again with back-off, and what it did so far is replayed.
* The errors below the line tell the developer about a mistake in the program; they are reported with the attempt.
"""

from __future__ import annotations


class TerminalError(Exception):
    """The invocation (or the durable step that raises this) has failed for good: no retry, the caller gets the error.

    ``code`` is an HTTP status, 400 to 599; ``metadata`` are small texts for programs that handle the error::

        raise TerminalError("not enough money", code=402, account=account)
    """

    def __init__(self, message: str = "", /, *, code: int = 500, **metadata: str) -> None:
        super().__init__(message)
        if not 400 <= code <= 599:
            raise ValueError(f"code of a TerminalError must be an HTTP status from 400 to 599, not {code!r}")
        self.message = message
        self.code = code
        self.metadata = metadata

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.message, self.code, self.metadata)


class Cancelled(TerminalError):
    """Somebody cancelled this invocation. Raised at the awaits that were pending, once; calls that were under way are
    cancelled first. What is awaited afterwards works as always, so that a handler can undo what it did::

        try:
            await ctx.call(ship, order)
        except Cancelled:
            await ctx.run(refund, payment)
            raise
    """

    def __init__(self, message: str = "cancelled", /, *, code: int = 409, **metadata: str) -> None:
        super().__init__(message, code=code, **metadata)


def _rebuild(kind: type[TerminalError], message: str, code: int, metadata: dict[str, str]) -> TerminalError:
    return kind(message, code=code, **metadata)


# ---------------------------------------------------------------- mistakes in the program


class DefinitionError(TypeError):
    """A service or handler is not declared in a way that can be served."""


class InvalidValue(ValueError):
    """A value does not fit its declared type, or can't be serialised."""


class NotDurable(RuntimeError):
    """The handler used something that would not survive a restart, outside of ``ctx.run``."""


class AttemptStopped(BaseException):
    """This attempt is over; nothing that the handler does now is recorded.

    A BaseException, so that ``except Exception`` in a handler does not take it for its own business.
    """


class Suspended(AttemptStopped):
    """The invocation waits for something and has left memory; a later attempt replays it up to here."""


class JournalMismatch(AttemptStopped):
    """The code does something else now than what this invocation's journal has recorded."""

    def __init__(self, message: str, command_index: int, command_type: int, command_name: str) -> None:
        super().__init__(message)
        self.command_index = command_index
        self.command_type = command_type
        self.command_name = command_name

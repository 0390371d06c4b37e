"""Cancelling an invocation: first the calls that it waits for, then itself.

The signal may come before the invocation id of a call is known. It then waits for the id, which the server sends right
after the call; so the order is a matter of the journal, and the same on replay.
"""

from __future__ import annotations

from typing import Any

from holdfast._replay import Journal
from holdfast.context import CallFuture
from holdfast.errors import Cancelled
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import SIGNAL_CANCEL, MessageType


class Cancellation:
    """Keeps the calls of one attempt."""

    __slots__ = ("_calls", "_journal", "carried_out")

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._calls: list[CallFuture[Any]] = []
        self.carried_out = False

    def track(self, call: CallFuture[Any]) -> None:
        self._calls.append(call)

    def ready(self) -> bool:
        """Whether the ids of all calls under way are known."""
        return all(call.done() or call.invocation_id.done() for call in self._calls)

    def carry_out(self) -> bool:
        """Cancel the calls, and raise Cancelled where the handler waits. False when it waits for nothing durable."""
        journal = self._journal
        journal.cancel_requested = False
        self.carried_out = True
        for call in self._calls:
            if not call.done():
                signal_cancel(journal, call.invocation_id.result())
        waiters = list(journal.awaited())
        for waiter in waiters:
            waiter.fail(Cancelled())
        return bool(waiters)


def signal_cancel(journal: Journal, invocation_id: str) -> None:
    message = pb.SendSignalCommandMessage(target_invocation_id=invocation_id, idx=SIGNAL_CANCEL, void=pb.Void())
    journal.command(MessageType.SEND_SIGNAL, message)

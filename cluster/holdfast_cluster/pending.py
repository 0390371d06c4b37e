"""Somebody on the outside who waits: for the result of an invocation, or for its acceptance.

::

    WAITING ──▶ settled once, by whichever comes first: replied / completed / lost (partition), expired, abandoned

The two ingresses bring the answer to their client by subclassing: `on_result`, `on_accepted`, `on_refused`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast_cluster import ingress_error
from holdfast_cluster.ingress_error import IngressError
from holdfast_cluster.payload_rules import AnswerType
from holdfast_log.types import LogError
from holdfast_partition_processor.action import InvocationCompleted, Outcome, Reply
from holdfast_partition_processor.command import Failure
from holdfast_partition_processor.processor import PartitionProcessor

if TYPE_CHECKING:
    from holdfast_cluster.ingress import Ingress


class Pending:
    """Implements `Waiter`. One object per request that waits, so it has slots and no futures."""

    __slots__ = ("id", "ingress", "processor", "request", "settled", "started")

    def __init__(self, ingress: Ingress) -> None:
        self.ingress = ingress
        self.id = b""
        self.processor: PartitionProcessor | None = None
        self.request = 0
        self.started = 0.0
        self.settled = False

    # ------------------------------------------------------------ for subclasses

    def on_result(self, value: bytes | None, failure: Failure | None) -> None:
        raise AssertionError("this request does not wait for a result")

    def on_refused(self, error: IngressError) -> None:
        raise AssertionError("a subclass brings the refusal to its client")

    # ------------------------------------------------------------ Waiter

    def replied(self, reply: Reply) -> None:
        raise AssertionError("this request did not ask for a reply")

    def completed(self, result: InvocationCompleted) -> None:
        if self._settle():
            self.on_result(result.value, result.failure)

    def lost(self, error: LogError) -> None:
        if self._settle():
            self.on_refused(ingress_error.lost(error, self.id))

    # ------------------------------------------------------------ ends

    def refuse(self, error: IngressError) -> None:
        self.let_go()
        if self._settle():
            self.on_refused(error)

    def abandon(self) -> None:
        """The client is gone; the invocation goes on."""
        self.let_go()
        self._settle()

    def let_go(self) -> None:
        if self.processor is not None:
            if self.request:
                self.processor.drop_request(self.request)
            self.processor.forget(self.id, self)

    def _settle(self) -> bool:
        """False: it was settled before."""
        if self.settled:
            return False
        self.settled = True
        self.ingress.finished(self)
        return True


class PendingCall(Pending):
    """Waits for a result. ``stored``: the call found an earlier one with its idempotency key."""

    __slots__ = ("answer_type", "body", "stored")

    def __init__(self, ingress: Ingress) -> None:
        super().__init__(ingress)
        self.answer_type = AnswerType()
        self.body: bytes | None = None  # kept while an idempotency key may turn out to be used
        self.stored = False

    def replied(self, reply: Reply) -> None:
        """Only a call whose id may exist already asked for this: from here on it waits for the result."""
        self.request = 0
        body, self.body = self.body, None
        processor = self.processor
        assert processor is not None, "a request is sent to a processor"
        if reply.outcome is Outcome.CONFLICT:
            self.refuse(IngressError(409, "the workflow method was already invoked", invocation_id=self.id))
            return
        if reply.outcome is Outcome.PREVIOUSLY_ACCEPTED:
            self.stored = True
            if body is not None and (error := self.ingress.other_body(processor, self.id, body)) is not None:
                self.refuse(error)
                return
        if not self.settled:
            processor.wait_for(self.id, self)


class PendingSend(Pending):
    """Waits until the invocation is durable."""

    __slots__ = ("body", "execute_at_ms")

    def __init__(self, ingress: Ingress) -> None:
        super().__init__(ingress)
        self.body: bytes | None = None
        self.execute_at_ms = 0

    def on_accepted(self, previously: bool) -> None:
        raise AssertionError("a subclass brings the answer to its client")

    def replied(self, reply: Reply) -> None:
        self.request = 0
        processor = self.processor
        assert processor is not None, "a request is sent to a processor"
        previously = reply.outcome is not Outcome.ACCEPTED
        if previously:
            row = processor.invocation(self.id)
            self.execute_at_ms = row.execute_at_ms if row is not None else 0
            if self.body is not None and (error := self.ingress.other_body(processor, self.id, self.body)) is not None:
                self.refuse(error)
                return
        if self._settle():
            self.on_accepted(previously)


class PendingSignal(Pending):
    """Waits until an awakeable's completion is durable."""

    __slots__ = ()

    def on_accepted(self) -> None:
        raise AssertionError("a subclass brings the answer to its client")

    def replied(self, reply: Reply) -> None:
        self.request = 0
        if reply.outcome is Outcome.NOT_FOUND:
            self.refuse(ingress_error.not_found(self.id))
        elif self._settle():
            self.on_accepted()

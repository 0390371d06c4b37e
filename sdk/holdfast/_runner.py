"""What runs a handler: an event loop of its own (`_async_runner`) or a thread (`_thread_runner`)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from holdfast._wire import Decode
from holdfast.context import Awakeable, CallFuture, Future
from holdfast_proto import protocol_pb2 as pb

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the handler ended."""

    value: Any = None
    error: BaseException | None = None


class DurableFuture(CallFuture[T], Awakeable[T]):
    """What a runner makes: a `Future` for the handler, a `Waiter` for the journal. One class serves as `CallFuture` and
    `Awakeable` too, since they differ in nothing but a member that is set for them."""

    invocation_id_future: Future[str]
    awakeable_id: str

    @property
    def invocation_id(self) -> Future[str]:
        return self.invocation_id_future

    @property
    def id(self) -> str:
        return self.awakeable_id

    @property
    @abstractmethod
    def awaited(self) -> bool: ...

    @abstractmethod
    def complete(self, notification: pb.Notification) -> None: ...

    @abstractmethod
    def fail(self, error: BaseException) -> None: ...


class Runner(Protocol):
    """Runs one handler until it rests, hands it one notification, runs it until it rests, and so on."""

    @property
    def outcome(self) -> Outcome | None:
        """Set when the handler has ended, or can't go on."""
        ...

    @property
    def resting(self) -> bool:
        """Whether the handler waits and the attempt may end now. False while a thread still runs it."""
        ...

    @property
    def wanted(self) -> bool:
        """Whether somebody else needs what this handler holds while it rests."""
        ...

    def start(self, function: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]) -> None: ...

    def advance(self) -> None:
        """Hand over all notifications that are there. Calls `rested`, now or later, each time the handler rests and
        there is none left, or it has ended."""
        ...

    def close(self) -> None:
        """End the handler without letting it do anything more."""
        ...

    def future(self, decode: Decode[T]) -> DurableFuture[T]:
        """A future for the handler to wait for."""
        ...

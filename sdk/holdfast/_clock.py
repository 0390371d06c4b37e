"""Time as a handler sees it: known from its journal only, so that it is the same on replay.

The one recorded command that holds a time is Sleep. When one is issued, "now" is its wake-up time less its length; when
it is completed, at least its wake-up time is reached. Between those the handler's clock stands still: it is a lower
bound of the real one, counted from an origin of its own.
"""

from __future__ import annotations

from collections.abc import Callable

from holdfast._replay import Journal, Waiter
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import MessageType

NOW = "now"


class HandlerClock:
    """Timers and the time of one attempt. All times in milliseconds."""

    __slots__ = ("_asked_at", "_journal", "_now_ms", "_origin_ms", "_time_ms", "_wall_ms")

    def __init__(self, journal: Journal, wall_ms: Callable[[], int]) -> None:
        self._journal = journal
        self._wall_ms = wall_ms
        self._time_ms = 0  # on the handler's clock
        self._origin_ms: int | None = None  # real time at which the handler's clock was at 0
        self._now_ms = 0
        self._asked_at = -1  # number of notifications seen when the time was last asked for

    def time_ms(self) -> int:
        return self._time_ms

    def sleep(self, length_ms: int, waiter: Waiter, name: str = "") -> int:
        """Complete ``waiter`` after ``length_ms``. Gives the real time at which that is due."""
        wake_up_ms = self._issue(self._wall_ms() + length_ms, waiter, name)
        self._reached(wake_up_ms - length_ms)
        return wake_up_ms

    def slept(self, wake_up_ms: int) -> None:
        """A sleep until then was completed."""
        self._reached(wake_up_ms)

    def now_ms(self) -> int:
        """The real time, recorded; asked for again without a notification in between, the same time.

        Recorded as a sleep that is over when it begins: of all commands only Sleep holds a time that replay does not
        compare, and so hands back.
        """
        if self._asked_at != self._journal.delivered:
            self._now_ms = self._issue(self._wall_ms(), None, NOW)
            self._asked_at = self._journal.delivered
            self._reached(self._now_ms)
        return self._now_ms

    def _issue(self, wake_up_ms: int, waiter: Waiter | None, name: str) -> int:
        journal = self._journal
        journal.check()
        number = journal.completion_id()
        message = pb.SleepCommandMessage(wake_up_time=wake_up_ms, result_completion_id=number, name=name)
        recorded = journal.command(MessageType.SLEEP, message)
        if waiter is not None:
            journal.wait(number, waiter)
        return wake_up_ms if recorded is None else pb.SleepCommandMessage.FromString(recorded).wake_up_time

    def _reached(self, real_ms: int) -> None:
        if self._origin_ms is None:
            self._origin_ms = real_ms - self._time_ms
        self._time_ms = max(self._time_ms, real_ms - self._origin_ms)

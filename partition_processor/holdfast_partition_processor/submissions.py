"""Commands of attempts on their way to the log, in the order in which they came, also while the log takes none.

A command that was refused for want of room waits here with all that come after it, whichever attempt they are of: an
attempt's commands never overtake each other. The line is bounded by the credit that endpoints have, because none is
given for frames that are not stored.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Protocol

from holdfast_log.types import LogFull, NotLeader, Overloaded
from holdfast_partition_processor.attempt import Attempt
from holdfast_partition_processor.command import AttemptFailed, Effects

logger = logging.getLogger(__name__)


class Timer(Protocol):
    def cancel(self) -> None: ...


class Submissions:
    """``submit`` may raise Overloaded, LogFull, NotLeader. ``later`` calls back after a short while. ``on_last_taken``
    is told of each attempt whose last command was taken, ``on_flowing`` that nothing waits any more, ``on_deposed``
    that this node leads no longer."""

    def __init__(
        self,
        submit: Callable[[Effects | AttemptFailed], None],
        later: Callable[[Callable[[], None]], Timer],
        on_last_taken: Callable[[Attempt], None],
        on_flowing: Callable[[], None],
        on_deposed: Callable[[], None],
    ) -> None:
        self._submit = submit
        self._later = later
        self._on_last_taken = on_last_taken
        self._on_flowing = on_flowing
        self._on_deposed = on_deposed
        self._waiting: deque[tuple[Effects | AttemptFailed, Attempt, bool]] = deque()
        self._timer: Timer | None = None

    @property
    def blocked(self) -> bool:
        return bool(self._waiting)

    def put(self, command: Effects | AttemptFailed, attempt: Attempt, last: bool) -> None:
        """``last``: the attempt is over with this command."""
        if self._waiting:
            self._waiting.append((command, attempt, last))
            return
        try:
            self._submit(command)
        except (Overloaded, LogFull) as error:
            logger.warning("the log takes no more, attempts wait: %s", error)
            self._waiting.append((command, attempt, last))
            self._timer = self._later(self._try_again)
        except NotLeader:
            self._on_deposed()  # the next leader runs its invocations again from their journals
        else:
            if last:
                self._on_last_taken(attempt)

    def close(self) -> None:
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _try_again(self) -> None:
        while self._waiting:
            command, attempt, last = self._waiting[0]
            try:
                self._submit(command)
            except (Overloaded, LogFull):
                self._timer = self._later(self._try_again)
                return
            except NotLeader:
                self._on_deposed()
                return
            self._waiting.popleft()
            if last:
                self._on_last_taken(attempt)
        self._on_flowing()

"""How often and how fast something is tried again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

Duration = float | timedelta
"""Seconds, or a timedelta."""


def to_ms(duration: Duration, what: str = "duration") -> int:
    """Milliseconds, rounded up so that a short wait never becomes none. Raises ValueError for negative ones."""
    seconds = duration.total_seconds() if isinstance(duration, timedelta) else duration
    if not 0 <= seconds < 1e12:  # also refuses nan
        raise ValueError(f"{what} must be zero or more seconds, not {duration!r}")
    milliseconds = int(seconds * 1000)
    return milliseconds + (milliseconds < seconds * 1000 - 1e-6)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential back-off: the first retry after ``initial_interval``, each next one ``factor`` times later, never
    more than ``max_interval`` apart.

    It ends after ``max_attempts`` executions (the first one counts) or when ``max_duration`` has passed, whichever
    comes first; None is "no such limit". What happens then depends on what is retried: a step fails with a
    TerminalError, an invocation is paused or killed as ``on_max_attempts`` of its handler says.
    """

    initial_interval: Duration = 0.5
    factor: float = 2.0
    max_interval: Duration = 60.0
    max_attempts: int | None = None
    max_duration: Duration | None = None

    def __post_init__(self) -> None:
        to_ms(self.initial_interval, "initial_interval")
        to_ms(self.max_interval, "max_interval")
        if not 1.0 <= self.factor <= 1e6:
            raise ValueError(f"factor must be from 1 to a million, not {self.factor!r}")
        if self.max_attempts is not None and self.max_attempts < 1:
            raise ValueError(f"max_attempts counts the first execution too: at least 1, not {self.max_attempts!r}")
        if self.max_duration is not None:
            to_ms(self.max_duration, "max_duration")

    def delay_ms(self, failures: int) -> int:
        """How long to wait after this many failures (at least 1)."""
        longest = to_ms(self.max_interval)
        growth = self.factor ** min(failures - 1, 64)
        return min(longest, int(to_ms(self.initial_interval) * growth))

    def exhausted(self, failures: int, elapsed_ms: int) -> bool:
        """Whether this many failures, over ``elapsed_ms``, are enough."""
        if self.max_attempts is not None and failures >= self.max_attempts:
            return True
        return self.max_duration is not None and elapsed_ms >= to_ms(self.max_duration)

"""How a durable step is retried."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """After ``max_attempts`` failures the step fails for good with a TerminalError. None retries for ever."""

    max_attempts: int | None = None
    initial_interval: timedelta = timedelta(milliseconds=100)
    factor: float = 2.0
    max_interval: timedelta = timedelta(seconds=30)

    def delay_ms(self, failed: int) -> int:
        """Before the next attempt, when ``failed`` attempts have failed."""
        first = self.initial_interval / timedelta(milliseconds=1)
        longest = self.max_interval / timedelta(milliseconds=1)
        return int(min(first * self.factor ** min(failed - 1, 64), longest))

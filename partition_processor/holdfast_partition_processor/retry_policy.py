"""What follows a failed attempt: exponential back-off with jitter, then pause or give up."""

from __future__ import annotations

from holdfast_partition_processor.catalog import Settings
from holdfast_partition_processor.command import GiveUp, Pause, Retry

JITTER = 0.3
"""A delay is shortened by up to this share, so that invocations that failed together do not come back together."""


def decide(settings: Settings, failed_before: int, now_ms: int, jitter: float) -> Retry | Pause | GiveUp:
    """``failed_before`` counts the failed attempts since the last stored command; ``jitter`` is in [0, 1)."""
    if failed_before + 1 >= settings.retry_max_attempts:
        return GiveUp() if settings.retry_on_max_attempts == "kill" else Pause()
    exponent = min(failed_before, 64)
    delay = min(settings.retry_initial_interval_ms * settings.retry_factor**exponent, settings.retry_max_interval_ms)
    return Retry(now_ms + max(1, int(delay * (1 - JITTER * jitter))))

"""What follows a failed attempt: another one after a growing pause, or the end of the retries.

::

    failed before    0        1        2      ...    max_attempts - 1
    then             initial  x factor x factor²     pause or give up
"""

from __future__ import annotations

from holdfast_partition_processor.catalog import Settings
from holdfast_partition_processor.command import GiveUp, Pause, Retry

JITTER = 0.3
"""A delay grows by up to this share, so that invocations that failed together do not come back together. It never
shrinks: an endpoint is given at least the pause that was configured."""
DELAY_MS_MAX = 365 * 86_400_000
"""Longest pause that an endpoint may ask for: a year. Its invocation can be resumed or cancelled before."""


def decide(
    settings: Settings, failed_before: int, now_ms: int, jitter: float, asked_delay_ms: int | None = None
) -> Retry | Pause | GiveUp:
    """``failed_before`` counts the failed attempts since the last stored command, ``jitter`` is in [0, 1).
    ``asked_delay_ms`` is what the endpoint wished for this once; it replaces the pause, not the limit of attempts."""
    assert 0 <= jitter < 1
    if failed_before + 1 >= settings.retry_max_attempts:
        return GiveUp() if settings.retry_on_max_attempts == "kill" else Pause()
    if asked_delay_ms is not None:
        return Retry(now_ms + min(asked_delay_ms, DELAY_MS_MAX))
    return Retry(now_ms + int(_interval_ms(settings, failed_before) * (1 + JITTER * jitter)))


def _interval_ms(settings: Settings, failed_before: int) -> float:
    try:
        grown = settings.retry_initial_interval_ms * settings.retry_factor**failed_before
    except OverflowError:
        return settings.retry_max_interval_ms
    return min(grown, settings.retry_max_interval_ms)

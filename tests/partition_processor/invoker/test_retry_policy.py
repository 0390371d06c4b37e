from __future__ import annotations

import pytest

from holdfast_partition_processor.catalog import Settings
from holdfast_partition_processor.command import GiveUp, Pause, Retry
from holdfast_partition_processor.retry_policy import JITTER, decide

SETTINGS = Settings(
    retry_initial_interval_ms=500, retry_max_interval_ms=60_000, retry_factor=2.0, retry_max_attempts=70
)


def delay_ms(failed_before: int, jitter: float = 0.0, settings: Settings = SETTINGS, asked: int | None = None) -> int:
    decided = decide(settings, failed_before, 1_000_000, jitter, asked)
    assert isinstance(decided, Retry)
    return decided.at_ms - 1_000_000


def test_the_pause_doubles_up_to_the_longest() -> None:
    assert [delay_ms(n) for n in range(9)] == [500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]


def test_jitter_only_lengthens() -> None:
    assert delay_ms(0, 0.5) == 500 + int(500 * JITTER * 0.5)
    assert 500 <= delay_ms(0, 0.999) < 500 * (1 + JITTER)


def test_growth_beyond_what_floats_hold_is_the_longest_pause() -> None:
    settings = Settings(retry_factor=1_000.0, retry_max_attempts=10**9, retry_max_interval_ms=60_000)
    assert delay_ms(10**6, settings=settings) == 60_000


@pytest.mark.parametrize(("on_max", "expected"), [("pause", Pause()), ("kill", GiveUp())])
def test_the_last_attempt_is_counted_right(on_max: str, expected: Pause | GiveUp) -> None:
    settings = Settings(retry_max_attempts=3, retry_on_max_attempts=on_max)
    assert isinstance(decide(settings, 1, 0, 0.0), Retry)  # the second of three has failed
    assert decide(settings, 2, 0, 0.0) == expected
    assert decide(settings, 2, 0, 0.0, asked_delay_ms=5) == expected


def test_a_delay_that_was_asked_for_is_kept_to_without_jitter() -> None:
    assert delay_ms(5, 0.9, asked=0) == 0
    assert delay_ms(0, 0.9, asked=123_456) == 123_456
    assert delay_ms(0, asked=2**63) == 365 * 86_400_000

"""Durations and sizes: what people write, and what must not pass for one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast_cluster.quantity import BadQuantity, format_duration, format_size, parse_duration, parse_size

DURATIONS = {
    "0": 0,
    "5ms": 5,
    "60s": 60_000,
    "1.5s": 1_500,
    "15m": 900_000,
    "1h 30m": 5_400_000,
    "1h30m": 5_400_000,
    "2 days": 172_800_000,
    "1w": 604_800_000,
    "PT1S": 1_000,
    "PT0.5S": 500,
    "pt1m30s": 90_000,
    "P1DT2H": 93_600_000,
    "P2W": 1_209_600_000,
}
NOT_DURATIONS = [
    "",
    " ",
    "5",
    "s",
    "-5s",
    "5 parsec",
    "1e9s",
    "P",
    "PT",
    "P1H",
    "PT5",
    "1h x",
    "10000 w",
    "∞",
    "1" * 99,
]

SIZES = {"0": 0, "512B": 512, "64KiB": 65_536, "4 KiB": 4_096, "1GB": 10**9, "0.5KiB": 512, "32mib": 33_554_432}
NOT_SIZES = ["", "5", "KiB", "-1B", "1.1B", "5 km", "9999TiB"]


@pytest.mark.parametrize(("text", "milliseconds"), DURATIONS.items())
def test_durations(text: str, milliseconds: int) -> None:
    assert parse_duration(text) == milliseconds


@pytest.mark.parametrize("text", NOT_DURATIONS)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(BadQuantity):
        parse_duration(text)


@pytest.mark.parametrize(("text", "size"), SIZES.items())
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", NOT_SIZES)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(BadQuantity):
        parse_size(text)


@given(st.integers(0, 10**12))
def test_what_is_shown_can_be_written(number: int) -> None:
    assert parse_duration(format_duration(number)) == number
    assert parse_size(format_size(number)) == number


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    for parse in (parse_duration, parse_size):
        try:
            assert parse(text) >= 0
        except BadQuantity as error:
            assert str(error)

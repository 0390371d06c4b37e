"""Durations and sizes as people write them: "15m", "1h 30m", "PT1M30S", "500ms"; "32MiB", "4 KiB", "1GB"."""

from __future__ import annotations

import re

DURATION_MS_MAX = 100 * 365 * 24 * 60 * 60 * 1000
"""A hundred years: more is a mistake in the unit, and would not fit into every clock."""
SIZE_BYTES_MAX = 1 << 50

_MS = {
    **dict.fromkeys(("ms", "msec", "millis", "millisecond", "milliseconds"), 1),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1_000),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60_000),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3_600_000),
    **dict.fromkeys(("d", "day", "days"), 86_400_000),
    **dict.fromkeys(("w", "week", "weeks"), 7 * 86_400_000),
}
_BYTES = {
    **dict.fromkeys(("b", "byte", "bytes"), 1),
    **{unit: 1024 ** (power + 1) for power, unit in enumerate(("kib", "mib", "gib", "tib"))},
    **{unit: 1000 ** (power + 1) for power, unit in enumerate(("kb", "mb", "gb", "tb"))},
}
_PART = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]+)\s*,?")
_NUMBER = r"(\d+(?:[.,]\d+)?)"
_ISO = re.compile(
    rf"P(?:{_NUMBER}W)?(?:{_NUMBER}D)?(?:T(?:{_NUMBER}H)?(?:{_NUMBER}M)?(?:{_NUMBER}S)?)?", re.ASCII | re.IGNORECASE
)
_ISO_MS = (7 * 86_400_000, 86_400_000, 3_600_000, 60_000, 1_000)


class BadQuantity(ValueError):
    """Not a duration or size; the message says what is allowed."""


def parse_duration(text: str) -> int:
    """Milliseconds, a fraction of one rounded. Raises BadQuantity."""
    total = _iso_ms(text) if text[:1] in ("P", "p") else _sum_of_parts(text, _MS)
    if total is None:
        raise BadQuantity(f"{text[:80]!r} is not a duration, as in 500ms, 60s, 15m, 1h 30m, 7d or PT1M30S")
    if total > DURATION_MS_MAX:
        raise BadQuantity(f"{text[:80]!r} is longer than a hundred years")
    return round(total)


def parse_size(text: str) -> int:
    """Bytes. Raises BadQuantity."""
    total = _sum_of_parts(text, _BYTES)
    if total is None:
        raise BadQuantity(f"{text[:80]!r} is not a size, as in 512B, 64KiB, 32MiB, 2GiB or 1GB")
    if total > SIZE_BYTES_MAX or total != int(total):
        raise BadQuantity(f"{text[:80]!r} is not a whole number of bytes below 1 PiB")
    return int(total)


def format_duration(milliseconds: int) -> str:
    """The shortest exact form with one unit: 90000 is "90s"."""
    for unit in ("d", "h", "m", "s"):
        if milliseconds and milliseconds % _MS[unit] == 0:
            return f"{milliseconds // _MS[unit]}{unit}"
    return f"{milliseconds}ms"


def format_size(size: int) -> str:
    for unit, name in ((1024**3, "GiB"), (1024**2, "MiB"), (1024, "KiB")):
        if size and size % unit == 0:
            return f"{size // unit}{name}"
    return f"{size}B"


def _sum_of_parts(text: str, units: dict[str, int]) -> float | None:
    position, total = 0, 0.0
    if text.strip() == "0":
        return 0
    while position < len(text.rstrip()):
        part = _PART.match(text, position)
        if part is None or part[2].lower() not in units or len(part[1]) > 20:
            return None
        total += float(part[1]) * units[part[2].lower()]
        position = part.end()
    return total if position else None


def _iso_ms(text: str) -> float | None:
    match = _ISO.fullmatch(text)
    if match is None or text[-1] in "PpTt" or len(text) > 80:
        return None
    return sum(
        float(number.replace(",", ".")) * unit for number, unit in zip(match.groups(), _ISO_MS, strict=True) if number
    )

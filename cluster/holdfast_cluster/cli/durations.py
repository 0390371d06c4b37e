"""Durations and moments as people type and read them on a command line."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from holdfast_cluster.quantity import BadQuantity, parse_duration


class DurationType(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.2 only
    """Seconds as a float."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, int | float):
            return float(value)
        try:
            return parse_duration(str(value)) / 1_000
        except BadQuantity as error:
            self.fail(str(error), param, ctx)


def span_words(milliseconds: int) -> str:
    """ "12 ms", "3.4 s", "5m 10s", "2h 3m", "4d 1h"."""
    if milliseconds < 1_000:
        return f"{max(0, milliseconds)} ms"
    seconds = milliseconds / 1_000
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, hours = int(seconds // 60), int(seconds // 3600)
    if minutes < 60:
        return f"{minutes}m {int(seconds % 60)}s"
    if hours < 48:
        return f"{hours}h {minutes % 60}m"
    return f"{hours // 24}d {hours % 24}h"


def local_time(milliseconds: int) -> str:
    """A moment in the time zone of whoever reads it, to the second."""
    return datetime.fromtimestamp(milliseconds / 1_000, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def now_ms() -> int:
    import time

    return time.time_ns() // 1_000_000

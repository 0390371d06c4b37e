"""A line on stderr that shows how far long work is. Only on a terminal, and only once the work has taken a while."""

from __future__ import annotations

import sys
import time
from types import TracebackType

SILENT_SECONDS = 0.5
REDRAW_SECONDS = 0.1


class Progress:
    def __init__(self) -> None:
        self._began = time.monotonic()
        self._drawn = 0.0
        self._width = 0
        self._visible = sys.stderr.isatty()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._width:
            self._write("")

    def show(self, text: str) -> None:
        now = time.monotonic()
        if self._visible and now - self._began > SILENT_SECONDS and now - self._drawn > REDRAW_SECONDS:
            self._drawn = now
            self._write(text)

    def _write(self, text: str) -> None:
        sys.stderr.write(f"\r{text:<{self._width}}" + ("" if text else "\r"))
        sys.stderr.flush()
        self._width = len(text)

"""Where in the user's code something happened. Only looked up when there is something to report."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from pathlib import Path
from types import FrameType
from typing import Any

_HERE = str(Path(__file__).parent)
_ASYNCIO = str(Path(asyncio.__file__).parent)


def caller() -> str:
    """``file:line, in function`` of the innermost frame on the stack that is neither ours nor asyncio's."""
    frame: FrameType | None = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    while frame is not None:
        if not _is_foreign(frame):
            return _show(frame)
        frame = frame.f_back
    return "unknown place"


def awaiting(coroutine: Coroutine[Any, Any, Any]) -> str:
    """Where ``coroutine`` stands: the innermost await of the user's own code."""
    found = "unknown place"
    current: Any = coroutine
    while current is not None:
        frame: FrameType | None = getattr(current, "cr_frame", None) or getattr(current, "gi_frame", None)
        if frame is not None and not _is_foreign(frame):
            found = _show(frame)
        current = getattr(current, "cr_await", None) or getattr(current, "gi_yieldfrom", None)
    return found


def _is_foreign(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith((_HERE, _ASYNCIO, "<frozen"))


def _show(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno}, in {frame.f_code.co_name}"

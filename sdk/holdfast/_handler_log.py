"""Log lines of a handler: with its invocation id, and each written once."""

from __future__ import annotations

import logging
from typing import Any, Protocol


class Replays(Protocol):
    @property
    def replaying(self) -> bool: ...


class HandlerLogger(logging.LoggerAdapter[logging.Logger]):
    """Silent while the attempt replays, so that each line is written once."""

    def __init__(self, service: str, invocation_id: str, attempt: Replays) -> None:
        super().__init__(logging.getLogger(f"holdfast.handler.{service}"), {})
        self._invocation_id = invocation_id
        self._attempt = attempt

    def isEnabledFor(self, level: int) -> bool:
        return not self._attempt.replaying and super().isEnabledFor(level)

    def process(self, msg: Any, kwargs: Any) -> tuple[Any, Any]:
        return f"[{self._invocation_id}] {msg}", kwargs

"""Log records that know their invocation, and are silent while recorded steps are replayed.

``serve`` sets this up. Where a program has its own logging, put an `InvocationFilter` on its handlers (on the handlers,
not on a logger: a logger's filters do not see what its children log)::

    for handler in logging.getLogger().handlers:
        handler.addFilter(holdfast.logging.InvocationFilter())
"""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any

from holdfast._invocation import Invocation, current

FORMAT = "%(asctime)s %(levelname)-7s %(name)s %(invocation)s%(message)s"


class InvocationFilter(logging.Filter):
    """Gives each record the fields ``invocation_id``, ``service``, ``handler``, ``key`` and ``attempt`` (empty outside
    of handlers) and ``invocation``, all in one for people; and drops what a handler logs while it is replayed."""

    def filter(self, record: logging.LogRecord) -> bool:
        invocation: Invocation | None
        invocation, in_handler = getattr(record, "holdfast", None) or current()
        if invocation is None:
            _mark(record, "", "", "", "", "", 0)
            return True
        if in_handler and invocation.replaying:
            return False
        prefix = f"[{invocation.path} {invocation.id}] "
        _mark(record, prefix, invocation.id, invocation.service, invocation.handler, invocation.key, invocation.attempt)
        return True


class InvocationLogger(logging.LoggerAdapter[logging.Logger]):
    """``ctx.log``: silent during replay whether or not the filter is installed."""

    def __init__(self, logger: logging.Logger, invocation: Invocation) -> None:
        super().__init__(logger, {})
        self._invocation = invocation

    def isEnabledFor(self, level: int) -> bool:
        return not self._invocation.replaying and self.logger.isEnabledFor(level)

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        kwargs["extra"] = {**(kwargs.get("extra") or {}), "holdfast": (self._invocation, True)}
        return msg, kwargs


def set_up(level: int = logging.INFO) -> None:
    """Install the filter on all handlers of the root logger, after giving it one if it has none."""
    root = logging.getLogger()
    if not root.handlers:
        stream = logging.StreamHandler()
        stream.setFormatter(logging.Formatter(FORMAT))
        root.addHandler(stream)
        root.setLevel(level)
    for handler in root.handlers:
        if not any(isinstance(present, InvocationFilter) for present in handler.filters):
            handler.addFilter(InvocationFilter())


def _mark(record: logging.LogRecord, prefix: str, id: str, service: str, handler: str, key: str, attempt: int) -> None:
    record.invocation = prefix
    record.invocation_id = id
    record.service = service
    record.handler = handler
    record.key = key
    record.attempt = attempt

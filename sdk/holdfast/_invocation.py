"""Which invocation this is: what log records say, and what a context tells about itself."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextvars import ContextVar

from holdfast._replay import Journal


class Invocation:
    """One attempt's view of its invocation."""

    __slots__ = ("_journal", "attempt", "body", "handler", "headers", "id", "key", "random_seed", "raw_id", "service")

    def __init__(self, service: str, handler: str, key: str, id: str, attempt: int, journal: Journal) -> None:
        self.service = service
        self.handler = handler
        self.key = key
        self.id = id
        self.attempt = attempt
        self._journal = journal
        # The next four come with the first frames.
        self.raw_id = b""
        self.random_seed = 0
        self.headers: Mapping[str, str] = {}
        self.body = b""

    @property
    def path(self) -> str:
        return f"{self.service}/{self.key}/{self.handler}" if self.key else f"{self.service}/{self.handler}"

    @property
    def replaying(self) -> bool:
        return self._journal.replaying


CURRENT: ContextVar[tuple[Invocation | None, bool]] = ContextVar("holdfast_invocation", default=(None, False))
"""Set in threads and tasks that work for an invocation outside of its event loop; see `current`."""


def current() -> tuple[Invocation | None, bool]:
    """The invocation that the caller works for, and whether the caller is its handler and not one of its steps."""
    loop = asyncio._get_running_loop()
    invocation = getattr(loop, "invocation", None)
    if isinstance(invocation, Invocation):
        return invocation, True
    return CURRENT.get()

"""The world outside the workflows, as files that outlive every process: what was done, and the payment provider.

Both write a line and fsync it before they answer, so an audit after the crashes sees all that ever happened.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Ledger:
    """An append-only file of JSON lines."""

    path: Path
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def append(self, **row: str | int) -> None:
        line = json.dumps(row).encode() + b"\n"
        with self._lock:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                os.write(descriptor, line)  # one write: a kill leaves the line whole or not there
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def rows(self) -> Iterator[dict[str, str | int]]:
        if self.path.exists():
            yield from map(json.loads, self.path.read_text().splitlines())


class Effects:
    """Each run of a step leaves one line. A step may run again when a crash hit it before its result was durable;
    its ``take`` is new each time, so the workflow's result shows which run counted."""

    def __init__(self, path: Path) -> None:
        self._ledger = Ledger(path)

    def record(self, key: str, step: str, take: str) -> None:
        self._ledger.append(key=key, step=step, take=take)


class Payments:
    """A payment provider as real ones are: a request with a reference that it has seen is answered, not repeated.

    ``asked`` lines count the requests, ``charge`` and ``refund`` lines move money.
    """

    def __init__(self, path: Path) -> None:
        self._ledger = Ledger(path)
        self._lock = threading.Lock()
        moved = [row for row in self._ledger.rows() if row["kind"] != "asked"]
        self._known = {(str(row["kind"]), str(row["reference"])): str(row["receipt"]) for row in moved}

    def charge(self, reference: str, cents: int) -> str:
        return self._move("charge", reference, cents)

    def refund(self, reference: str) -> str:
        return self._move("refund", reference, 0)

    def _move(self, kind: str, reference: str, cents: int) -> str:
        self._ledger.append(kind="asked", what=kind, reference=reference)
        with self._lock:
            receipt = self._known.get((kind, reference))
            if receipt is None:
                receipt = f"{kind}-{len(self._known) + 1}"
                self._ledger.append(kind=kind, reference=reference, cents=cents, receipt=receipt)
                self._known[kind, reference] = receipt
            return receipt

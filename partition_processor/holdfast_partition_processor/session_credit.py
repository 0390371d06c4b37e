"""Flow control of one direction of a stream, or of all streams of a session together: arithmetic only.

::

    sender: SendCredit(window)                 receiver: ReceiveWindow(window)
      spend(n)    ──── n bytes of frames ────▶   received(n)      more than is allowed: CreditExceeded
                                                 ...stored, or not wanted any more...
      grant(n)    ◀──── Credit frame (n) ─────   consumed(n) -> n  once half the window was consumed, else 0

A sender sends while its balance is above zero, and its last piece may overdraw it: so a frame that is larger than the
whole window still passes, and nobody waits for credit that can't come. Returning credit by halves costs one Credit
frame per half a window; a short stream never causes any.

Some peers send only what their balance covers, and something larger than the window only when all of their credit is
back. For them `settle` returns the rest when nothing is outstanding; called now and then, not for each frame.
"""

from __future__ import annotations

BALANCE_BYTES_MAX = 1 << 62
"""A peer that grants absurd amounts is not believed beyond this."""


class CreditExceeded(Exception):
    """The peer sent more than it was allowed to. The message is for people."""


class SendCredit:
    """``balance``: bytes that may still be sent; below zero after an overdraft."""

    __slots__ = ("balance",)

    def __init__(self, window_bytes: int) -> None:
        self.balance = window_bytes

    def spend(self, size: int) -> None:
        self.balance -= size

    def grant(self, size: int) -> None:
        self.balance = min(self.balance + size, BALANCE_BYTES_MAX)


class ReceiveWindow:
    """What a receiver holds of a peer's bytes. Invariant: ``0 <= _ungranted <= _outstanding``."""

    __slots__ = ("_outstanding", "_overdraft", "_ungranted", "_window")

    def __init__(self, window_bytes: int, overdraft_bytes_max: int) -> None:
        self._window = window_bytes
        self._overdraft = overdraft_bytes_max
        self._outstanding = 0  # received, and no credit given for it yet
        self._ungranted = 0  # of those: consumed, so credit may be given

    @property
    def unconsumed(self) -> int:
        """Bytes received that nobody has consumed yet."""
        return self._outstanding - self._ungranted

    def received(self, size: int) -> None:
        """Raises CreditExceeded."""
        self._outstanding += size
        if self._outstanding > self._window + self._overdraft:
            allowed = f"{self._window} bytes and one message of {self._overdraft}"
            raise CreditExceeded(f"{self._outstanding} bytes sent without credit, allowed are {allowed}")

    def consumed(self, size: int) -> int:
        """How many bytes of credit to give now."""
        self._ungranted += size
        assert self._ungranted <= self._outstanding, "only what was received can be consumed"
        if 2 * self._ungranted < self._window:
            return 0
        granted, self._ungranted = self._ungranted, 0
        self._outstanding -= granted
        return granted

    def settle(self) -> int:
        """How many bytes of credit to give because everything received is consumed."""
        if self.unconsumed:
            return 0
        granted, self._outstanding, self._ungranted = self._ungranted, 0, 0
        return granted

"""What a leader knows about one voter, itself included."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Progress:
    match: int = 0
    """Highest index known to be durable there. Never goes back within a term: a voter keeps what it acknowledged."""

    def acknowledge(self, index: int) -> bool:
        """Returns whether that is news."""
        if index <= self.match:
            return False
        self.match = index
        return True

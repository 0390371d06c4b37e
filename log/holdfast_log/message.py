"""What the voters of a group tell each other. Values; the transport and the node itself carry them.

Every message is a promise about the sender's disk, so it is on its way only after the writes of the same `Ready` are
durable. A node's messages to itself go the same way: it counts its own vote and its own acknowledgement like
anybody's, and no earlier.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class VoteReply:
    """``sender`` has written down whom it votes for in ``term``."""

    sender: str
    to: str
    term: int
    granted: bool


@dataclass(frozen=True, slots=True)
class AppendReply:
    """``sender`` has the entries up to ``index``, as the leader of ``term`` knows them, on its disk."""

    sender: str
    to: str
    term: int
    index: int


Message = VoteReply | AppendReply

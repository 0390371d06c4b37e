"""Majorities: which index a group has acknowledged, and how a vote stands. Pure arithmetic.

A group's voters are one set, or two while its membership changes (joint consensus, Raft dissertation, section 4.3):
then a majority of each is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum


class Vote(Enum):
    PENDING = "pending"
    WON = "won"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Voters:
    """``outgoing`` is empty unless the membership is being changed from it to ``incoming``."""

    incoming: frozenset[str]
    outgoing: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        assert self.incoming, "a group without voters can't decide anything"

    def all(self) -> frozenset[str]:
        return self.incoming | self.outgoing

    def committed(self, acknowledged: Callable[[str], int]) -> int:
        """The highest index that is durable at a quorum."""
        index = _majority_index(self.incoming, acknowledged)
        return min(index, _majority_index(self.outgoing, acknowledged)) if self.outgoing else index

    def result(self, votes: Mapping[str, bool]) -> Vote:
        """``votes`` holds those who have answered."""
        result = _majority_vote(self.incoming, votes)
        if not self.outgoing:
            return result
        other = _majority_vote(self.outgoing, votes)
        if result is other:
            return result
        return Vote.LOST if Vote.LOST in (result, other) else Vote.PENDING


def _majority(voters: frozenset[str]) -> int:
    return len(voters) // 2 + 1


def _majority_index(voters: frozenset[str], acknowledged: Callable[[str], int]) -> int:
    descending = sorted(map(acknowledged, voters), reverse=True)
    return descending[_majority(voters) - 1]


def _majority_vote(voters: frozenset[str], votes: Mapping[str, bool]) -> Vote:
    granted = sum(votes.get(voter, False) for voter in voters)
    refused = sum(not votes.get(voter, True) for voter in voters)
    if granted >= _majority(voters):
        return Vote.WON
    return Vote.LOST if len(voters) - refused < _majority(voters) else Vote.PENDING

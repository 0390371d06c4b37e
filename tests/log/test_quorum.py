"""Quorum arithmetic against a twin that is too simple to be wrong."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from holdfast_log.quorum import Vote, Voters

NAMES = ("a", "b", "c", "d", "e")
groups = st.sets(st.sampled_from(NAMES), min_size=1).map(frozenset)
voters = st.builds(Voters, groups, st.one_of(st.just(frozenset()), groups))


def quorums(group: frozenset[str]) -> list[set[str]]:
    """Every subset that is more than half."""
    return [set(some) for size in range(len(group) + 1) for some in combinations(group, size) if size * 2 > len(group)]


def decides(group: Voters, agreeing: set[str]) -> bool:
    sets = [group.incoming, *([group.outgoing] if group.outgoing else [])]
    return all(any(quorum <= agreeing for quorum in quorums(each)) for each in sets)


@given(voters, st.dictionaries(st.sampled_from(NAMES), st.integers(0, 9)))
def test_committed_is_the_highest_index_that_a_quorum_has(group: Voters, match: dict[str, int]) -> None:
    def has(index: int) -> set[str]:
        return {name for name in NAMES if match.get(name, 0) >= index}

    expected = max(index for index in range(10) if decides(group, has(index)))
    assert group.committed(lambda name: match.get(name, 0)) == expected


@given(voters, st.dictionaries(st.sampled_from(NAMES), st.booleans()))
def test_a_vote_is_won_or_lost_as_soon_as_nothing_can_change_it(group: Voters, votes: dict[str, bool]) -> None:
    granted = {name for name, yes in votes.items() if yes}
    open_or_granted = {name for name in NAMES if votes.get(name, True)}
    if decides(group, granted):
        expected = Vote.WON
    elif decides(group, open_or_granted):
        expected = Vote.PENDING
    else:
        expected = Vote.LOST
    assert group.result(votes) is expected


def test_all_are_those_of_both_sets() -> None:
    assert Voters(frozenset("ab"), frozenset("bc")).all() == frozenset("abc")

"""The consensus core with one voter: what counts, and when."""

from __future__ import annotations

from holdfast_log.message import AppendReply, VoteReply
from holdfast_log.quorum import Voters
from holdfast_log.raft import HardState, Raft, Ready
from holdfast_log.types import EntryKind

BYTES_MAX = 1 << 20


def fresh(state: HardState | None = None, last_index: int = 0, applied: int = 0) -> Raft:
    raft = Raft("n", Voters(frozenset("n")), state or HardState(), last_index, election_ticks=3)
    raft.start(applied)
    return raft


def ready(raft: Raft) -> Ready:
    assert raft.has_ready()
    return raft.ready(BYTES_MAX)


def leading(state: HardState | None = None, last_index: int = 0, applied: int = 0) -> Raft:
    """A leader whose EMPTY entry was handed over."""
    raft = fresh(state, last_index, applied)
    raft.campaign()
    while raft.has_ready():
        taken = ready(raft)
        raft.advance(taken)
        if taken.catch_up is not None:
            raft.handed_over(taken.catch_up[-1])
    assert raft.serves
    return raft


def test_its_own_vote_counts_only_once_it_is_durable() -> None:
    raft = fresh(HardState(term=4, vote="n", commit=0))
    raft.campaign()
    first = ready(raft)
    assert first.hard_state == HardState(term=5, vote="n", commit=0)
    assert first.must_sync
    assert not raft.is_leader
    raft.advance(first)
    assert raft.is_leader


def test_a_new_leader_appends_an_empty_entry_of_its_term_and_serves_when_that_is_committed() -> None:
    raft = fresh(HardState(term=4, vote="n", commit=7), last_index=7, applied=7)
    raft.campaign()
    raft.advance(ready(raft))
    append = ready(raft)
    assert [(entry.term, entry.index, entry.kind) for entry in append.entries] == [(5, 8, EntryKind.EMPTY)]
    assert not raft.serves
    raft.advance(append)
    assert ready(raft).committed == append.entries
    assert raft.serves


def test_an_entry_is_committed_only_when_it_is_durable() -> None:
    raft = leading()
    entry = raft.propose(b"one")
    written = ready(raft)
    assert written.entries == (entry,)
    assert written.committed == ()
    assert not raft.has_ready()
    raft.advance(written)
    assert ready(raft).committed == (entry,)


def test_several_writes_may_be_on_their_way_and_are_committed_in_order() -> None:
    raft = leading()
    one = raft.propose(b"one")
    first = ready(raft)
    two = raft.propose(b"two")
    second = ready(raft)
    assert second.entries == (two,)
    raft.advance(first)
    assert ready(raft).committed == (one,)
    raft.advance(second)
    assert ready(raft).committed == (two,)


def test_what_only_the_journal_has_is_asked_for_before_anything_newer_is_handed_over() -> None:
    raft = fresh(HardState(term=1, vote="n", commit=5), last_index=9, applied=2)
    raft.campaign()
    election = ready(raft)
    assert election.catch_up == range(3, 6)
    raft.advance(election)
    raft.advance(ready(raft))  # the EMPTY entry 10 commits 6 to 9, which no leader had told to be committed
    assert raft.commit_index == 10
    assert not raft.has_ready()
    raft.handed_over(5)
    assert ready(raft).catch_up == range(6, 10)
    raft.handed_over(9)
    assert [entry.index for entry in ready(raft).committed] == [10]


def test_the_commit_index_rides_along_and_never_causes_a_write_of_its_own() -> None:
    raft = leading()
    raft.propose(b"one")
    raft.advance(ready(raft))
    handed_over = ready(raft)
    assert not handed_over.must_sync
    raft.propose(b"two")
    state = ready(raft).hard_state
    assert state is not None
    assert state.commit == 2  # the EMPTY entry and "one"


def test_what_the_consumer_has_applied_counts_as_committed() -> None:
    assert fresh(HardState(term=1, vote="n", commit=3), last_index=9, applied=6).commit_index == 6


def test_entries_are_taken_in_pieces_of_at_least_one() -> None:
    raft = leading()
    entries = [raft.propose(bytes(10)) for _ in range(3)]
    assert raft.ready(0).entries == ()
    assert raft.ready(1).entries == (entries[0],)
    assert raft.ready(20).entries == tuple(entries[1:])


def test_messages_of_another_term_are_ignored() -> None:
    raft = leading()
    entry = raft.propose(b"one")
    raft.ready(BYTES_MAX)
    raft.step(AppendReply("n", "n", raft.term - 1, entry.index))
    raft.step(AppendReply("n", "n", raft.term + 1, entry.index))
    assert raft.commit_index < entry.index
    raft.campaign()
    raft.step(VoteReply("n", "n", raft.term - 1, granted=True))
    assert not raft.is_leader


def test_a_vote_that_is_refused_loses_the_election() -> None:
    raft = fresh()
    raft.campaign()
    raft.step(VoteReply("n", "n", raft.term, granted=False))
    raft.step(VoteReply("n", "n", raft.term, granted=True))  # an answer is final
    assert not raft.is_leader


def test_without_a_leader_it_stands_for_election_after_some_ticks() -> None:
    raft = fresh()
    raft.tick()
    raft.tick()
    assert not raft.has_ready()
    raft.tick()
    assert raft.term == 1
    raft.advance(ready(raft))
    for _ in range(10):
        raft.tick()
    assert (raft.is_leader, raft.term) == (True, 1)


def test_memory_holds_no_entry_that_was_handed_over() -> None:
    raft = leading()
    for number in range(100):
        raft.propose(bytes(100))
        raft.advance(ready(raft))
        assert len(ready(raft).committed) == 1, number
    assert raft._log.first == raft.last_index + 1

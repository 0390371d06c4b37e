"""The consensus core of one group: values in, values out, no IO.

The caller's duties, in this order:

1. Call `tick` at regular intervals, `campaign` to stand at once, `propose` on the leader, `step` with what others send.
2. When `has_ready`, take `ready()`. It leaves alone what was taken before, so several may be on their way to the disk.
3. Make ``ready.hard_state`` and ``ready.entries`` durable (with fdatasync, if ``ready.must_sync``; otherwise there is
   nothing to write), in the order in which the values were taken.
4. Hand ``ready.committed`` to the consumer. When ``ready.catch_up`` is set, these indexes are committed, but no longer
   in memory: read them from the journal, hand them over, then call `handed_over`. No more is committed until then.
5. When the writes of 3 are durable, call `advance(ready)` and send ``ready.messages`` to others; `advance` delivers
   those to this node itself.

This release has groups of one voter. It elects and commits by the same counting as any group will: a vote and an
acknowledgement of this node are messages to itself that leave after its own fdatasync (Raft dissertation, 3.4 to 3.6
and 10.2.1). What several voters need besides, requests to others and what follows from them, is not here yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import assert_never

from holdfast_log.message import AppendReply, Message, VoteReply
from holdfast_log.progress import Progress
from holdfast_log.quorum import Vote, Voters
from holdfast_log.types import Entry, EntryKind
from holdfast_log.unstable import Unstable

ELECTION_TICKS = 10


class Role(Enum):
    FOLLOWER = "follower"
    CANDIDATE = "candidate"
    LEADER = "leader"


@dataclass(frozen=True, slots=True)
class HardState:
    """What a voter must not forget: without it it could vote twice in a term. ``commit`` only spares work after a
    restart and may lag."""

    term: int = 0
    vote: str = ""
    commit: int = 0


@dataclass(frozen=True, slots=True)
class Ready:
    hard_state: HardState | None
    entries: tuple[Entry, ...]
    messages: tuple[Message, ...]
    committed: tuple[Entry, ...]
    catch_up: range | None

    @property
    def must_sync(self) -> bool:
        return self.hard_state is not None or bool(self.entries)


class Raft:
    """``applied`` is what the consumer has already; ``last_index`` is the end of the log on the disk."""

    def __init__(
        self, node: str, voters: Voters, state: HardState, last_index: int, *, election_ticks: int = ELECTION_TICKS
    ) -> None:
        assert voters.all() == {node}, "groups of several voters are a later release"
        assert state.commit <= last_index, "what is committed is on the disk"
        self.node = node
        self.role = Role.FOLLOWER
        self.term = state.term
        self.vote = state.vote
        self.commit_index = state.commit
        self._voters = voters
        self._log = Unstable(last_index)
        self._applied = 0  # handed over, or about to be by the `catch_up` of a Ready
        self._catching_up = False
        self._votes: dict[str, bool] = {}
        self._progress: dict[str, Progress] = {}
        self._term_start = 0  # index of the leader's EMPTY entry: from there on entries are of its own term
        self._messages: list[Message] = []
        self._must_save = False  # term or vote changed
        self._saved_commit = state.commit
        self._election_ticks = election_ticks
        self._elapsed_ticks = 0

    @property
    def is_leader(self) -> bool:
        return self.role is Role.LEADER

    @property
    def leader(self) -> str | None:
        return self.node if self.is_leader else None

    @property
    def last_index(self) -> int:
        return self._log.last

    @property
    def durable_index(self) -> int:
        return self._log.durable

    @property
    def serves(self) -> bool:
        """Leads, and has handed over the first entry of its own term: it knows all that was acknowledged before."""
        return self.is_leader and not self._catching_up and self._applied >= self._term_start

    # ------------------------------------------------------------ inputs

    def start(self, applied: int) -> None:
        """The consumer has the effects of the entries up to ``applied``, which therefore were committed."""
        assert applied <= self._log.last
        self._applied = applied
        self.commit_index = max(self.commit_index, applied)

    def tick(self) -> None:
        """Time passes. Without a leader for ``election_ticks`` this node stands for election."""
        if self.is_leader:
            return
        self._elapsed_ticks += 1
        if self._elapsed_ticks >= self._election_ticks:
            self.campaign()

    def campaign(self) -> None:
        """Stand for election in the next term."""
        self.role = Role.CANDIDATE
        self.term += 1
        self.vote = self.node
        self._must_save = True
        self._elapsed_ticks = 0
        self._votes = {}
        self._messages.append(VoteReply(self.node, self.node, self.term, granted=True))

    def propose(self, payload: bytes) -> Entry:
        assert self.is_leader, "the caller refuses proposals elsewhere"
        return self._append(EntryKind.NORMAL, payload)

    def step(self, message: Message) -> None:
        if message.term != self.term:
            return  # an answer to what this node was in an earlier term; it must not count in this one
        match message:
            case VoteReply():
                self._count_vote(message)
            case AppendReply():
                self._count_acknowledgement(message)
            case _ as never:
                assert_never(never)

    def handed_over(self, index: int) -> None:
        """The consumer has what `catch_up` asked for."""
        assert self._catching_up, "catch_up comes first"
        assert index == self._applied, "all that catch_up named"
        self._catching_up = False

    # ------------------------------------------------------------ outputs

    def has_ready(self) -> bool:
        hand_over = not self._catching_up and self._applied < self._committed_here()
        return self._log.untaken or self._must_save or bool(self._messages) or hand_over

    def ready(self, entry_bytes_max: int) -> Ready:
        """What has to be done next; each thing is named once. Of entries at most ``entry_bytes_max`` bytes, but at
        least one unless that is 0."""
        entries = self._log.take(entry_bytes_max)
        if entries and self.is_leader:
            self._messages.append(AppendReply(self.node, self.node, self.term, entries[-1].index))
        hard_state = None
        if self._must_save or (entries and self.commit_index != self._saved_commit):
            hard_state = HardState(self.term, self.vote, min(self.commit_index, self._log.durable))
            self._must_save, self._saved_commit = False, self.commit_index
        messages, self._messages = tuple(self._messages), []
        committed, catch_up = self._next_committed()
        return Ready(hard_state, entries, messages, committed, catch_up)

    def advance(self, ready: Ready) -> None:
        """What ``ready`` had to be written is durable."""
        if ready.entries:
            self._log.became_durable(ready.entries[-1].index)
            self._log.release(min(self._applied, self._log.durable))
        for message in ready.messages:
            if message.to == self.node:
                self.step(message)

    # ------------------------------------------------------------

    def _append(self, kind: EntryKind, payload: bytes) -> Entry:
        entry = Entry(self.term, self._log.last + 1, kind, payload)
        self._log.append(entry)
        return entry

    def _count_vote(self, reply: VoteReply) -> None:
        if self.role is not Role.CANDIDATE:
            return
        self._votes.setdefault(reply.sender, reply.granted)  # a voter's first answer in a term is its only one
        match self._voters.result(self._votes):
            case Vote.WON:
                self._lead()
            case Vote.LOST:
                self.role = Role.FOLLOWER
            case Vote.PENDING:
                pass

    def _lead(self) -> None:
        self.role = Role.LEADER
        self._progress = {voter: Progress() for voter in self._voters.all()}
        self._term_start = self._append(EntryKind.EMPTY, b"").index

    def _count_acknowledgement(self, reply: AppendReply) -> None:
        if not self.is_leader or not self._progress[reply.sender].acknowledge(reply.index):
            return
        index = self._voters.committed(lambda voter: self._progress[voter].match)
        # Only an entry of the leader's own term is committed by counting; those before it are with it (section 5.4.2).
        if index >= self._term_start and index > self.commit_index:
            assert index <= self._log.durable, "the only voter has it on its disk"
            self.commit_index = index

    def _committed_here(self) -> int:
        """Up to where entries may be handed over: what is committed, and on this node's own disk."""
        return min(self.commit_index, self._log.durable)

    def _next_committed(self) -> tuple[tuple[Entry, ...], range | None]:
        start, end = self._applied + 1, self._committed_here()
        if self._catching_up or start > end:
            return (), None
        if start < self._log.first:
            end = min(end, self._log.first - 1)
            self._catching_up = True
            self._applied = end
            return (), range(start, end + 1)
        entries = self._log.slice(start, end)
        assert entries[-1].index == end <= self._log.durable, "nothing is handed over that is not durable here"
        self._applied = end
        self._log.release(end)
        return entries, None

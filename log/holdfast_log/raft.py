"""The consensus core of one group: values in, values out, no IO.

The caller, in this order:

1. `propose` and `campaign` change the core; `ready()` says what follows from it.
2. Make ``ready.hard_state`` and ``ready.entries`` durable, in one flush.
3. Call `advance(ready)`; then hand ``committed()`` to the consumer.

This release has groups of one voter: an entry is committed when the voter's own disk has it (Raft dissertation,
section 3.6, with a quorum of one), and a start is an election that it wins (section 3.4).
"""

from __future__ import annotations

from dataclasses import dataclass

from holdfast_log.types import Entry, EntryKind


@dataclass(frozen=True, slots=True)
class HardState:
    term: int
    vote: str
    commit: int


@dataclass(frozen=True, slots=True)
class Ready:
    hard_state: HardState | None
    entries: tuple[Entry, ...]


class Raft:
    def __init__(self, node: str, hard_state: HardState, last_index: int) -> None:
        self.node = node
        self.term = hard_state.term
        self.vote = hard_state.vote
        self.commit_index = hard_state.commit
        self.last_index = last_index
        self.durable_index = last_index
        self.is_leader = False
        self._unstable: list[Entry] = []
        self._hard_state_changed = False

    def campaign(self) -> None:
        """Stand for election in the next term. The vote counts once it is durable, see `advance`."""
        self.term += 1
        self.vote = self.node
        self.is_leader = True
        self._hard_state_changed = True
        self._append(EntryKind.EMPTY, b"")

    def propose(self, payload: bytes) -> Entry:
        assert self.is_leader
        return self._append(EntryKind.NORMAL, payload)

    def has_ready(self) -> bool:
        return bool(self._unstable) or self._hard_state_changed

    def ready(self) -> Ready:
        """What must be made durable next. Taken once: it is not returned again."""
        entries, self._unstable = tuple(self._unstable), []
        # The commit index rides along: it only spares work after a restart, never decides anything.
        changed = self._hard_state_changed or bool(entries)
        self._hard_state_changed = False
        return Ready(HardState(self.term, self.vote, self.commit_index) if changed else None, entries)

    def advance(self, ready: Ready) -> None:
        """``ready`` is durable on this voter's disk."""
        if ready.entries:
            assert ready.entries[0].index == self.durable_index + 1, "entries become durable in order"
            self.durable_index = ready.entries[-1].index
        if self.is_leader:
            self.commit_index = max(self.commit_index, self.durable_index)
        assert self.commit_index <= self.durable_index, "committed means durable"

    def _append(self, kind: EntryKind, payload: bytes) -> Entry:
        self.last_index += 1
        entry = Entry(self.term, self.last_index, kind, payload)
        self._unstable.append(entry)
        return entry

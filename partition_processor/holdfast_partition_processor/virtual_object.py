"""The lock of a virtual object's key and the inbox before it: one exclusive handler at a time, in order of arrival.

The lock is held from the first attempt to the result, through suspension, back-off and pause.
"""

from __future__ import annotations

from holdfast_partition_processor import tables as t
from holdfast_partition_processor.tables import Lock
from holdfast_partition_processor.turn import Turn


def enter(turn: Turn, group: bytes, invocation_id: bytes) -> int | None:
    """Take the object if it is free (None), else join the inbox at the number returned."""
    lock = turn.storage.get(t.LOCKS, b"", group)
    if lock is None:
        turn.storage.put(t.LOCKS, b"", group, Lock(invocation_id))
        return None
    assert lock.holder != invocation_id, "an invocation enters once"
    sequence = turn.next_number(b"inbox")
    turn.storage.put(t.INBOX, group, sequence.to_bytes(8, "big"), invocation_id)
    turn.storage.put(t.LOCKS, b"", group, Lock(lock.holder, lock.waiting + 1))
    return sequence


def leave(turn: Turn, group: bytes, invocation_id: bytes) -> bytes | None:
    """The holder is done. Returns who holds the object now."""
    lock = turn.storage.get(t.LOCKS, b"", group)
    assert lock is not None, "the object was held"
    assert lock.holder == invocation_id, (lock.holder, invocation_id)
    if lock.waiting == 0:
        turn.storage.delete(t.LOCKS, b"", group)
        return None
    sequence, successor = next(iter(turn.storage.scan(t.INBOX, group, limit=1)))
    turn.storage.delete(t.INBOX, group, sequence)
    turn.storage.put(t.LOCKS, b"", group, Lock(successor, lock.waiting - 1))
    return successor


def leave_inbox(turn: Turn, group: bytes, sequence: int) -> None:
    """Whoever waited at this number was ended before its turn."""
    lock = turn.storage.get(t.LOCKS, b"", group)
    assert lock is not None, "who waits, waits for somebody"
    assert lock.waiting > 0, lock
    turn.storage.delete(t.INBOX, group, sequence.to_bytes(8, "big"))
    turn.storage.put(t.LOCKS, b"", group, Lock(lock.holder, lock.waiting - 1))

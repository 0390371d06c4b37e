"""State of a virtual object's key, as one attempt sees it.

The start of an attempt brings what is stored: all of it, or, when it is large or asked to be lazy, a part or nothing.
What is known is answered at once (and the answer recorded); what is not is fetched. Own writes are known. On replay,
the recorded variant decides.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from holdfast._replay import Journal, Waiter
from holdfast.errors import TerminalError
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import MessageType

STATE_KEY_BYTES_MAX = 128


class State:
    """See the module."""

    __slots__ = ("_journal", "_partial", "_values")

    def __init__(self, journal: Journal, entries: Iterable[pb.StartMessage.StateEntry], partial: bool) -> None:
        self._journal = journal
        self._values: dict[bytes, bytes | None] = {entry.key: entry.value for entry in entries}
        """None for what is known to be absent."""
        self._partial = partial

    def get(self, name: str, future: Waiter) -> None:
        """Complete ``future`` with the value, now or later."""
        journal, key = self._journal, _key(name)
        number = journal.completion_id()
        recorded = journal.peek()
        if self._is_lazy(recorded, MessageType.GET_LAZY_STATE, key not in self._values):
            command = pb.GetLazyStateCommandMessage(key=key, result_completion_id=number)
            journal.command(MessageType.GET_LAZY_STATE, command)
            journal.wait(number, future)
            return
        message = _recorded_read(recorded, key) or self._read(key)
        journal.command(MessageType.GET_EAGER_STATE, message)
        if message.HasField("value"):
            future.complete(pb.Notification(value=message.value))
        else:
            future.complete(pb.Notification(void=pb.Void()))

    def keys(self, future: Waiter) -> None:
        """Complete ``future`` with the names, now or later."""
        journal = self._journal
        number = journal.completion_id()
        recorded = journal.peek()
        if self._is_lazy(recorded, MessageType.GET_LAZY_STATE_KEYS, True):
            command = pb.GetLazyStateKeysCommandMessage(result_completion_id=number)
            journal.command(MessageType.GET_LAZY_STATE_KEYS, command)
            journal.wait(number, future)
            return
        if recorded is not None and recorded[0] == MessageType.GET_EAGER_STATE_KEYS:
            message = pb.GetEagerStateKeysCommandMessage.FromString(recorded[1])
        else:
            known = sorted(key for key, value in self._values.items() if value is not None)
            message = pb.GetEagerStateKeysCommandMessage(value=pb.StateKeys(keys=known))
        journal.command(MessageType.GET_EAGER_STATE_KEYS, message)
        future.complete(pb.Notification(state_keys=message.value))

    def set(self, name: str, content: bytes) -> None:
        key = _key(name)
        command = pb.SetStateCommandMessage(key=key, value=pb.Value(content=content))
        self._journal.command(MessageType.SET_STATE, command)
        self._values[key] = content

    def clear(self, name: str) -> None:
        key = _key(name)
        self._journal.command(MessageType.CLEAR_STATE, pb.ClearStateCommandMessage(key=key))
        self._values[key] = None

    def clear_all(self) -> None:
        self._journal.command(MessageType.CLEAR_ALL_STATE, pb.ClearAllStateCommandMessage())
        self._values = {}
        self._partial = False

    def _is_lazy(self, recorded: tuple[int, bytes] | None, lazy: int, unknown: bool) -> bool:
        if recorded is not None:
            return recorded[0] == lazy
        return self._partial and unknown

    def _read(self, key: bytes) -> pb.GetEagerStateCommandMessage:
        value = self._values.get(key)
        if value is None:
            return pb.GetEagerStateCommandMessage(key=key, void=pb.Void())
        return pb.GetEagerStateCommandMessage(key=key, value=pb.Value(content=value))


def _recorded_read(recorded: tuple[int, bytes] | None, key: bytes) -> pb.GetEagerStateCommandMessage | None:
    """What was read then, when it was the same key."""
    if recorded is None or recorded[0] != MessageType.GET_EAGER_STATE:
        return None
    message = pb.GetEagerStateCommandMessage.FromString(recorded[1])
    return message if message.key == key else None


def _key(name: Any) -> bytes:
    if not isinstance(name, str):
        raise TypeError(f"the name of a state entry must be a str, not {type(name).__name__}")
    key = name.encode()
    if len(key) > STATE_KEY_BYTES_MAX:
        raise TerminalError(f"state name of {len(key)} bytes, the limit is {STATE_KEY_BYTES_MAX}", code=400)
    return key

"""An invocation while a command works on it: its row, and what was appended to its journal since the row was written.

::

    journal   | Input | Command | Notification | Command | ...
                0       1         2              3        length
                                  ^ fresh: not yet handed to the attempt that is under way

The row is written once, by `save`, when the command is done with it.
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from holdfast_partition_processor import tables as t
from holdfast_partition_processor.action import ForwardNotifications
from holdfast_partition_processor.invocation import MAY_FOLLOW, Invocation, Status
from holdfast_partition_processor.notification import completion_key
from holdfast_partition_processor.tables import Frame
from holdfast_partition_processor.turn import Turn
from holdfast_proto import protocol_pb2 as pb
from holdfast_proto.framing import encode_frame


def load(turn: Turn, invocation_id: bytes) -> Live | None:
    row = turn.storage.get(t.INVOCATIONS, b"", t.sortable_id(invocation_id))
    return None if row is None else Live(row)


class Live:
    __slots__ = (
        "_object", "commands", "deployment", "fresh", "fresh_index", "fresh_keys", "id", "length", "output",
        "output_index", "row", "sleeps",
    )  # fmt: skip

    def __init__(self, row: Invocation) -> None:
        self.row = row
        self.id = row.id
        self.length = row.journal_length
        self.commands = row.commands
        self.deployment = row.deployment
        self.output_index = row.output_index
        self.sleeps = row.sleeps
        self.output: pb.OutputCommandMessage | None = None  # decoded, when it came with this command
        self.fresh: list[bytes] = []
        self.fresh_index = 0  # where the first of them stands in the journal
        self.fresh_keys: list[bytes] = []
        self._object: bytes | None = None

    @property
    def object(self) -> bytes:
        """Group of the tables' rows of its virtual object or workflow."""
        if self._object is None:
            self._object = t.object_group(self.row.target.service, self.row.target.key or "")
        return self._object

    @property
    def retry_count(self) -> int:
        """Failed attempts since the last stored command."""
        return self.row.retry_count if self.commands == self.row.commands else 0

    def append_command(self, turn: Turn, code: int, body: bytes) -> None:
        self._append(turn, encode_frame(code, body))
        self.commands += 1

    def complete(self, turn: Turn, code: int, completion_id: int, body: bytes) -> None:
        """Append the completion of a command, unless it has one already: a durable step that ran twice has two
        outcomes, and the first counts."""
        key = completion_key(completion_id)
        if turn.storage.get(t.COMPLETED_COMMANDS, self.id, key) is None:
            self.notify(turn, key, code, body)

    def notify(self, turn: Turn, key: bytes, code: int, body: bytes) -> None:
        raw = encode_frame(code, body)
        if not self.fresh:
            self.fresh_index = self.length
        turn.storage.put(t.COMPLETED_COMMANDS, self.id, key, self.length)
        self._append(turn, raw)
        self.fresh.append(raw)
        self.fresh_keys.append(key)

    def _append(self, turn: Turn, raw: bytes) -> None:
        turn.storage.put(t.JOURNAL, self.id, self.length.to_bytes(4, "big"), Frame(raw, turn.now_ms))
        self.length += 1

    def save(self, turn: Turn, status: Status, **changes: Any) -> None:
        """Write the row. What is fresh goes to the attempt that is under way, if it is the same as before; another one
        is sent the whole journal."""
        before = self.row
        assert status is before.status or status in MAY_FOLLOW[before.status], (before.status, status)
        if self.commands != before.commands:
            changes.setdefault("retry_count", 0)
            changes["last_progress_ms"] = turn.now_ms
        self.row = replace(
            before,
            status=status,
            modified_ms=turn.now_ms,
            journal_length=self.length,
            commands=self.commands,
            deployment=self.deployment,
            output_index=self.output_index,
            sleeps=self.sleeps,
            **changes,
        )
        turn.storage.put(t.INVOCATIONS, b"", t.sortable_id(self.id), self.row)
        was_running, runs = before.status is Status.INVOKED, status is Status.INVOKED
        if runs and not was_running:
            turn.storage.put(t.RUNNING, b"", self.id, b"")
        elif was_running and not runs:
            turn.storage.delete(t.RUNNING, b"", self.id)
        if self.fresh:
            if was_running and runs and self.row.attempt == before.attempt:
                frames = b"".join(self.fresh)
                turn.actions.append(ForwardNotifications(self.id, before.attempt, frames, self.fresh_index))
            self.fresh, self.fresh_keys = [], []

"""Commands on their way into the log: gathered over one turn of the event loop, or for as long as the log takes no
more, then proposed as one batch.

::

    add ─▶ waiting ─▶ flush, one Batch ─▶ log.propose ─▶ in flight ─▶ take, when its entry is committed
              ▲                              │ LogFull, Overloaded
              └──────────────────────────────┘ tried again; what is not needed to finish accepted work is refused

Commands are encoded one by one as they come, so their bytes are known and a bad one hurts nobody else. The decoded twin
is kept, and applied when the entry is committed: the leader decodes no entry of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, NoReturn

from holdfast_log.types import (
    PAYLOAD_BYTES_MAX,
    Entry,
    LogError,
    LogFull,
    NotLeader,
    Overloaded,
    PartitionLog,
    PayloadTooLarge,
)
from holdfast_partition_processor.command import (
    FORMAT_VERSION,
    AttemptFailed,
    Batch,
    Command,
    Effects,
    OutboxShipped,
    TimerFired,
    encode_command,
    join_batch,
)

UNDER_WAY = frozenset({Effects, AttemptFailed, TimerFired, OutboxShipped})
"""What finishes work that was accepted: to refuse it would keep room from becoming free. Timers and receipts of the
outbox are bounded by their sources; what attempts send has a limit of its own, far above that of new work."""
FROM_ATTEMPTS = frozenset({Effects, AttemptFailed})

BATCH_BYTES_MAX = 4 * 1024 * 1024
"""A batch is closed when it reaches this, so that one entry neither fills the log's window nor blocks the loop long."""
BATCH_COMMANDS_MAX = 2_048
COMMAND_BYTES_MAX = PAYLOAD_BYTES_MAX - 32
"""What is left of an entry beside the batch's own fields."""
RETRY_SECONDS = 0.2
"""After the log refused a batch (disk full)."""


@dataclass(frozen=True, slots=True)
class ProposalLimits:
    commands_max: int = 50_000
    bytes_max: int = 32 * 1024 * 1024
    attempts_bytes_max: int = 128 * 1024 * 1024
    """For what attempts send. Their invokers hold it back then, and give endpoints no more credit."""


class Receipt(NamedTuple):
    """``durable``: the command was committed and applied. ``failed``: that is not known, or it was refused."""

    durable: Callable[[], None] | None
    failed: Callable[[], None] | None


class Waiting(NamedTuple):
    encoded: bytes
    command: Command
    receipt: Receipt | None


class Proposal(NamedTuple):
    term: int
    batch: Batch
    receipts: list[Receipt]


class Proposals:
    def __init__(
        self,
        log: PartitionLog,
        clock_ms: Callable[[], int],
        limits: ProposalLimits,
        refused: Callable[[list[Waiting], LogError], None],
    ) -> None:
        self._log = log
        self._clock_ms = clock_ms
        self._limits = limits
        self._refused = refused
        self._waiting: list[Waiting] = []
        self._waiting_bytes = 0
        self._in_flight: dict[int, Proposal] = {}  # by index of its entry
        self._now_ms = 0  # never goes back within a term
        self._flush_scheduled = False
        self._full: str | None = None  # why the log takes nothing
        self._retry: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def add(self, commands: Sequence[Command], receipt: Receipt | None) -> None:
        """All of them or none; ``receipt`` is for the last. Raises Overloaded, LogFull, PayloadTooLarge, or msgspec's
        error for a command that can't be encoded."""
        added: list[Waiting] = []
        total = 0
        for command in commands:
            encoded, twin = encode_command(command)
            added.append(Waiting(encoded, twin, None))
            total += len(encoded)
            if len(encoded) > COMMAND_BYTES_MAX:
                raise PayloadTooLarge(len(encoded), COMMAND_BYTES_MAX)
        self._check_room(type(commands[0]), total)
        if receipt is not None:
            added[-1] = added[-1]._replace(receipt=receipt)
        self._waiting += added
        self._waiting_bytes += total
        if not self._flush_scheduled and self._retry is None:
            self._flush_scheduled = True
            asyncio.get_running_loop().call_soon(self._flush_turn)

    def flush(self) -> None:
        """Propose what waits, as far as the log takes it; `LogConsumer.on_writable` brings us back."""
        while self._waiting and self._retry is None and self._log.writable:
            chunk, chunk_bytes = self._take_chunk()
            self._now_ms = max(self._now_ms, self._clock_ms())
            payload = join_batch(self._now_ms, [waiting.encoded for waiting in chunk])
            try:
                term, index = self._log.propose(payload)
            except LogError as error:
                self._put_back(chunk, chunk_bytes)
                self._hold(error)
                return
            self._full = None
            batch = Batch(FORMAT_VERSION, self._now_ms, tuple([waiting.command for waiting in chunk]))
            receipts = [waiting.receipt for waiting in chunk if waiting.receipt is not None]
            self._in_flight[index] = Proposal(term, batch, receipts)

    def take(self, entry: Entry) -> Proposal | None:
        """What was proposed here as ``entry``, if it was."""
        proposal = self._in_flight.pop(entry.index, None)
        assert proposal is None or proposal.term == entry.term, "a deposed leader's proposals are abandoned"
        return proposal

    def abandon(self) -> None:
        """This replica does not lead any more: what waits is gone, what is in flight may be committed by others."""
        receipts = [receipt for proposal in self._in_flight.values() for receipt in proposal.receipts]
        receipts += [waiting.receipt for waiting in self._waiting if waiting.receipt is not None]
        self._waiting, self._waiting_bytes, self._in_flight = [], 0, {}
        self._full, self._now_ms = None, 0
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        for receipt in receipts:
            if receipt.failed is not None:
                receipt.failed()

    def _check_room(self, kind: type, size: int) -> None:
        limits, waiting = self._limits, self._waiting_bytes
        if kind in UNDER_WAY:
            if kind in FROM_ATTEMPTS and waiting > limits.attempts_bytes_max:
                self._overloaded(f"{limits.attempts_bytes_max} bytes", "attempts_bytes_max")
        elif self._full is not None:
            raise LogFull(self._full)
        elif len(self._waiting) >= limits.commands_max:
            self._overloaded(f"{limits.commands_max} commands", "commands_max")
        elif waiting and waiting + size > limits.bytes_max:
            self._overloaded(f"{limits.bytes_max} bytes", "bytes_max")

    def _overloaded(self, limit: str, name: str) -> NoReturn:
        raise Overloaded(f"partition {self._log.partition}: {limit} wait for the log already ({name})")

    def _flush_turn(self) -> None:
        self._flush_scheduled = False
        self.flush()

    def _take_chunk(self) -> tuple[list[Waiting], int]:
        if self._waiting_bytes <= BATCH_BYTES_MAX and len(self._waiting) <= BATCH_COMMANDS_MAX:
            chunk, size = self._waiting, self._waiting_bytes
            self._waiting, self._waiting_bytes = [], 0
            return chunk, size
        count = size = 0
        for waiting in self._waiting[:BATCH_COMMANDS_MAX]:
            if count and size + len(waiting.encoded) > BATCH_BYTES_MAX:
                break
            count += 1
            size += len(waiting.encoded)
        chunk, self._waiting = self._waiting[:count], self._waiting[count:]
        self._waiting_bytes -= size
        return chunk, size

    def _put_back(self, chunk: list[Waiting], size: int) -> None:
        self._waiting = chunk + self._waiting
        self._waiting_bytes += size

    def _hold(self, error: LogError) -> None:
        if isinstance(error, NotLeader):
            return  # `on_follower` is about to say so, and `abandon` clears up
        self._retry = asyncio.get_running_loop().call_later(RETRY_SECONDS, self._try_again)
        if not isinstance(error, LogFull):
            return
        self._full = str(error)
        refused = [waiting for waiting in self._waiting if type(waiting.command) not in UNDER_WAY]
        if refused:
            self._waiting = [waiting for waiting in self._waiting if type(waiting.command) in UNDER_WAY]
            self._waiting_bytes = sum(len(waiting.encoded) for waiting in self._waiting)
            self._refused(refused, error)

    def _try_again(self) -> None:
        self._retry = None
        self._full = None  # so that new work finds out whether there is room again, even when none waits
        self.flush()

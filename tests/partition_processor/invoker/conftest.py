"""An invoker with a recording host, real sessions and a fake endpoint."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest

from holdfast_log.types import LogError
from holdfast_partition_processor.action import EffectsStored, StartAttempt
from holdfast_partition_processor.catalog import Catalog
from holdfast_partition_processor.command import (
    AttemptFailed,
    Deployment,
    Effects,
    Handler,
    HandlerOptions,
    HandlerType,
    InvokedBy,
    PayloadRule,
    Service,
    ServiceType,
    Target,
)
from holdfast_partition_processor.endpoint_session import EndpointSessions, SessionOptions
from holdfast_partition_processor.invocation import Invocation, Status
from holdfast_partition_processor.invoker import Invoker, InvokerOptions
from holdfast_proto.framing import HEADER_BYTES, MessageType, encode_frame

from .fake_endpoint import FakeEndpoint

NOW_MS = 1_700_000_000_000
INPUT = encode_frame(MessageType.INPUT, b"")


@dataclass
class RecordingHost:
    """Keeps what was submitted; `refuse` is raised instead while it is set."""

    submitted: list[Effects | AttemptFailed] = field(default_factory=list)
    journals: dict[bytes, bytes] = field(default_factory=dict)
    state: dict[tuple[str, str], list[tuple[bytes, bytes]]] = field(default_factory=dict)
    refuse: LogError | None = None
    journals_read: list[bytes] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def now_ms(self) -> int:
        return NOW_MS

    def submit(self, command: Effects | AttemptFailed) -> None:
        if self.refuse is not None:
            raise self.refuse
        self.submitted.append(command)
        self.changed.set()

    def read_journal(self, invocation_id: bytes) -> bytes:
        self.journals_read.append(invocation_id)
        return self.journals.get(invocation_id, b"")

    def read_state(self, service: str, key: str) -> list[tuple[bytes, bytes]]:
        return self.state.get((service, key), [])

    def of(self, invocation_id: bytes) -> list[Effects | AttemptFailed]:
        return [command for command in self.submitted if command.id == invocation_id]


SETTINGS = HandlerOptions(retry_initial_interval_ms=100, retry_max_interval_ms=1_000, retry_max_attempts=5)


def handler(name: str, kind: HandlerType, options: HandlerOptions = SETTINGS) -> Handler:
    return Handler(name, kind, PayloadRule(), PayloadRule(), options)


def deployment(address: str, options: HandlerOptions = SETTINGS, deployment_id: str = "dp_1") -> Deployment:
    names = ("greet", "bad", "quiet")
    greeter = Service("greeter", ServiceType.SERVICE, tuple(handler(n, HandlerType.SERVICE, options) for n in names))
    counter = Service(
        "counter",
        ServiceType.VIRTUAL_OBJECT,
        (handler("add", HandlerType.EXCLUSIVE, options), handler("value", HandlerType.SHARED, options)),
    )
    flow = Service("flow", ServiceType.WORKFLOW, (handler("run", HandlerType.WORKFLOW_RUN, options),))
    return Deployment(deployment_id, address, 0, "fake", 5, 7, (greeter, counter, flow), (1, 1, 1))


class Bench:
    """What a test works with."""

    def __init__(self, endpoint: FakeEndpoint, sessions: EndpointSessions) -> None:
        self.endpoint = endpoint
        self.sessions = sessions
        self.host = RecordingHost()
        self.catalog = Catalog.of([deployment(endpoint.address)])
        self.invokers: list[Invoker] = []
        self.invoker = self.make_invoker()
        self._next = 0

    def make_invoker(self, options: InvokerOptions | None = None) -> Invoker:
        chosen = options or InvokerOptions(tick_seconds=0.02, hold_seconds=0.01)
        invoker = Invoker(self.host, self.sessions, lambda: self.catalog, chosen, random.Random(1))
        self.invokers.append(invoker)
        self.invoker = invoker
        return invoker

    def set_options(self, options: HandlerOptions) -> None:
        self.catalog = Catalog.of([deployment(self.endpoint.address, options)])

    def row(
        self,
        handler_name: str = "greet",
        service: str = "greeter",
        key: str | None = None,
        kind: HandlerType = HandlerType.SERVICE,
        journal: bytes = INPUT,
        length: int = 1,
        commands: int = 1,
        attempt: int = 1,
        retry_count: int = 0,
        pinned: str = "",
    ) -> Invocation:
        self._next += 1
        invocation_id = self._next.to_bytes(24, "big")
        self.host.journals[invocation_id] = journal
        return Invocation(
            id=invocation_id,
            target=Target(service, handler_name, key, kind),
            status=Status.INVOKED,
            created_ms=NOW_MS,
            modified_ms=NOW_MS,
            by=InvokedBy.INGRESS,
            by_id=b"",
            sinks=(),
            idempotency_key=None,
            execute_at_ms=0,
            completion_retention_ms=0,
            journal_retention_ms=0,
            attempt=attempt,
            journal_length=length,
            commands=commands,
            retry_count=retry_count,
            last_progress_ms=NOW_MS - 5_000,
            deployment=pinned,
        )

    def start(self, row: Invocation, journal: bytes | None = None) -> bytes:
        self.invoker.start(StartAttempt(row, journal))
        return row.id

    async def until(self, what: Callable[[], bool], seconds: float = 10.0) -> None:
        async with asyncio.timeout(seconds):
            while not what():
                self.host.changed.clear()
                try:
                    await asyncio.wait_for(self.host.changed.wait(), 0.01)
                except TimeoutError:
                    continue

    async def commands(self, invocation_id: bytes, count: int = 1) -> list[Effects | AttemptFailed]:
        """The first ``count`` commands about this invocation."""
        await self.until(lambda: len(self.host.of(invocation_id)) >= count)
        return self.host.of(invocation_id)[:count]

    async def failure(self, invocation_id: bytes) -> AttemptFailed:
        """What the attempt failed with."""
        await self.until(lambda: any(isinstance(c, AttemptFailed) for c in self.host.of(invocation_id)))
        return next(c for c in self.host.of(invocation_id) if isinstance(c, AttemptFailed))

    def stored(self, command: Effects) -> None:
        """Tell the invoker that the log has it."""
        size = sum(HEADER_BYTES + len(frame.body) for frame in command.frames)
        self.invoker.stored(EffectsStored(command.id, command.attempt, size))


@pytest.fixture
async def endpoint() -> AsyncIterator[FakeEndpoint]:
    fake = FakeEndpoint()
    await fake.start()
    yield fake
    await fake.stop()


@pytest.fixture
async def bench(endpoint: FakeEndpoint) -> AsyncIterator[Bench]:
    options = SessionOptions(connect_timeout_s=2.0, back_off_initial_s=0.02, back_off_max_s=0.05)
    sessions = EndpointSessions("node-1", options, random.Random(1))
    made = Bench(endpoint, sessions)
    yield made
    for invoker in made.invokers:
        invoker.close()
    await sessions.close()

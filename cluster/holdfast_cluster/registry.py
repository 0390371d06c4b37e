"""Registration of deployments: discovery, the rules, and partition 0's log."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from holdfast_log.types import LogError
from holdfast_partition_processor.action import InvocationCompleted, Outcome, Reply
from holdfast_partition_processor.catalog import Catalog, IncompatibleDeployment
from holdfast_partition_processor.command import Command, Deployment, RegisterDeployment, RemoveDeployment
from holdfast_partition_processor.discovery import discover, grpc_address
from holdfast_partition_processor.processor import PartitionProcessor

APPLY_SECONDS = 10.0


class RegistryError(Exception):
    """The registration is refused; nothing changed."""


class _Future:
    def __init__(self) -> None:
        self.future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

    def replied(self, reply: Reply) -> None:
        if not self.future.done():
            self.future.set_result(reply)

    def completed(self, result: InvocationCompleted) -> None:
        raise AssertionError("nobody registered this waiter for a result")

    def lost(self, error: LogError) -> None:
        if not self.future.done():
            self.future.set_exception(error)


async def ask(processor: PartitionProcessor, build: Callable[[int], Command]) -> Reply:
    """Have a command applied and return its reply. Raises LogError, TimeoutError."""
    waiter = _Future()
    request = processor.next_request(waiter)
    try:
        processor.submit(build(request))
        async with asyncio.timeout(APPLY_SECONDS):
            return await waiter.future
    finally:
        processor.drop_request(request)


class Registry:
    def __init__(
        self, processor: PartitionProcessor, catalog: Callable[[], Catalog], clock_ms: Callable[[], int]
    ) -> None:
        self._processor = processor
        self._catalog = catalog
        self._clock_ms = clock_ms
        self._one_at_a_time = asyncio.Lock()

    async def register(
        self, address: str, *, force: bool = False, breaking: bool = False, dry_run: bool = False
    ) -> tuple[str, Deployment]:
        """("created" | "unchanged" | "overwritten", deployment). Raises DiscoveryError, RegistryError, LogError."""
        where = grpc_address(address)
        async with self._one_at_a_time:
            known = self._catalog().by_address(where)
            if known is not None and not force:
                return "unchanged", known
            found = await discover(where)
            draft = Deployment(
                id="dp_" + os.urandom(10).hex(),
                address=where,
                created_at_ms=known.created_at_ms if known else self._clock_ms(),
                sdk=found.sdk,
                min_protocol_version=found.min_protocol_version,
                max_protocol_version=found.max_protocol_version,
                services=found.services,
            )
            try:
                planned = self._catalog().plan_registration(draft, known, breaking or force)
            except IncompatibleDeployment as error:
                raise RegistryError(error.message) from error
            if not dry_run:
                await ask(self._processor, lambda request: RegisterDeployment(planned, request))
            return ("overwritten" if known else "created"), planned

    async def remove(self, deployment_id: str, *, force: bool = False) -> None:
        """Raises RegistryError when it is unknown, or the latest of a service and not forced."""
        latest = [
            name for name, registered in self._catalog().services.items() if registered.deployment.id == deployment_id
        ]
        if latest and not force:
            names = ", ".join(sorted(latest))
            raise RegistryError(
                f"{deployment_id} is the latest deployment of {names}; remove it with force if you must"
            )
        reply = await ask(self._processor, lambda request: RemoveDeployment(deployment_id, request))
        if reply.outcome is Outcome.NOT_FOUND:
            raise RegistryError(f"deployment {deployment_id} not found")

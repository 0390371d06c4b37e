"""Registering and removing deployments.

What is deployed stands in the log of partition 0, and is handed to whoever needs it as a `Catalog`. Registering means:
ask the endpoint what it runs, decide what that would change, have the decision in the log, wait until it is applied::

    address known, no force ─────────────────────────────────────────▶ UNCHANGED, the endpoint is not even asked
    else  discover ─▶ plan ─▶ dry run? ──────────────────────────────▶ what would be
                              else RegisterDeployment ─▶ applied ────▶ CREATED (new id) or OVERWRITTEN (id kept)

One at a time: a plan is made against the catalog, which must not change until it is applied. Should it all the same
(another leader registered meanwhile), `apply` numbers the revisions in the order of the log.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from holdfast_cluster.admin_error import InvalidRequest, NotFound, Refused
from holdfast_cluster.command_reply import CommandTaker, ask
from holdfast_cluster.invocation_listing import count_pinned
from holdfast_partition_processor.action import Outcome
from holdfast_partition_processor.catalog import Catalog
from holdfast_partition_processor.command import Deployment, RegisterDeployment, RemoveDeployment
from holdfast_partition_processor.deployment import (
    IncompatibleDeployment,
    Manifest,
    Registration,
    RegistrationOutcome,
    plan_registration,
)
from holdfast_partition_processor.deployment_rows import REGISTRY_PARTITION
from holdfast_partition_processor.discovery import DiscoveryError, discover
from holdfast_partition_processor.endpoint_address import MalformedAddress, grpc_target
from holdfast_partition_processor.tables import Storage

DISCOVERY_SECONDS_MAX = 10.0
METADATA_MAX = 64
METADATA_CHARACTERS_MAX = 1_024
DEPLOYMENT_ID_BYTES = 8
"""Random bytes of a deployment id: with ten thousand deployments a collision has a chance of one in 10^11, and is
looked for all the same."""

Metadata = tuple[tuple[str, str], ...]


class RegistryPartition(CommandTaker, Protocol):
    @property
    def storage(self) -> Storage: ...


class RegistryHost(Protocol):
    """What the registry needs of its node."""

    @property
    def processors(self) -> Mapping[int, RegistryPartition]: ...

    @property
    def catalog(self) -> Catalog:
        """As of what partition 0 has applied."""


class Discover(Protocol):
    def __call__(self, address: str, *, timeout_s: float) -> Awaitable[Manifest]: ...


class Registry:
    def __init__(
        self,
        host: RegistryHost,
        *,
        discover: Discover = discover,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        random_id: Callable[[], str] = lambda: f"dp_{secrets.token_hex(DEPLOYMENT_ID_BYTES)}",
    ) -> None:
        self._host = host
        self._discover = discover
        self._clock_ms = clock_ms
        self._random_id = random_id
        self._one_at_a_time = asyncio.Lock()

    async def register(
        self,
        address: str,
        *,
        force: bool = False,
        breaking: bool = False,
        dry_run: bool = False,
        metadata: Mapping[str, str] | None = None,
    ) -> Registration:
        """Raises InvalidRequest, Refused (endpoint out of reach or incompatible), NoRoom, Unavailable."""
        target = _normal_address(address)
        given = _checked_metadata(metadata or {})
        async with self._one_at_a_time:
            known = self._host.catalog.by_address(target)
            if known is not None and not force:
                return _unchanged(known)
            manifest = await self._manifest(target)
            kept = given or (known.metadata if known is not None else ())
            planned = self._plan(manifest, target, force, breaking, kept)
            if dry_run or planned.outcome is RegistrationOutcome.UNCHANGED:
                return planned
            partition = self._host.processors[REGISTRY_PARTITION]
            reply = await ask(partition, lambda request: RegisterDeployment(planned.deployment, request))
        if reply.outcome is Outcome.CONFLICT:
            raise Refused(f"{target} was registered as {reply.detail} meanwhile; use force to discover it again")
        assert reply.outcome is Outcome.DONE, reply
        applied = self._host.catalog.deployments.get(planned.deployment.id, planned.deployment)
        return Registration(planned.outcome, applied, planned.notes)

    async def remove(self, deployment_id: str, *, force: bool = False) -> None:
        """Raises NotFound, Refused while the deployment is in use, NoRoom, Unavailable. ``force`` removes it all the
        same: invocations that are pinned to it fail their attempts until it is registered again or they are killed."""
        async with self._one_at_a_time:
            deployment = self.deployment(deployment_id)
            if not force:
                await self._check_unused(deployment)
            partition = self._host.processors[REGISTRY_PARTITION]
            reply = await ask(partition, lambda request: RemoveDeployment(deployment_id, request))
        if reply.outcome is Outcome.NOT_FOUND:
            raise _unknown(deployment_id)

    def deployment(self, deployment_id: str) -> Deployment:
        """Raises NotFound."""
        found = self._host.catalog.deployments.get(deployment_id)
        if found is None:
            raise _unknown(deployment_id)
        return found

    def latest_of(self, deployment: Deployment) -> list[str]:
        """The services whose new invocations go to ``deployment``."""
        services = self._host.catalog.services
        return [item.name for item in deployment.services if services[item.name].deployment.id == deployment.id]

    async def _manifest(self, target: str) -> Manifest:
        try:
            return await self._discover(target, timeout_s=DISCOVERY_SECONDS_MAX)
        except DiscoveryError as error:
            raise Refused(str(error)) from error

    def _plan(self, manifest: Manifest, target: str, force: bool, breaking: bool, metadata: Metadata) -> Registration:
        try:
            return plan_registration(
                self._host.catalog, manifest, target, self._new_id(), self._clock_ms(), force, breaking, metadata
            )
        except IncompatibleDeployment as error:
            raise Refused(error.message) from error

    def _new_id(self) -> str:
        while (fresh := self._random_id()) in self._host.catalog.deployments:
            continue
        return fresh

    async def _check_unused(self, deployment: Deployment) -> None:
        reasons = []
        if latest := self.latest_of(deployment):
            reasons.append(f"it is the latest of {', '.join(latest)}")
        storages = [processor.storage for processor in self._host.processors.values()]
        if pinned := await count_pinned(storages, deployment.id):
            reasons.append(f"{pinned:,} invocation{'s are' if pinned > 1 else ' is'} pinned to it")
        if reasons:
            raise Refused(
                f"deployment {deployment.id} ({deployment.address}) is in use: {' and '.join(reasons)}; "
                "register a newer deployment and let its invocations end, or use force"
            )


def _normal_address(address: str) -> str:
    """One spelling per endpoint, because an address is what a deployment is known by."""
    if not address:
        raise InvalidRequest("address is empty; it is host:port, grpc://host:port or unix:/path")
    try:
        return grpc_target(address)
    except MalformedAddress as error:
        raise InvalidRequest(f"address: {error}") from None


def _checked_metadata(metadata: Mapping[str, str]) -> Metadata:
    if len(metadata) > METADATA_MAX:
        raise InvalidRequest(f"metadata has {len(metadata)} entries, the limit is {METADATA_MAX}")
    for name, value in metadata.items():
        size = len(name) + len(value)
        if size > METADATA_CHARACTERS_MAX:
            raise InvalidRequest(
                f"metadata {name[:40]!r} has {size} characters with its value, the limit is {METADATA_CHARACTERS_MAX}"
            )
    return tuple(sorted(metadata.items()))


def _unchanged(known: Deployment) -> Registration:
    note = f"{known.address} is registered as {known.id}; use force to discover it again"
    return Registration(RegistrationOutcome.UNCHANGED, known, (note,))


def _unknown(deployment_id: str) -> NotFound:
    return NotFound(f"deployment {deployment_id[:80]!r} is not registered")
